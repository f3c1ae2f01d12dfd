"""How a caller stops a running cell, and reads how far it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["loading", "selecting", "training", "scoring"]


class Stopped(Exception):
    """The run was asked to stop. It has not failed: it can go on where it was."""


@dataclass(frozen=True)
class Progress:
    """Where a run is. step: optimiser steps done, of at most `steps`. score: the best on dev.

    batch: batches done of the `batches` by which a method chooses before step 1.
    """

    phase: Phase = "loading"
    step: int = 0
    steps: int | None = None
    score: float | None = None
    batch: int = 0
    batches: int | None = None


class Control:
    """Lets a caller stop one run and read its progress, from any thread or signal handler.

    confirm: raises if the cell has become somebody else's; asked before anything is written that
    stays.
    """

    def __init__(self, confirm: Callable[[], None] = lambda: None) -> None:
        self.progress = Progress()
        self.confirm = confirm
        self._reason: str | None = None

    def stop(self, reason: str) -> None:
        """Ask the run to end at its next step or batch, after a checkpoint. First reason stays."""
        self._reason = self._reason or reason

    def check(self) -> None:
        """Raise Stopped once the run was asked to end."""
        if self._reason:
            raise Stopped(self._reason)

    def tell(
        self, phase: Phase, step: int = 0, steps: int | None = None, score: float | None = None
    ) -> None:
        """Say where the run is."""
        self.progress = Progress(phase, step, steps, score)

    def tell_batch(self, batch: int, batches: int) -> None:
        """Say how much of a choice by batches is done."""
        self.progress = Progress("selecting", batch=batch, batches=batches)
