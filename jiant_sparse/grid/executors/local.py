"""Runs cells in worker processes of this machine; each worker is reused for the next cell."""

import queue
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial

from jiant_sparse.grid.executors import GRACE, Died, Executor
from jiant_sparse.grid.executors.process import Gone, Worker
from jiant_sparse.grid.worker import Halted, Outcome, work
from jiant_sparse.host.job import Job
from jiant_sparse.schema.record import Record


class Local(Executor):
    """One worker for each of `devices`: its CUDA_VISIBLE_DEVICES; None = that of this process."""

    def __init__(self, devices: Sequence[str | None]) -> None:
        self._slots = [_Slot(device) for device in devices]
        # Last in, first out: a worker that has imported everything is used first.
        self._free: queue.LifoQueue[_Slot] = queue.LifoQueue()
        for slot in reversed(self._slots):
            self._free.put(slot)
        self._threads = ThreadPoolExecutor(len(self._slots))
        self._futures: set[Future[Outcome]] = set()
        # Held to start or signal a worker: no worker is started after the signals were sent.
        self._mutex = threading.Lock()
        self._stopping = False

    def submit(self, job: Job, retry: Record | None) -> "Future[Outcome]":
        future = self._threads.submit(self._run, job, retry)
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def stop(self) -> None:
        self._send(signal.SIGTERM)
        wait([*self._futures], GRACE)
        self.close()

    def close(self) -> None:
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
                continue  # it died after its last cell: not the fault of this one
            if isinstance(outcome, Record) and outcome.status == "failed":
                with self._mutex:
                    slot.drop()
            return outcome


class _Slot:
    """A place for one worker, which is started when needed and replaced after a failure."""

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
