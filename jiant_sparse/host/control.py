"""What the outside can ask of a running cell, and what the cell tells it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["loading", "selecting", "training", "scoring"]


class Stopped(Exception):
    """The run was asked to stop. It has not failed: it can go on where it was."""


@dataclass(frozen=True)
class Progress:
    """Where a run is. step: optimiser steps done, of at most `steps`. score: the best on dev."""

    phase: Phase = "loading"
    step: int = 0
    steps: int | None = None
    score: float | None = None


class Control:
    """One run's ear and mouth. Any thread, or a signal handler, may ask; the run looks often."""

    def __init__(self) -> None:
        self.progress = Progress()
        # Makes sure, and raises if not, that the cell is still this run's.
        self.confirm: Callable[[], None] = lambda: None
        self._reason: str | None = None
        self._lost = False

    def stop(self, reason: str) -> None:
        """Ask the run to end at its next step or batch, after a checkpoint."""
        self._reason = self._reason or reason

    def lose(self, reason: str) -> None:
        """Ask the run to end and to write nothing more: the cell is somebody else's."""
        self._lost, self._reason = True, reason

    def check(self) -> None:
        """Raise Stopped once the run was asked to end."""
        if self._reason:
            raise Stopped(self._reason)

    def check_owned(self) -> None:
        """Raise, Stopped or what `confirm` does, if the cell is somebody else's by now."""
        if self._lost:
            self.check()
        self.confirm()

    def tell(
        self, phase: Phase, step: int = 0, steps: int | None = None, score: float | None = None
    ) -> None:
        """Say where the run is."""
        self.progress = Progress(phase, step, steps, score)
