"""Where cells run: in processes of this machine, or in Ray's workers."""

from concurrent.futures import Future
from typing import TYPE_CHECKING, Protocol

# A worker imports this package before it is ready for Ctrl-C: nothing heavy may be loaded here.
if TYPE_CHECKING:
    from jiant_sparse.grid.worker import Outcome
    from jiant_sparse.host.job import Job
    from jiant_sparse.schema.record import Record

GRACE = 20.0
"""Seconds that running cells have for their checkpoints once they are asked to stop."""


class Died(Exception):
    """The worker that ran a cell is gone: killed, or out of memory."""


class Executor(Protocol):
    """Runs `work.work(job, retry=retry)` somewhere, many at a time."""

    def submit(self, job: "Job", retry: "Record | None") -> "Future[Outcome]":
        """The cell's outcome, once it has one; Died if its worker is gone."""

    def stop(self) -> None:
        """Start nothing more and let running cells write checkpoints; kill them after GRACE."""

    def close(self) -> None:
        """End all workers, at once."""
