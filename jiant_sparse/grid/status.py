"""The state of a benchmark's cells, by the files that they leave. Changes none. No torch.

A cell with a good record is done. Otherwise it is running if its lock is held, whatever an earlier
record says; otherwise it has failed if its record says so, and is waiting if it has no record.
To read the file system's clock, by which heartbeats age, a temporary file is made for a moment.
"""

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from jiant_sparse.errors import InputError
from jiant_sparse.grid import lock_file
from jiant_sparse.grid.lock_file import Holder
from jiant_sparse.grid.time_left import TimeLeft, time_left
from jiant_sparse.layout import LOG, checkpoint_step
from jiant_sparse.schema import manifest, record
from jiant_sparse.schema.manifest import Manifest, PlannedCell
from jiant_sparse.schema.record import CellKey, Record

_TAIL_BYTES = 4096
_log = logging.getLogger("jiant_sparse")


@dataclass(frozen=True)
class Running:
    """A cell whose lock is held. None = its owner has not said it yet.

    step: of the run, or of the checkpoint that it resumes. score: the best on dev, a fraction.
    heartbeat_seconds: age of the last heartbeat.
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
    """A cell with a failed record. error: its first line."""

    cell: str
    error: str


@dataclass(frozen=True)
class Broken:
    """A record, or a cell's directory, that cannot be used; `path` is below the benchmark's."""

    path: str
    problem: str


@dataclass(frozen=True)
class Status:
    """One benchmark. with_checkpoint: waiting cells that have one. time_left: None = all ended."""

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
    """A cell that nobody runs. step: of its checkpoint; None without one."""

    step: int | None


_State = Record | Running | Failed | Broken | _Waiting


def look(directory: Path) -> list[Status]:
    """Return the status of the benchmark in `directory`, or of all benchmarks below it.

    Raises InputError if there is no manifest, or if one is broken.
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
        if not isinstance(error, FileNotFoundError):  # a running grid has removed the folder
            _log.warning("%s: cannot be searched: %s", error.filename, error.strerror)

    for name, folders, files in os.walk(directory, onerror=skipped):
        hidden = {folder for folder in folders if folder.startswith(".")}
        if manifest.FILE_NAME in files:
            plan = Manifest.read(Path(name))
            yield Path(name), plan
            hidden |= set(plan.tasks)  # thousands of folders of cells
        folders[:] = sorted(set(folders) - hidden)


def _status(directory: Path, plan: Manifest) -> Status:
    states = [_state(directory, plan.benchmark, cell) for cell in plan.cells]
    done = [state for state in states if isinstance(state, Record)]
    running = tuple(state for state in states if isinstance(state, Running))
    waiting = [state for state in states if isinstance(state, _Waiting)]
    unfinished = [
        (cell, state.step or 0, state.steps if isinstance(state, Running) else None)
        for cell, state in zip(plan.cells, states, strict=True)
        if isinstance(state, Running | _Waiting)
    ]
    return Status(
        benchmark=plan.benchmark,
        directory=str(directory),
        cells=len(states),
        done=len(done),
        waiting=len(waiting),
        with_checkpoint=sum(state.step is not None for state in waiting),
        running=running,
        failed=tuple(state for state in states if isinstance(state, Failed)),
        broken=tuple(state for state in states if isinstance(state, Broken)),
        time_left=time_left(unfinished, done, max(1, len(running))) if unfinished else None,
    )


def _state(directory: Path, benchmark: str, planned: PlannedCell) -> _State:
    place = planned.place
    cell, path = directory / place, f"{place}/{record.FILE_NAME}"
    try:
        # Look for the lock first: a cell that ends meanwhile has its record by then.
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
    # Before the first step the log may be an earlier run's.
    if at.phase == "training":
        step = max(step, _logged_step(cell))
    return Running(place, owner, at.phase, step, at.steps, score, age)


class _Entry(BaseModel):
    step: int = Field(ge=0, lt=2**63, strict=True)


def _logged_step(cell: Path) -> int:
    """Return the last step at the end of the log; 0 if there is none."""
    if not (cell / LOG).is_file():
        return 0  # a pipe would block
    try:
        with open(cell / LOG, "rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return 0
    for line in reversed(lines):
        # The first line, and the one that is being written, can be incomplete.
        with contextlib.suppress(ValidationError):
            return _Entry.model_validate_json(line).step
    return 0
