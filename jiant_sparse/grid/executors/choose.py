"""Makes an executor from the options of the command line, and gives the jobs their threads."""

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from jiant_sparse.errors import InputError
from jiant_sparse.grid.executors import Executor
from jiant_sparse.host.job import Job


@dataclass(frozen=True)
class Choice:
    """Where and how the cells of a grid run.

    executor: `local` or `ray`. address: of a running Ray cluster; None = one is started here.
    workers: cells at a time; None = as many as the cores, or the GPUs, hold. gpus_per_cell: None =
    one GPU, if there are any.
    """

    executor: str = "local"
    address: str | None = None
    workers: int | None = None
    gpus_per_cell: float | None = None

    def check(self) -> None:
        """Raise InputError for options that contradict each other."""
        problems = []
        if self.executor not in ("local", "ray"):
            problems.append(f"--executor is {self.executor}; allowed are local, ray")
        if self.address is not None and self.executor != "ray":
            problems.append("--address is of a Ray cluster; it needs --executor ray")
        if self.address is not None and self.workers is not None:
            problems.append("--workers: a cluster decides how many cells it runs; leave it out")
        if self.gpus_per_cell is not None and not 0 < self.gpus_per_cell <= 1:
            problems.append(f"--gpus-per-cell is {self.gpus_per_cell:g}; it must be in (0, 1]")
        if problems:
            raise InputError(*problems)

    def make(self, jobs: Sequence[Job]) -> tuple[list[Job], Executor]:
        """Return the jobs with their number of threads, and the executor, started.

        Raises InputError as `check`, and if the machine or the cluster lacks CPUs or GPUs.
        """
        self.check()
        setup = jobs[0].cell.setup  # every cell of a benchmark has the same
        if self.gpus_per_cell is not None and setup.device == "cpu":
            raise InputError(f"--gpus-per-cell {self.gpus_per_cell:g}: device is cpu")
        if self.address is not None:
            if setup.threads is None:
                raise InputError(
                    "threads: null divides this machine's cores among its workers, which a "
                    "cluster (--address) has not; give a number, as in --set threads=1"
                )
            return list(jobs), self._ray(jobs, 0)
        workers, gpus = self.count(jobs), self._gpus(jobs)
        jobs = with_threads(jobs, workers)
        if self.executor == "ray":
            return jobs, self._ray(jobs, workers)
        from jiant_sparse.grid.executors.local import Local

        devices = assign(workers, gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return jobs, Local(devices)

    def count(self, jobs: Sequence[Job]) -> int:
        """Count the cells at a time on this machine; raises InputError if it lacks room."""
        gpus = self._gpus(jobs)
        if gpus:
            most = gpus * cells_per_gpu(self.gpus_per_cell or 1.0)
            if (self.workers or 1) > most:
                raise InputError(
                    f"--workers is {self.workers}; {gpus} GPUs hold {most} cells with "
                    f"--gpus-per-cell {self.gpus_per_cell or 1.0:g}"
                )
        else:
            most = max(1, available_cores() // (jobs[0].cell.setup.threads or 1))
        return min(self.workers or most, len(jobs))

    def _ray(self, jobs: Sequence[Job], workers: int) -> Executor:
        from jiant_sparse.grid.executors.ray import Ray

        threads = jobs[0].threads
        return Ray(
            self.address,
            cpus=workers * threads,
            threads=threads,
            gpus_per_cell=0.0 if jobs[0].cell.setup.device == "cpu" else self.gpus_per_cell,
        )

    def _gpus(self, jobs: Sequence[Job]) -> int:
        """Count the GPUs of this machine that cells use."""
        import torch

        cuda = jobs[0].cell.setup.device != "cpu" and torch.cuda.is_available()
        if self.gpus_per_cell is not None and not cuda:
            raise InputError(
                f"--gpus-per-cell {self.gpus_per_cell:g}: torch sees no CUDA device here"
            )
        return torch.cuda.device_count() if cuda else 0


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def with_threads(jobs: Sequence[Job], workers: int) -> list[Job]:
    """Return the jobs of one benchmark; `threads: null` becomes an equal share of the cores."""
    if jobs[0].cell.setup.threads is not None:
        return list(jobs)
    share = max(1, available_cores() // workers)
    return [dataclasses.replace(job, threads=share) for job in jobs]


def cells_per_gpu(gpus_per_cell: float) -> int:
    """Count the cells that one GPU holds; no cell is split between two GPUs."""
    return math.floor(1 / gpus_per_cell)


def assign(workers: int, gpus: int, visible: str | None) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each worker: one device each, in turn; None without GPUs.

    visible: this process's own CUDA_VISIBLE_DEVICES, which names the `gpus` devices; None = unset.

    >>> assign(3, gpus=2, visible=None)
    ['0', '1', '0']
    """
    if not gpus:
        return [None] * workers
    names = [name.strip() for name in visible.split(",")] if visible else map(str, range(gpus))
    names = [*names][:gpus]
    return [names[slot % gpus] for slot in range(workers)]
