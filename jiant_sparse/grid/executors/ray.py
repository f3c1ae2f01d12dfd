"""Runs cells as tasks of Ray, on a cluster or on this machine. No other module imports Ray."""

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, wait
from functools import partial

from jiant_sparse.errors import InputError
from jiant_sparse.grid.executors import GRACE, Died, Executor
from jiant_sparse.grid.worker import Halted, Outcome, work
from jiant_sparse.host.job import Job
from jiant_sparse.schema.record import Record

RETRIES = 3
"""Times that Ray runs a cell again whose worker or node died; it resumes from its checkpoint."""

# Ray reads these when it is imported.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Retries of tasks that Ray kills for lack of memory; unlimited by default.
os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
try:
    import ray
    from ray import exceptions
except ImportError:
    raise InputError(
        "--executor ray: Ray is not installed; pip install 'jiant-sparse[ray]'"
    ) from None

_CONNECT_SECONDS = 5.0
_DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
)


class Ray(Executor):
    """A running cluster (`address`), or one of `cpus` that is started here.

    gpus_per_cell: None = one GPU if the cluster has any, else none. Raises InputError if the
    cluster cannot be reached, or if no node has room for a cell of `threads` CPUs.
    """

    def __init__(
        self, address: str | None, *, cpus: int, threads: int, gpus_per_cell: float | None
    ) -> None:
        if address is not None:
            _check_address(address)
        with _sigterm_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            try:
                ray.init(
                    address or "local",
                    num_cpus=cpus if address is None else None,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = "it cannot be started here" if address is None else f"--address {address}"
                raise InputError(f"--executor ray: {where}: {error}") from error
        self._refs: dict[Future[Outcome], ray.ObjectRef] = {}
        self._task = ray.remote(work)
        try:
            self._gpus = _gpus(gpus_per_cell, threads)
        except InputError:
            ray.shutdown()
            raise

    def submit(self, job: Job, retry: Record | None) -> "Future[Outcome]":
        """Return a future of the cell's outcome; its exception is Died if each retry died too."""
        key = job.cell.key
        ref = self._task.options(
            name=f"{key.task}/{key.method}/seed-{key.seed}",
            num_cpus=job.threads,
            max_retries=RETRIES,
            num_gpus=self._gpus,
        ).remote(_absolute(job), retry=retry)  # type: ignore[call-arg]  # no keywords in its stub
        future: Future[Outcome] = Future()
        self._refs[future] = ref
        ref.future().add_done_callback(partial(self._pass_on, future))
        return future

    def stop(self) -> None:
        # Ray interrupts the task's main thread as SIGINT would, which `work` handles.
        for ref in [*self._refs.values()]:
            ray.cancel(ref)
        wait([*self._refs], GRACE)
        self._kill()

    def close(self) -> None:
        """Kill all workers; a cluster that was not started here stays."""
        self._kill()
        ray.shutdown()

    def _kill(self) -> None:
        for ref in [*self._refs.values()]:
            ray.cancel(ref, force=True)

    def _pass_on(self, future: "Future[Outcome]", done: "Future[Outcome]") -> None:
        """Translate Ray's result or error."""
        self._refs.pop(future, None)
        error = done.exception()
        if error is None:
            future.set_result(done.result())
        elif isinstance(error, exceptions.TaskCancelledError):
            future.set_result(Halted("it was not started, or stopped while it was"))
        elif isinstance(error, exceptions.RayTaskError):
            future.set_exception(error.as_instanceof_cause())
        else:
            future.set_exception(Died(_told(error)))


def _check_address(address: str) -> None:
    """Raise InputError if nothing listens at `address`; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address == "auto":
        return
    if not colon or not host or not port.isdigit() or "/" in host:
        raise InputError(f"--address {address}: must be host:port of the cluster's head, or auto")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(f"--address {address}: no cluster there: {error}") from error


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep our handler of SIGTERM: Ray's own ends the process without stopping the cells."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _gpus(wanted: float | None, threads: int) -> float:
    """Return the GPUs of a cell; raises InputError if no node has room: it would wait for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    if wanted is None:
        wanted = 1.0 if gpus >= 1 else 0.0
    if not any(n.get("CPU", 0) >= threads and n.get("GPU", 0) >= wanted for n in nodes):
        shown = "; ".join(f"{n.get('CPU', 0):g} CPUs, {n.get('GPU', 0):g} GPUs" for n in nodes)
        raise InputError(
            f"a cell takes {threads} CPUs and {wanted:g} GPUs, which no node of the Ray cluster "
            f"has; the nodes have: {shown}"
        )
    return wanted


def _absolute(job: Job) -> Job:
    """Make the job's paths absolute: workers have their own working directories."""
    return dataclasses.replace(
        job,
        directory=job.directory.absolute(),
        features=job.features.absolute(),
        source=dataclasses.replace(job.source, path=job.source.path.absolute()),
    )


def _told(error: BaseException) -> str:
    """Say why Ray could not run a cell."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, _DEATHS):
        return f"its worker died again and again (Ray retries {RETRIES} times): {line}"
    return f"Ray could not run it: {line}"
