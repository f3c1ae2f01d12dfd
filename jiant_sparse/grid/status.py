"""Where the cells of a benchmark stand, by the files that they leave. Needs no torch.

Changes none of them. Beside a lock a temporary file is made for a moment, to read the file system's
clock by which heartbeats age; where none can be made, the local clock counts.

A cell with a good record is done. Else it is running if somebody holds its lock, whatever an
earlier record says; else it has failed if its record says so, and waits if it has none.
"""

import contextlib
import logging
import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from jiant_sparse.errors import InputError
from jiant_sparse.grid import lock_file
from jiant_sparse.grid.lock_file import Holder
from jiant_sparse.grid.times import counted, together
from jiant_sparse.schema import manifest, record
from jiant_sparse.schema.manifest import Manifest, PlannedCell
from jiant_sparse.schema.record import CellKey, Record

NEAR = ("the same task and method", "the same method", "the same task", "other tasks and methods")
"""How near a done cell is to one that is not, in words; the nearest ones count."""
# As host.checkpoint and host.log write them, which cannot be imported here.
CHECKPOINTS, LOG = "checkpoint", "log.jsonl"
_CHECKPOINT = re.compile(r"step-([0-9]{1,18})\.[0-9a-f]+\.safetensors")
_TAIL_BYTES = 4096
_log = logging.getLogger("jiant_sparse")


@dataclass(frozen=True)
class Running:
    """A cell that somebody holds; what the holder has not said yet is None.

    step: of the run, or of the checkpoint that it is about to go on from. score: the best on dev,
    a fraction. heartbeat_seconds: age of the last one.
    """

    cell: str
    owner: str | None
    phase: str | None
    step: int
    steps: int | None
    score: float | None
    heartbeat_seconds: float


@dataclass(frozen=True)
class Failed:
    """error: its first line."""

    cell: str
    error: str


@dataclass(frozen=True)
class Broken:
    """A record, or a cell's directory, that is of no use; `path` is relative to the benchmark."""

    path: str
    problem: str


@dataclass(frozen=True)
class TimeLeft:
    """seconds: for the cells that wait or run and are measured; None = none is.

    basis: how many of these by `NEAR`.
    bounded: how many of them are counted with all their steps, though patience may end them.
    unmeasured: how many have no done cell that says anything of them.
    """

    seconds: float | None
    at_a_time: int
    basis: dict[str, int]
    bounded: int
    unmeasured: int


@dataclass(frozen=True)
class Status:
    """One benchmark. with_checkpoint: of those waiting. time_left: None = all cells have ended."""

    benchmark: str
    directory: str
    cells: int
    done: int
    waiting: int
    with_checkpoint: int
    running: tuple[Running, ...]
    failed: tuple[Failed, ...]
    broken: tuple[Broken, ...]
    time_left: TimeLeft | None


@dataclass(frozen=True)
class _Waiting:
    """step: of its checkpoint; None without one."""

    step: int | None


_Key = tuple[str | None, str | None]
_State = Record | Running | Failed | Broken | _Waiting


def look(directory: Path) -> list[Status]:
    """The benchmark in `directory`, and all below it, by their manifests.

    Raises InputError if there is none, or if a manifest is broken.
    """
    if not os.path.isdir(directory):
        raise InputError(f"{directory}: is not a directory; expected <output> or one benchmark's")
    found = [_status(folder, plan) for folder, plan in _benchmarks(directory)]
    if not found:
        raise InputError(
            f"{directory}: no {manifest.FILE_NAME} in it or below it; expected a directory that "
            "`jiant-sparse grid` was given as --output-dir, or one benchmark's"
        )
    return found


def _benchmarks(directory: Path) -> Iterator[tuple[Path, Manifest]]:
    def skipped(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a folder of a running grid that is gone
            _log.warning("%s: cannot be searched: %s", error.filename, error.strerror)

    for name, folders, files in os.walk(directory, onerror=skipped):
        hidden = {folder for folder in folders if folder.startswith(".")}
        if manifest.FILE_NAME in files:
            plan = Manifest.read(Path(name))
            yield Path(name), plan
            # Thousands of folders of cells.
            hidden |= set(plan.tasks)
        folders[:] = sorted(set(folders) - hidden)


def _status(directory: Path, plan: Manifest) -> Status:
    states = [_state(directory, plan.benchmark, cell) for cell in plan.cells]
    waiting = [state for state in states if isinstance(state, _Waiting)]
    return Status(
        benchmark=plan.benchmark,
        directory=str(directory),
        cells=len(states),
        done=sum(isinstance(state, Record) for state in states),
        waiting=len(waiting),
        with_checkpoint=sum(state.step is not None for state in waiting),
        running=tuple(state for state in states if isinstance(state, Running)),
        failed=tuple(state for state in states if isinstance(state, Failed)),
        broken=tuple(state for state in states if isinstance(state, Broken)),
        time_left=_time_left(plan.cells, states),
    )


def _state(directory: Path, benchmark: str, planned: PlannedCell) -> _State:
    place = f"{planned.task}/{planned.method}/seed-{planned.seed}"
    cell, path = directory / place, f"{place}/{record.FILE_NAME}"
    try:
        # First: a cell that ends meanwhile has a record when that is looked for.
        holder = lock_file.holder(cell)
        key = CellKey(benchmark=benchmark, **planned.model_dump())
        found = record.read(directory / path, key) if (directory / path).exists() else None
        if found and (problem := record.lost_delta(cell, found)):
            raise InputError(problem)
        if found and found.status == "ok":
            return found
        if holder:
            return _running(place, cell, holder)
        if found:
            return Failed(place, (found.error or "no reason given").splitlines()[0])
        return _Waiting(checkpoint_step(cell))
    except InputError as error:
        where, _, problem = error.problems[0].removeprefix(f"{directory}/").partition(": ")
        return Broken(where, problem)
    except OSError as error:
        return Broken(place, f"cannot be read: {error.strerror}")


def _running(place: str, cell: Path, holder: Holder) -> Running:
    owner = str(holder.owner) if holder.owner else None
    age, at = max(0.0, holder.age_seconds), holder.progress
    if at is None:
        return Running(place, owner, None, checkpoint_step(cell) or 0, None, None, age)
    step = at.step or checkpoint_step(cell) or 0
    score = None if at.score is None or math.isnan(at.score) else at.score
    # Before its first step the log may be an earlier run's.
    if at.phase == "training":
        step = max(step, _logged_step(cell))
    return Running(place, owner, at.phase, step, at.steps, score, age)


def checkpoint_step(cell: Path) -> int | None:
    """The step of the newest checkpoint, by the files' names; None if there is none."""
    names = (path.name for path in (cell / CHECKPOINTS).glob("step-*"))
    matches = filter(None, map(_CHECKPOINT.fullmatch, names))
    return max((int(match[1]) for match in matches), default=None)


class _Entry(BaseModel):
    step: int = Field(ge=0, lt=2**63, strict=True)


def _logged_step(cell: Path) -> int:
    """The last step that the end of the log tells; 0 if it tells none."""
    if not (cell / LOG).is_file():
        return 0  # a pipe would be waited for
    try:
        with open(cell / LOG, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        # The first line and the one that is being written can be parts.
        with contextlib.suppress(ValidationError):
            return _Entry.model_validate_json(line).step
    return 0


def _time_left(cells: Sequence[PlannedCell], states: Sequence[_State]) -> TimeLeft | None:
    """By the median of the nearest done cells: a cell has as much left as they had at its step."""
    todo = [
        (cell, state.step or 0, state.steps if isinstance(state, Running) else None)
        for cell, state in zip(cells, states, strict=True)
        if isinstance(state, Running | _Waiting)
    ]
    if not todo:
        return None
    at_a_time = max(1, sum(isinstance(state, Running) for state in states))
    past = _past(states)
    if not past:
        return TimeLeft(None, at_a_time, {}, 0, len(todo))
    basis: Counter[str] = Counter()
    left, bounded = [], 0
    for cell, step, steps in todo:
        keys = zip(NEAR, _keys(cell.task, cell.method), strict=True)
        words, near = next((words, past[key]) for words, key in keys if key in past)
        seconds, bound = _rest(near, step, steps)
        if seconds is not None:
            left.append(seconds)
            basis[words] += 1
            bounded += bound
    ordered = {words: basis[words] for words in NEAR if words in basis}
    seconds = together(left, at_a_time) if left else None
    return TimeLeft(seconds, at_a_time, ordered, bounded, len(todo) - len(left))


def _past(states: Sequence[_State]) -> dict[_Key, list[tuple[int, float]]]:
    """(steps, seconds) of the done cells, by all that a cell may look for them by."""
    past: dict[_Key, list[tuple[int, float]]] = {}
    for state in states:
        seconds = counted(state.cost) if isinstance(state, Record) else None
        if isinstance(state, Record) and state.steps and seconds is not None:
            for key in _keys(state.cell.task, state.cell.method):
                past.setdefault(key, []).append((state.steps, seconds))
    return past


def _keys(task: str, method: str) -> list[_Key]:
    """As in `NEAR`."""
    return [(task, method), (None, method), (task, None), (None, None)]


def _rest(
    near: Sequence[tuple[int, float]], step: int, steps: int | None
) -> tuple[float | None, bool]:
    """Seconds after `step`, by the (steps, seconds) of those that went further.

    Where none did, whether the seconds are those of all `steps`; None if these are not known.
    """
    further = [seconds * (1 - step / total) for total, seconds in near if total > step]
    if further:
        return statistics.median(further), False
    if steps is None:
        return None, False
    rate = statistics.median(seconds / total for total, seconds in near)
    return rate * (steps - step), steps > step
