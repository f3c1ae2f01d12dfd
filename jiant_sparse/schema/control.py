"""How a caller stops a running cell and reads its progress."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Phase = Literal["loading", "selecting", "training", "scoring"]
_Count = Annotated[int, Field(ge=0, lt=2**63)]


class Stopped(Exception):
    """The run was asked to stop. It has not failed: it can be resumed."""


@dataclass(frozen=True)
class Progress:
    """Where a run is; also what its lock file says about it.

    step: optimizer steps done, of at most `steps`. score: the best dev score, a fraction.
    batch: batches done, of the `batches` from which the method selects weights before step 1.
    """

    phase: Phase = "loading"
    step: _Count = 0
    steps: _Count | None = None
    score: float | None = None
    batch: _Count = 0
    batches: _Count | None = None


class Control:
    """Lets a caller request a stop and read progress. Thread- and signal-safe.

    confirm: raises if another process has taken over the cell; called before each final write.

    >>> control = Control()
    >>> control.stop("stopped by SIGINT")
    >>> control.check()
    Traceback (most recent call last):
    jiant_sparse.schema.control.Stopped: stopped by SIGINT
    """

    def __init__(self, confirm: Callable[[], None] = lambda: None) -> None:
        self.progress = Progress()
        self.confirm = confirm
        self._reason: str | None = None

    def stop(self, reason: str) -> None:
        """Ask the run to write a checkpoint and end after its current step or batch.

        The first reason is kept.
        """
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise Stopped if a stop was requested."""
        if self._reason:
            raise Stopped(self._reason)

    def tell(
        self, phase: Phase, step: int = 0, steps: int | None = None, score: float | None = None
    ) -> None:
        """Set the progress of the run."""
        self.progress = Progress(phase, step, steps, score)

    def tell_batch(self, batch: int, batches: int) -> None:
        """Set the progress of a selection from `batches` batches."""
        self.progress = Progress("selecting", batch=batch, batches=batches)
