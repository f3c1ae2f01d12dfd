"""Executors run cells: in processes of this machine, or in workers of Ray."""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

# A worker imports this package before it ignores Ctrl-C: nothing slow may be imported here.
if TYPE_CHECKING:
    from jiant_sparse.grid.worker import Outcome
    from jiant_sparse.host.job import Job
    from jiant_sparse.schema.record import Record

GRACE = 20.0
"""Seconds that running cells get for their checkpoints when they are asked to stop."""


class Died(Exception):
    """The worker that ran a cell has died: killed, or out of memory."""


class Executor(Protocol):
    """Runs `worker.work(job, retry=retry)` elsewhere, for several jobs at a time."""

    def submit(self, job: "Job", retry: "Record | None") -> "Future[Outcome]":
        """Return a future of the cell's outcome; its exception is Died if the worker has died."""

    def stop(self) -> None:
        """Start no more cells; running cells write a checkpoint, or are killed after GRACE."""

    def close(self) -> None:
        """Kill all workers."""
