"""Runs cells in worker processes; a failed cell does not stop the others."""

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from jiant_sparse.benchmark import provenance
from jiant_sparse.benchmark.record import Provenance, Record
from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.host.job import Job

Notify = Callable[[Record], None]


def run(jobs: Sequence[Job], *, workers: int, notify: Notify) -> None:
    """Run the jobs in `workers` processes, the cores divided among them.

    A worker is reused from cell to cell and replaced after a failure. `notify(record)` is called
    from this thread as cells end. When this is stopped (Ctrl-C), or a record cannot be written,
    the workers are killed; cells that were done stay, and those that ran have no record.
    """
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    ended: queue.SimpleQueue[Record | Exception] = queue.SimpleQueue()
    workers = max(1, min(workers, len(jobs)))
    for job in (*jobs, *[None] * workers):
        waiting.put(job)
    threads = max(1, available_cores() // workers)
    stopping = threading.Event()
    slots = [
        threading.Thread(target=_drive, args=(waiting, ended, threads, stopping), daemon=True)
        for _ in range(workers)
    ]
    for slot in slots:
        slot.start()
    try:
        for _ in jobs:
            outcome = ended.get()
            if isinstance(outcome, Exception):
                raise outcome
            notify(outcome)
    except BaseException:
        stopping.set()
        raise
    finally:
        for slot in slots:
            while slot.is_alive():
                # Again and again: a slot may have been about to start a process.
                for process in multiprocessing.active_children() if stopping.is_set() else ():
                    process.kill()
                slot.join(0.1)


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


def _drive(
    waiting: queue.SimpleQueue, ended: queue.SimpleQueue, threads: int, stopping: threading.Event
) -> None:
    """One slot: hands its jobs to one process after another."""
    pool = None
    try:
        while (job := waiting.get()) is not None and not stopping.is_set():
            pool = pool or ProcessPoolExecutor(
                1, multiprocessing.get_context("spawn"), _start_worker, (threads, os.getpid())
            )
            outcome = _outcome(pool, job, stopping)
            if outcome.status == "failed":
                pool.shutdown(wait=False)
                pool = None
            ended.put(outcome)
    except Exception as error:
        ended.put(error)
    finally:
        if pool is not None:
            pool.shutdown(wait=False)


def _outcome(pool: ProcessPoolExecutor, job: Job, stopping: threading.Event) -> Record:
    """The job's record; made here if the worker could not."""
    started = provenance.now()
    try:
        return pool.submit(_work, job, started).result()
    except BrokenProcessPool:
        if stopping.is_set():
            raise  # killed by us: the cell has not failed, it has not been run
        return _failed(job, "the worker process died (killed, or out of memory)", started)


def _start_worker(threads: int, parent: int) -> None:
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import torch

    torch.set_num_threads(threads)


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: nobody would read its result."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _work(job: Job, started: str) -> Record:
    try:
        return run_here(job)
    except InputError as error:
        return _failed(job, str(error), started)


def _told(error: Exception) -> str:
    """One line for what is expected to happen, the traceback for what is not."""
    line = f"{type(error).__name__}: {error}"
    if isinstance(error, NotFinite):
        return line
    return f"{line}\n{''.join(traceback.format_exception(error))}"


def _failed(job: Job, error: str, started: str) -> Record:
    commit, dirty = provenance.commit()
    failed = Record(
        **job.identity,
        status="failed",
        error=error,
        provenance=Provenance(
            commit=commit,
            dirty=dirty,
            versions=provenance.versions(),
            device=None,
            threads=None,
            pooler=None,
            started=started,
            finished=provenance.now(),
        ),
    )
    failed.write(job.directory)
    return failed
