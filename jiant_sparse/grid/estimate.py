"""What the cells still to run will take, by what cells that ran before took.

A cell is measured by the records nearest to it: of the same task and method, else of the same
method, else of any (time only), with the same model on the same kind of device. Each of them says

    train seconds      x steps ratio x examples-per-step ratio
    + eval seconds     x evaluations ratio, the final one counted as one
    + select seconds

and the median counts, plus what a run takes beside these (loading: the least of all records, for
a run that was stopped and went on has the pause in it, and most may have been).
Of a cell that has begun, what lies behind it is left out. Bytes are those of the delta: the head's
stay, the others go with the density.
"""

import datetime
import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jiant_sparse.errors import InputError
from jiant_sparse.grid import status
from jiant_sparse.grid.times import counted, together
from jiant_sparse.host import container, device
from jiant_sparse.host.job import Job
from jiant_sparse.schema import record
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import Record
from jiant_sparse.units import duration

BYTES_PER_WEIGHT = 4
# How near a record is, in words.
NEAR = ("of the same task and method", "of the same method", "of other methods")


@dataclass(frozen=True)
class Estimate:
    """seconds: wall-clock with so many workers. bytes: of the deltas. None = not measured.

    cells: to be run. timed, sized: how many of them the two figures cover. bounded: how many are
    counted to their last step, though early stopping may end them sooner. basis: what the time
    rests on.
    """

    seconds: float | None
    bytes: int | None
    cells: int
    timed: int
    sized: int
    bounded: int
    basis: str


def estimate(jobs: Sequence[Job], output_dir: Path, workers: int) -> Estimate:
    """What `jobs` will take, `workers` at a time, by the good records below `output_dir`."""
    return Past(output_dir).estimate(jobs, workers)


def describe(estimate: Estimate) -> str:
    """Two lines for people, or one if there is nothing to run."""
    if not estimate.cells:
        return "nothing to run"
    time, size = brief(estimate), "not measured"
    if estimate.seconds is not None:
        time += f" ({estimate.basis}"
        if estimate.bounded:
            time += f"; {_cells(estimate.bounded)} to the last step, early stopping may end sooner"
        time += ")"
    if estimate.bytes is not None:
        size = f"about {_amount(estimate.bytes)} of deltas" + _part(estimate.sized, estimate.cells)
    return f"time: {time}\ndisk: {size}"


def brief(estimate: Estimate) -> str:
    """The time alone, and how many of the cells it covers if not all."""
    if estimate.seconds is None:
        return "not measured"
    bound = "at most" if estimate.bounded else "about"
    return f"{bound} {duration(estimate.seconds)}" + _part(estimate.timed, estimate.cells)


class Past:
    """Good records, by all that a job may look for them by."""

    def __init__(self, output_dir: Path) -> None:
        self.found: dict[str, list[Record]] = {}
        for path in sorted(output_dir.rglob(record.FILE_NAME)):
            try:
                found = record.read(path)
            except InputError:
                continue  # `states` names it, if its cell is asked for
            self.add(found)

    def add(self, found: Record) -> None:
        """Learn from one more record, unless it measured nothing."""
        if found.status != "ok" or not found.steps or found.cost.train_seconds is None:
            return
        model, settings = found.inputs.get("model"), found.settings
        keys = _time_keys(model, found.provenance.device != "cpu", settings)
        keys += _step_keys(settings)
        if found.cost.delta_bytes is not None and found.params is not None:
            keys += _byte_keys(model, settings)
        for key in keys:
            self.found.setdefault(key, []).append(found)

    def estimate(
        self, jobs: Sequence[Job], workers: int, begun: Mapping[Path, int] = MappingProxyType({})
    ) -> Estimate:
        """What is left of `jobs`, `workers` at a time.

        begun: steps done by directory of a job, where more are done than its checkpoint has.
        """
        times, sizes, bounded = [], [], 0
        basis: Counter[str] = Counter()
        for job in jobs:
            done = begun.get(job.directory) or status.checkpoint_step(job.directory) or 0
            steps, bound = self.steps(job, done)
            near, seconds = self.seconds(job, steps, done)
            size = self.bytes(job)
            sizes += [] if size is None else [size]
            if seconds is not None:
                times.append(seconds)
                basis[near] += 1
                bounded += bound
        return Estimate(
            seconds=together(times, workers) if times else None,
            bytes=round(sum(sizes)) if sizes else None,
            cells=len(jobs),
            timed=len(times),
            sized=len(sizes),
            bounded=bounded,
            basis=", ".join(f"{_cells(n)} by records {near}" for near, n in basis.items()),
        )

    def _nearest(self, keys: Sequence[str]) -> tuple[int, list[Record]]:
        """Which of the keys is the first that has records, and these."""
        for number, key in enumerate(keys):
            if key in self.found:
                return number, self.found[key]
        return len(keys), []

    def steps(self, job: Job, done: int) -> tuple[float, bool]:
        """Steps that the job will run in all; whether that is a bound for want of a record.

        done: steps that it has run. A record of fewer says nothing of where it will end.
        """
        train = job.cell.train
        total = container.total_steps(train, job.data.examples["train"])
        _, alike = self._nearest(_step_keys(job.cell.settings))
        ends = [found.steps if found.stopped_by == "patience" else total for found in alike]
        further = [end for end in ends if end > done]
        if further:
            return min(statistics.median(further), total), False
        counts = job.cell.make_method().scores_at
        return total, container.first_stop(train, total, counts) is not None

    def seconds(self, job: Job, steps: float, done: int) -> tuple[str, float | None]:
        """How near the nearest records are, and what they say of the steps after `done`.

        None without any.
        """
        on_cuda = device.pick(job.cell.setup.device).type == "cuda"
        keys = _time_keys(job.source.sha256, on_cuda, job.cell.settings)
        number, near = self._nearest(keys)
        if not near:
            return "", None
        own = statistics.median(_scaled(found, job.cell.train, steps, done) for found in near)
        return NEAR[number], own + min(map(_rest, self.found[keys[-1]]))

    def bytes(self, job: Job) -> float | None:
        """Of the job's delta."""
        settings = job.cell.settings
        _, near = self._nearest(_byte_keys(job.source.sha256, settings))
        return statistics.median(_sized(found, settings) for found in near) if near else None


def _time_keys(model: str | None, on_cuda: bool, settings: Mapping[str, Any]) -> list[str]:
    like, method = settings["task"]["like"], settings["method"]["name"]
    tiers = ([like, method], [method], [])
    return [_key("time", model, on_cuda, *tier) for tier in tiers]


def _step_keys(settings: Mapping[str, Any]) -> list[str]:
    """Runs of the same training: of the same task and method, or of any."""
    like, method, train = settings["task"]["like"], settings["method"]["name"], settings["train"]
    return [_key("steps", train, like, method), _key("steps", train)]


def _byte_keys(model: str | None, settings: Mapping[str, Any]) -> list[str]:
    like, method = settings["task"]["like"], settings["method"]
    tiers = ([like, method], [method], [method["name"]])
    return [_key("bytes", model, *tier) for tier in tiers]


def _key(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def _scaled(found: Record, train: Train, steps: float, done: int) -> float:
    """Seconds of training, evaluating and selecting, were it this training after `done` steps."""
    old = found.settings["train"]
    cost = found.cost
    ratio = train.batch_size * train.gradient_accumulation
    ratio /= old["batch_size"] * old["gradient_accumulation"]
    last = round(steps)
    scored = container.evaluations(train, last)
    due = sum(1 for step in scored if step > done) + (last not in scored and last > done)
    return (
        cost.train_seconds * ratio * (steps - done) / found.steps
        + (cost.eval_seconds or 0.0) * (due + 1) / (len(found.history) + 1)
        + (0.0 if done else cost.select_seconds or 0.0)
    )


def _rest(found: Record) -> float:
    """Wall-clock seconds from a run's first start to its end that are not in its cost."""
    started, finished = (
        datetime.datetime.fromisoformat(text)
        for text in (found.provenance.started, found.provenance.finished)
    )
    return max(0.0, (finished - started).total_seconds() - (counted(found.cost) or 0.0))


def _sized(found: Record, settings: Mapping[str, Any]) -> float:
    old, new = (s["method"].get("density") for s in (found.settings, settings))
    head = min(BYTES_PER_WEIGHT * found.params.head, found.cost.delta_bytes)
    return head + (found.cost.delta_bytes - head) * (new / old if old and new else 1)


def _cells(count: int) -> str:
    return f"{count} cell" if count == 1 else f"{count} cells"


def _part(covered: int, cells: int) -> str:
    return "" if covered == cells else f" for {covered} of {cells} cells, the others not measured"


def _amount(size: float) -> str:
    if size < 1000:
        return f"{size:.0f} bytes"
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
