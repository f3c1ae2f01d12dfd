"""What is left of cells that run or wait, by how long cells that are done have taken. No torch.

A cell is measured by the done cells nearest to it: of the same task and method, else of the same
method, and so on; their median counts.
"""

import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jiant_sparse.schema.manifest import PlannedCell
from jiant_sparse.schema.record import Record

NEAR = ("the same task and method", "the same method", "the same task", "other tasks and methods")
"""How near a done cell is to the cell that it measures."""
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class TimeLeft:
    """What is left of cells that run or wait, `at_a_time` of them at once.

    seconds: wall-clock of the measured cells; None = no cell is measured. basis: measured cells by
    how near their records are, in the order of NEAR. bounded: measured cells that are estimated at
    their last step (upper bound; early stopping may end sooner). unmeasured: cells without records.
    """

    seconds: float | None
    at_a_time: int
    basis: dict[str, int]
    bounded: int
    unmeasured: int


def time_left(
    cells: Iterable[tuple[PlannedCell, int, int | None]], done: Iterable[Record], at_a_time: int
) -> TimeLeft:
    """Estimate unfinished cells: they have as much left as done cells had at the same step.

    cells: each with its steps so far, and its last step if that is known.
    """
    past: Nearest[tuple[int, float]] = Nearest()
    for found in done:
        seconds = measured_seconds(found)
        if found.steps and seconds is not None:
            keys = _place_keys(found.cell.task, found.cell.method)
            past.add(keys.values(), (found.steps, seconds))
    parts = []
    for cell, step, last in cells:
        near, runs = past.find(_place_keys(cell.task, cell.method))
        parts.append(_rest_of(near, runs, step, last))
    return together(parts, at_a_time)


@dataclass(frozen=True)
class CellTime:
    """The estimate of one cell. near: see NEAR. seconds: None = not measured."""

    near: str = ""
    seconds: float | None = None
    bounded: bool = False


class Nearest(Generic[_Value]):
    """Values by key; whoever looks for them names keys from the nearest to the farthest."""

    def __init__(self) -> None:
        self._values: dict[Hashable, list[_Value]] = {}

    def add(self, keys: Iterable[Hashable], value: _Value) -> None:
        for key in keys:
            self._values.setdefault(key, []).append(value)

    def find(self, keys: Mapping[str, Hashable]) -> tuple[str, list[_Value]]:
        """Return the name and the values of the first key that has any; none without."""
        for near, key in keys.items():
            if key in self._values:
                return near, self._values[key]
        return "", []


def together(parts: Sequence[CellTime], at_a_time: int) -> TimeLeft:
    """Add up the seconds of cells; each cell runs on one worker."""
    measured = [part for part in parts if part.seconds is not None]
    seconds = [part.seconds for part in measured if part.seconds is not None]
    counts = Counter(part.near for part in measured)
    return TimeLeft(
        seconds=max(sum(seconds) / at_a_time, max(seconds)) if seconds else None,
        at_a_time=at_a_time,
        basis={near: counts[near] for near in NEAR if near in counts},
        bounded=sum(part.bounded for part in measured),
        unmeasured=len(parts) - len(measured),
    )


def measured_seconds(found: Record) -> float | None:
    """Seconds of training, evaluating and selecting; None if training was not measured."""
    cost = found.cost
    if cost.train_seconds is None:
        return None
    return cost.train_seconds + (cost.eval_seconds or 0.0) + (cost.select_seconds or 0.0)


def _rest_of(near: str, runs: Sequence[tuple[int, float]], step: int, last: int | None) -> CellTime:
    """Estimate what is left after `step` by the (steps, seconds) of runs that went further.

    If none did, by their seconds a step up to the `last` step, if that is known.
    """
    further = [seconds * (1 - step / steps) for steps, seconds in runs if steps > step]
    if further:
        return CellTime(near, statistics.median(further))
    if not runs or last is None:
        return CellTime()
    rate = statistics.median(seconds / steps for steps, seconds in runs)
    return CellTime(near, rate * (last - step), bounded=last > step)


def _place_keys(task: str, method: str) -> dict[str, Hashable]:
    return dict(zip(NEAR, [(task, method), (None, method), (task, None), None], strict=True))
