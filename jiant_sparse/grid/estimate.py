"""Time and disk that cells still take, estimated from the records of cells that are done.

Each record with the same model on the same kind of device predicts for a cell

    train seconds      x steps ratio x examples-per-step ratio
    + eval seconds     x evaluations ratio, the final evaluation included
    + select seconds

The median prediction of the nearest records counts, plus the time that a run spends on nothing of
this, such as loading: the least of all records, because a run that was interrupted has the pause in
it. The bytes are those of the delta: the head's stay, the others are proportional to the density.
"""

import json
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jiant_sparse.errors import InputError
from jiant_sparse.grid.time_left import (
    NEAR,
    CellTime,
    Nearest,
    TimeLeft,
    measured_seconds,
    together,
)
from jiant_sparse.host import container, device
from jiant_sparse.host.job import Job
from jiant_sparse.layout import checkpoint_step
from jiant_sparse.schema import record
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import Record
from jiant_sparse.units import duration, size

BYTES_PER_WEIGHT = 4


@dataclass(frozen=True)
class Estimate:
    """Time of cells, and bytes of their deltas (None = not measured); sized: cells that have any.

    cells: all that are to be run.
    """

    time: TimeLeft
    bytes: int | None
    cells: int
    sized: int


class Past:
    """The good records below `output_dir`, by all keys that a job may look for them by."""

    def __init__(self, output_dir: Path) -> None:
        self._records: Nearest[Record] = Nearest()
        for path in sorted(output_dir.rglob(record.FILE_NAME)):
            try:
                found = record.read(path)
            except InputError:
                continue  # `plan.states` names it if its cell is asked for
            self.add(found)

    def add(self, found: Record) -> None:
        """Add a record, unless it measured nothing."""
        if found.status != "ok" or not found.steps or found.cost.train_seconds is None:
            return
        model, settings = found.inputs.get("model"), found.settings
        keys = [*_time_keys(model, found.provenance.device != "cpu", settings).values()]
        keys += _step_keys(settings).values()
        if found.cost.delta_bytes is not None and found.params is not None:
            keys += _byte_keys(model, settings).values()
        self._records.add(keys, found)

    def estimate(
        self, jobs: Sequence[Job], workers: int, begun: Mapping[Path, int] = MappingProxyType({})
    ) -> Estimate:
        """Estimate what is left of `jobs`, `workers` at a time.

        begun: steps done by a job's directory, where they are more than its checkpoint has.
        """
        parts, sizes = [], []
        for job in jobs:
            done = begun.get(job.directory) or checkpoint_step(job.directory) or 0
            parts.append(self._time(job, done))
            settings = job.cell.settings
            _, near = self._records.find(_byte_keys(job.source.sha256, settings))
            if near:
                sizes.append(statistics.median(_delta_bytes(found, settings) for found in near))
        total = round(sum(sizes)) if sizes else None
        return Estimate(together(parts, workers), total, cells=len(jobs), sized=len(sizes))

    def _time(self, job: Job, done: int) -> CellTime:
        """Estimate what is left of a job after `done` steps."""
        train = job.cell.train
        on_cuda = device.pick(job.cell.setup.device).type == "cuda"
        keys = _time_keys(job.source.sha256, on_cuda, job.cell.settings)
        near, records = self._records.find(keys)
        if not records:
            return CellTime()
        steps, bounded = self._steps(job, done)
        last = round(steps)
        scored = container.evaluations(train, last)
        evaluations = sum(1 for step in scored if step > done) + (
            last not in scored and last > done
        )
        own = statistics.median(
            _scaled(found, train, steps - done, evaluations + 1, selects=not done)
            for found in records
        )
        # The farthest key has every record of this model and device.
        _, every = self._records.find({"": [*keys.values()][-1]})
        return CellTime(near, own + min(map(_overhead, every)), bounded)

    def _steps(self, job: Job, done: int) -> tuple[float, bool]:
        """Estimate the steps of the whole run; and whether they are only an upper bound.

        A record of at most `done` steps does not tell where this run will end.
        """
        total = total_steps(job)
        _, alike = self._records.find(_step_keys(job.cell.settings))
        ends = [found.steps if found.stopped_by == "patience" else total for found in alike]
        further = [end for end in ends if end is not None and end > done]
        if further:
            return min(statistics.median(further), total), False
        return total, first_stop(job) is not None


def total_steps(job: Job) -> int:
    """Optimizer steps of the whole run."""
    return container.total_steps(job.cell.train, job.data.examples["train"])


def first_stop(job: Job) -> int | None:
    """The first step after which early stopping can end the run; None if it cannot."""
    method = job.cell.make_method()
    return container.first_stop(job.cell.train, total_steps(job), method.scores_at)


def describe(estimate: Estimate) -> str:
    """Put time and disk into one line each, or into one line if there is nothing to run."""
    if not estimate.cells:
        return "nothing to run"
    left, text, disk = estimate.time, brief(estimate), "not measured"
    if left.seconds is not None:
        basis = ", ".join(
            f"{_cells(count)} by records of {near}" for near, count in left.basis.items()
        )
        text += f" ({basis}"
        if left.bounded:
            text += f"; {_cells(left.bounded)} to the last step, early stopping may end sooner"
        text += ")"
    if estimate.bytes is not None:
        part = _part(estimate.sized, estimate.cells)
        disk = f"about {size(estimate.bytes)} of deltas{part}"
    return f"time: {text}\ndisk: {disk}"


def brief(estimate: Estimate) -> str:
    """Put the time alone into words, and how many cells it covers if not all."""
    left = estimate.time
    if left.seconds is None:
        return "not measured"
    bound = "at most" if left.bounded else "about"
    part = _part(estimate.cells - left.unmeasured, estimate.cells)
    return f"{bound} {duration(left.seconds)}{part}"


def _time_keys(
    model: str | None, on_cuda: bool, settings: Mapping[str, Any]
) -> dict[str, Hashable]:
    like, method = settings["task"]["like"], settings["method"]["name"]
    tiers = {NEAR[0]: [like, method], NEAR[1]: [method], NEAR[3]: []}
    return {near: _key("time", model, on_cuda, *tier) for near, tier in tiers.items()}


def _step_keys(settings: Mapping[str, Any]) -> dict[str, Hashable]:
    """Keys of runs with the same training: of the same task and method, else of any."""
    like, method, train = settings["task"]["like"], settings["method"]["name"], settings["train"]
    return {NEAR[0]: _key("steps", train, like, method), NEAR[3]: _key("steps", train)}


def _byte_keys(model: str | None, settings: Mapping[str, Any]) -> dict[str, Hashable]:
    """Keys of deltas: of the same task and method fields, of the same fields, of the same method.

    Another method's delta says nothing.
    """
    like, method = settings["task"]["like"], settings["method"]
    tiers = {NEAR[0]: [like, method], NEAR[1]: [method], "other fields": [method["name"]]}
    return {near: _key("bytes", model, *tier) for near, tier in tiers.items()}


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def _scaled(found: Record, train: Train, steps: float, evaluations: int, *, selects: bool) -> float:
    """Seconds that `steps` steps and `evaluations` evaluations of this training take, by a record.

    evaluations: the final one included. selects: whether the selection of weights is still to come.
    """
    old, cost = found.settings["train"], found.cost
    ratio = train.batch_size * train.gradient_accumulation
    ratio /= old["batch_size"] * old["gradient_accumulation"]
    return (
        (cost.train_seconds or 0.0) * ratio * steps / (found.steps or 1)
        + (cost.eval_seconds or 0.0) * evaluations / (len(found.history) + 1)
        + ((cost.select_seconds or 0.0) if selects else 0.0)
    )


def _overhead(found: Record) -> float:
    """Wall-clock seconds from a run's first start to its end that are not in its cost."""
    started = datetime.fromisoformat(found.provenance.started)
    finished = datetime.fromisoformat(found.provenance.finished)
    return max(0.0, (finished - started).total_seconds() - (measured_seconds(found) or 0.0))


def _delta_bytes(found: Record, settings: Mapping[str, Any]) -> float:
    """Bytes of a delta with these settings, by the record of another."""
    whole, head_weights = found.cost.delta_bytes or 0, found.params.head if found.params else 0
    old, new = (each["method"].get("density") for each in (found.settings, settings))
    head = min(BYTES_PER_WEIGHT * head_weights, whole)
    return head + (whole - head) * (new / old if old and new else 1)


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _part(covered: int, cells: int) -> str:
    return "" if covered == cells else f" for {covered} of {cells} cells, the others not measured"
