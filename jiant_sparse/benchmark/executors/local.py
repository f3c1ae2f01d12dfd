"""Worker processes on this machine, each reused from cell to cell."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from jiant_sparse.benchmark.executors import GRACE, Died
from jiant_sparse.benchmark.record import Record
from jiant_sparse.benchmark.work import Halted, Outcome, work
from jiant_sparse.host.job import Job


class Local:
    """One worker process for each of `devices`: what it sees of CUDA, None = what we see."""

    def __init__(self, devices: Sequence[str | None]) -> None:
        self._slots = [_Slot(device) for device in devices]
        # Last in, first out: a worker that has loaded everything goes first.
        self._free: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for slot in reversed(self._slots):
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(len(self._slots))
        self._futures: set[Future[Outcome]] = set()
        self._stopping = threading.Event()

    def submit(self, job: Job, retry: Record | None) -> "Future[Outcome]":
        """The cell's outcome, once it has one; Died if its worker is gone."""
        future = self._threads.submit(self._run, job, retry)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def stop(self) -> None:
        """Start nothing more and let running cells write checkpoints; kill them after GRACE."""
        self._send(signal.SIGTERM)
        wait([*self._futures], GRACE)
        self.close()

    def close(self) -> None:
        """End all workers, at once."""
        self._send(signal.SIGKILL)
        self._threads.shutdown()
        for slot in self._slots:
            slot.drop(wait=True)

    def _send(self, number: int) -> None:
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for slot in self._slots:
            slot.send(number)

    def _run(self, job: Job, retry: Record | None) -> Outcome:
        slot = self._free.get()
        try:
            return slot.run(job, retry, self._stopping)
        except BrokenProcessPool:
            slot.drop()
            if self._stopping.is_set():
                return Halted("its worker was ended")
            raise Died("the worker process died (killed, or out of memory)") from None
        finally:
            self._free.put(slot)


class _Slot:
    """Room for one worker process, started when needed and replaced after a failure."""

    def __init__(self, device: str | None) -> None:
        self.device = device
        self.pool: ProcessPoolExecutor | None = None
        self.pid: int | None = None

    def run(self, job: Job, retry: Record | None, stopping: threading.Event) -> Outcome:
        pool = self.pool or self.start()
        if stopping.is_set():
            return Halted("it was not started")
        outcome = pool.submit(work, job, retry=retry).result()
        if isinstance(outcome, Record) and outcome.status == "failed":
            self.drop()
        return outcome

    def start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, context, _start, (self.device, os.getpid()))
        self.pid = self.pool.submit(os.getpid).result()
        return self.pool

    def send(self, number: int) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def drop(self, *, wait: bool = False) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait)
        self.pool = self.pid = None


def _start(device: str | None, parent: int) -> None:
    """In a new worker, before torch looks for devices."""
    # Ctrl-C reaches the whole process group; the parent decides what becomes of the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: nobody would read its result."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
