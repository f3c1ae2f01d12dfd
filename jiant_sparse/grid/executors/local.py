"""Worker processes on this machine, each reused from cell to cell."""

import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from jiant_sparse.grid.executors import GRACE, Died
from jiant_sparse.grid.executors.process import Gone, Worker
from jiant_sparse.grid.worker import Halted, Outcome, work
from jiant_sparse.host.job import Job
from jiant_sparse.schema.record import Record


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
        # Held to start or signal a worker: none is started behind a signal's back.
        self._mutex = threading.Lock()
        self._stopping = False

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
            slot.drop()

    def _send(self, number: int) -> None:
        with self._mutex:
            self._stopping = True
            for slot in self._slots:
                if slot.worker is not None:
                    slot.worker.send(number)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Job, retry: Record | None) -> Outcome:
        slot = self._free.get()
        try:
            return self._run_in(slot, partial(work, job, retry=retry))
        finally:
            self._free.put(slot)

    def _run_in(self, slot: "_Slot", call: Callable[[], Outcome]) -> Outcome:
        while True:
            with self._mutex:
                if self._stopping:
                    return Halted("it was not started")
                fresh = slot.worker is None
                worker = slot.ready()
            try:
                outcome = worker.call(call)
            except Gone as gone:
                with self._mutex:
                    slot.drop()
                if self._stopping:
                    return Halted("its worker was ended")
                if gone.begun or fresh:
                    raise Died("the worker process died (killed, or out of memory)") from None
                continue  # it has ended since its last cell, which is no fault of this one
            if isinstance(outcome, Record) and outcome.status == "failed":
                with self._mutex:
                    slot.drop()
            return outcome


class _Slot:
    """Room for one worker, started when needed and replaced after a failure."""

    def __init__(self, device: str | None) -> None:
        self.device = device
        self.worker: Worker | None = None

    def ready(self) -> Worker:
        self.worker = self.worker or Worker(self.device)
        return self.worker

    def drop(self) -> None:
        if self.worker is not None:
            self.worker.end()
        self.worker = None
