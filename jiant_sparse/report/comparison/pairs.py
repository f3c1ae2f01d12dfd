"""One result set against another, or against the published tables, on every task and on AVG."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jiant_sparse.report import published
from jiant_sparse.report.comparison.sets import ResultSet
from jiant_sparse.report.frame import spread
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    hedges_g,
    holm,
    welch_contrast,
)
from jiant_sparse.report.stochastic import SPLIT
from jiant_sparse.schema.record import Record

PUBLISHED = "published"
# A row of a frame's results: one method on one task.
Result = Mapping[str, Any]


@dataclass(frozen=True)
class Side:
    """Mean and population deviation of n runs in percent, and the samples of the tasks behind it.

    n of AVG is the smallest of its tasks; without results n is 0 and all else is unknown.
    """

    n: int
    mean: float | None
    std: float | None
    samples: tuple[Sample | None, ...]


@dataclass(frozen=True)
class Pair:
    """One set against the baseline on one task or on AVG, and what Welch's test says.

    reasons: why the two sides are results of different things. step_ratio: our step time, the mean
    of the seeds' medians, over the baseline's. holm_p: p after Holm's correction over all pairs.
    """

    task: str
    method: str
    ours: Side
    base: Side
    reasons: tuple[str, ...]
    step_ratio: float | None
    test: Test | None = None
    holm_p: float | None = None

    @property
    def word(self) -> str:
        """What can be said of the pair, after Holm's correction."""
        if self.ours.mean is None or self.base.mean is None:
            return "no result"
        if self.reasons:
            return "not comparable"
        if min(self.ours.n, self.base.n) < MINIMUM_RUNS:
            return "too few runs"
        if self.test is None or self.holm_p is None:
            return "no spread"
        if self.holm_p >= LEVEL:
            return "no difference seen"
        return "higher" if self.test.t > 0 else "lower"

    @property
    def difference(self) -> float | None:
        """Percentage points above the baseline; None where there is nothing to subtract."""
        if self.reasons or self.ours.mean is None or self.base.mean is None:
            return None
        return self.ours.mean - self.base.mean

    @property
    def effect(self) -> float | None:
        """Hedges' g; None without a test, and for AVG, which has no runs of its own."""
        single = self.test is not None and len(self.ours.samples) == 1
        return hedges_g(self.ours.samples[0], self.base.samples[0]) if single else None


def pairs(baseline: ResultSet | None, others: Sequence[ResultSet]) -> list[tuple[Pair, ...]]:
    """Compare wherever any set has records: for each place a pair for each of `others`.

    The places of a method are its tasks, in the order of the first set, and AVG if there are
    several tasks. A baseline of None is the published tables.
    """
    found = [*_places(baseline, others)]
    tests = (pair.test for place in found for pair in place)
    corrected = iter(holm([test.p if test else None for test in tests]))
    return [tuple(replace(pair, holm_p=next(corrected)) for pair in place) for place in found]


def _places(baseline: ResultSet | None, others: Sequence[ResultSet]) -> Iterator[list[Pair]]:
    frames = [item.frame for item in ([baseline, *others] if baseline else others)]
    titles = {
        task: title
        for frame in frames
        for task, title in frame.tasks[["task", "title"]].itertuples(index=False)
    }
    for method in dict.fromkeys(label for frame in frames for label in frame.methods["method"]):
        rows = [frame.of(method).to_dict("records") for frame in frames]
        for task, title in titles.items():
            here = [[row for row in its if row["task"] == task] for its in rows]
            if any(row["records"] for its in here for row in its):
                yield _against(title, method, here, measured=bool(baseline))
        if len(titles) > 1 and any(map(_ok, (row for its in rows for row in its))):
            yield _against(published.AVERAGE, method, rows, measured=bool(baseline))


def _against(
    task: str, method: str, rows: Sequence[Sequence[Result]], *, measured: bool
) -> list[Pair]:
    """The pairs of one place. rows: for each set a single result, or for AVG those of all tasks;
    if `measured`, the first set is the baseline."""
    average = task == published.AVERAGE
    found = []
    for ours in rows[1:] if measured else rows:
        over = _over(rows[0], ours) if measured and average else None
        ratio = _step_ratio(rows[0], ours) if measured and not over else None
        base = _side(rows[0]) if measured else _published(ours, average)
        apart = _reasons(rows[0], ours, average) if measured else _departures(ours, average)
        reasons = tuple(dict.fromkeys([*([over] if over else []), *apart]))
        found.append(_tested(Pair(task, method, _side(ours), base, reasons, ratio)))
    return found


def _side(rows: Sequence[Result]) -> Side:
    parts = [spread(row["values"]) for row in rows]
    ns, means, stds = zip(*parts, strict=True) if parts else ((), (), ())
    samples = tuple(Sample.of(row["values"]) for row in rows)
    return Side(min(ns, default=0), _mean(means), _mean(stds), samples)


def _published(rows: Sequence[Result], average: bool) -> Side:
    """The published side of these results; unknown unless it is over the same tasks."""
    values = [(row["published_mean"], row["published_std"]) for row in rows]
    whole = not average or published.are_all_tasks(row["published_title"] for row in rows)
    if not (whole and values) or any(math.isnan(mean) for mean, _ in values):
        return Side(0, None, None, ())
    means, stds = zip(*values, strict=True)
    samples = tuple(Sample.published(mean, std, published.RUNS) for mean, std in values)
    return Side(published.RUNS, _mean(means), _mean(stds), samples)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _tested(pair: Pair) -> Pair:
    if pair.ours.mean is None or pair.base.mean is None:
        return replace(pair, reasons=())
    if pair.reasons:
        return pair
    share = 1 / len(pair.ours.samples)
    parts = [(share, sample) for sample in pair.ours.samples]
    parts += [(-share, sample) for sample in pair.base.samples]
    return replace(pair, test=welch_contrast(parts))


def _departures(rows: Sequence[Result], average: bool) -> Iterator[str]:
    """In which settings our results are not the published experiment."""
    for row in rows:
        where = f"{row['title']}: " if average else ""
        for name, values in (row["departures"] or {}).items():
            yield from (f"{where}{name} is {value}" for value in values)


def _over(base: Sequence[Result], ours: Sequence[Result]) -> str | None:
    """Why two AVGs are not compared; None if they are over the same several tasks."""
    if {row["task"] for row in base} != {row["task"] for row in ours}:
        return "AVG is over other tasks"
    # It would be the task's own test once more.
    return "AVG is over one task" if len(ours) == 1 else None


def _reasons(base: Sequence[Result], ours: Sequence[Result], average: bool) -> Iterator[str]:
    """Why the results of two sets are of different things."""
    by_task = {row["task"]: row for row in base}
    for row in ours:
        other = by_task.get(row["task"])
        if other and row["records"] and other["records"]:
            where = f"{row['title']}: " if average else ""
            yield from (f"{where}{reason}" for reason in _apart(_ok(row), _ok(other)))


# What two sides must have in common, and what is said if they do not.
_ALIKE: tuple[tuple[str, Callable[[Record], Any]], ...] = (
    ("task is {}, not {}", lambda record: _named(record, "task", "like")),
    ("method is {}, not {}", lambda record: _named(record, "method", "name")),
    ("metric is {}, not {}", lambda record: record.primary and record.primary.name),
    (
        "on one side the test set also chose the best step",
        lambda record: record.settings.get("split") == SPLIT,
    ),
    (
        "other test rows were left out",
        lambda record: record.provenance.dropped_examples.get("test", 0),
    ),
)


def _apart(ours: Sequence[Record], base: Sequence[Record]) -> Iterator[str]:
    for words, of in _ALIKE:
        one, two = ({of(record) for record in records} for records in (ours, base))
        if one != two:
            yield words.format(*(" and ".join(sorted(map(str, side))) for side in (one, two)))
    one, two = ({record.inputs.get("test") for record in records} for records in (ours, base))
    if None in one | two:
        yield "test data are not recorded"
    elif one != two:
        yield "test data differ"


def _ok(row: Result) -> list[Record]:
    return [record for record in row["records"] if record.status == "ok"]


def _named(record: Record, part: str, field: str) -> object:
    settings = record.settings.get(part)
    return settings.get(field) if isinstance(settings, Mapping) else None


def _step_ratio(base: Sequence[Result], ours: Sequence[Result]) -> float | None:
    """Our step time over the baseline's; over several tasks the geometric mean."""
    times = {row["task"]: row["step_milliseconds_median"] for row in base}
    both = [(row["step_milliseconds_median"], times.get(row["task"], 0.0)) for row in ours]
    logs = [math.log(one / other) for one, other in both if one > 0 and other > 0]
    return math.exp(statistics.fmean(logs)) if logs and len(logs) == len(both) else None
