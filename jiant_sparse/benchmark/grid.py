"""Runs cells in worker processes; a failed cell does not stop the others."""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from jiant_sparse.benchmark import provenance
from jiant_sparse.benchmark.record import Provenance, Record
from jiant_sparse.errors import InputError
from jiant_sparse.host.job import Job

Notify = Callable[[Record], None]


def run(jobs: Sequence[Job], *, workers: int, notify: Notify) -> None:
    """Run the jobs in `workers` processes, the cores divided among them.

    A worker is reused from cell to cell and replaced after a failure. `notify(record)` is
    called from this thread as cells end. Stopping it (Ctrl-C) kills the workers; done cells stay.
    """
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Record] = queue.SimpleQueue()
    workers = max(1, min(workers, len(jobs)))
    for job in (*jobs, *[None] * workers):
        waiting.put(job)
    threads = max(1, available_cores() // workers)
    for _ in range(workers):
        threading.Thread(target=_drive, args=(waiting, ended, threads), daemon=True).start()
    try:
        for _ in jobs:
            notify(ended.get())
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise


def run_here(job: Job, *, verbose: bool = False) -> Record:
    """Run one job in this process. A failure is a record too; InputError passes through."""
    from jiant_sparse.host.train import train

    started = provenance.now()
    try:
        return train(job, verbose=verbose)
    except InputError:
        raise
    except Exception as error:
        return _failed(job, _told(error), started)


def default_workers() -> int:
    """One process per core, at most 4: a step gains less from a second thread than a second cell.

    One on a CUDA machine, whose cells would share the device.
    """
    import torch

    return 1 if torch.cuda.is_available() else min(4, available_cores())


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _drive(waiting: queue.SimpleQueue, ended: queue.SimpleQueue, threads: int) -> None:
    """One slot: hands its jobs to one process after another."""
    pool = None
    while (job := waiting.get()) is not None:
        started = provenance.now()
        if pool is None:
            pool = ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _start_worker, (threads,)
            )
        try:
            outcome = pool.submit(_work, job).result()
        except BrokenProcessPool:
            outcome = _failed(job, "the worker process died (killed, or out of memory)", started)
        except Exception as error:
            outcome = _failed(job, _told(error), started)
        if outcome.status == "failed":
            pool.shutdown(wait=False)
            pool = None
        ended.put(outcome)
    if pool is not None:
        pool.shutdown(wait=False)


def _start_worker(threads: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)


def _work(job: Job) -> Record:
    try:
        return run_here(job)
    except InputError as error:
        return _failed(job, str(error), provenance.now())


def _told(error: Exception) -> str:
    """One line for what is expected to happen, the traceback for what is not."""
    line = f"{type(error).__name__}: {error}"
    if isinstance(error, ArithmeticError | OSError | MemoryError):
        return line
    return f"{line}\n{''.join(traceback.format_exception(error))}"


def _failed(job: Job, error: str, started: str) -> Record:
    commit, dirty = provenance.commit()
    failed = Record(
        cell=job.cell.key,
        settings=job.cell.settings,
        settings_hash=job.cell.settings_hash,
        inputs=job.inputs,
        status="failed",
        error=error,
        provenance=Provenance(
            commit=commit,
            dirty=dirty,
            versions=provenance.versions(),
            device=job.cell.common["device"],
            threads=None,
            pooler=None,
            started=started,
            finished=provenance.now(),
        ),
    )
    failed.write(job.directory)
    return failed
