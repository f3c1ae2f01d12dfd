"""One result set against another, or against the published tables, in every place of the tables."""

import math
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jiant_sparse.report import caveats, published
from jiant_sparse.report.comparison.sets import Set
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    hedges_g,
    holm,
    welch,
    welch_contrast,
)
from jiant_sparse.report.summary import Group, Row
from jiant_sparse.schema.record import Record


@dataclass(frozen=True)
class Side:
    """A mean and population deviation in percent; the samples of its tasks (one, or AVG's)."""

    n: int
    mean: float | None
    std: float | None
    samples: tuple[Sample | None, ...]


@dataclass(frozen=True)
class Pair:
    """One set against the baseline in one place. `step_ratio`: its step time, the mean of the
    seeds' medians, over that of the baseline; `reasons`: why they are of different things."""

    ours: Side
    base: Side
    reasons: tuple[str, ...]
    step_ratio: float | None
    test: Test | None = None
    corrected: float | None = None

    @property
    def word(self) -> str:
        """What can be said of the two, after Holm's correction."""
        if self.ours.mean is None or self.base.mean is None:
            return "no result"
        if self.reasons:
            return "not comparable"
        if min(self.ours.n, self.base.n) < MINIMUM_RUNS:
            return "too few runs"
        if self.test is None or self.corrected is None:
            return "no spread"
        if self.corrected >= LEVEL:
            return "no difference seen"
        return "higher" if self.test.t > 0 else "lower"

    @property
    def difference(self) -> float | None:
        """Percentage points above the baseline; None where there is nothing to subtract."""
        if self.word in ("no result", "not comparable"):
            return None
        return self.ours.mean - self.base.mean

    @property
    def effect(self) -> float | None:
        """Hedges' g; None for AVG, which has no runs of its own."""
        if self.test is None or len(self.ours.samples) > 1:
            return None
        return hedges_g(self.ours.samples[0], self.base.samples[0])


@dataclass(frozen=True)
class Line:
    """One place, a task or AVG, and a method: every set's score, and the pairs of all others."""

    task: str
    method: str
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]


def compare(baseline: Set | None, others: Sequence[Set]) -> list[Line]:
    """Every place that any set has records for, in the order of the first; AVG after a method's
    tasks if there are several. None stands for the published tables.

    Holm's correction is over all pairs.
    """
    return _corrected([*_lines(baseline, others)])


def _lines(baseline: Set | None, others: Sequence[Set]) -> Iterator[Line]:
    sets = [baseline, *others] if baseline else others
    rows = [{row.label: row for row in item.summary.rows} for item in sets]
    tasks = {task.label: task.title for item in sets for task in item.summary.tasks}
    for method in dict.fromkeys(label for known in rows for label in known):
        its = [known.get(method) for known in rows]
        for task, title in tasks.items():
            groups = [_group(row, task) for row in its]
            if any(group and group.records for group in groups):
                yield _line((title, method), [(group,) for group in groups], bool(baseline))
        if len(tasks) > 1 and any(row and row.ok for row in its):
            parts = [row.groups if row else () for row in its]
            yield _line((published.AVERAGE, method), parts, bool(baseline))


def _group(row: Row | None, task: str) -> Group | None:
    groups = row.groups if row else ()
    return next((group for group in groups if group.task.label == task), None)


def _line(place: tuple[str, str], parts: Sequence[Sequence[Group | None]], measured: bool) -> Line:
    """`parts`: for each set the groups that are averaged there; only one of a single task."""
    sides = tuple(map(_side, parts))
    average = place[0] == published.AVERAGE
    if measured:
        pairs = [_pair(parts[0], groups, average) for groups in parts[1:]]
    else:
        pairs = [_against_published(groups, average) for groups in parts]
    return Line(*place, sides, tuple(pairs))


def _side(groups: Sequence[Group | None]) -> Side:
    """The mean of the means and of the deviations, as AVG has it; unknown if any is."""
    known = [group for group in groups if group]
    whole = bool(known) and len(known) == len(groups)
    return _of([(g.score.n, g.score.mean, g.score.std, g.sample) for g in known] if whole else [])


def _of(parts: Sequence[tuple[int, float | None, float | None, Sample | None]]) -> Side:
    ns, means, stds, samples = zip(*parts, strict=True) if parts else ((), (), (), ())
    return Side(min(ns, default=0), _mean(means), _mean(stds), tuple(samples))


def _mean(values: Sequence[float | None]) -> float | None:
    return statistics.fmean(values) if values and None not in values else None


def _pair(base: Sequence[Group | None], ours: Sequence[Group | None], average: bool) -> Pair:
    by_task = {group.task.label: group for group in base if group}
    both = [(group, by_task.get(group.task.label)) for group in ours if group]
    over = _over(by_task, [group.task.label for group, _ in both]) if average else ()
    reasons = dict.fromkeys(over)
    for group, other in both:
        if other and group.records and other.records:
            where = f"{group.task.title}: " if average else ""
            reasons.update({f"{where}{reason}": None for reason in _apart(group, other)})
    ratios = [] if over else [_step_ratio(group, other) for group, other in both]
    known = [math.log(ratio) for ratio in ratios if ratio]
    ratio = math.exp(_mean(known)) if known and len(known) == len(ratios) else None
    return _tested(Pair(_side(ours), _side(base), tuple(reasons), ratio))


def _over(base: Collection[str], ours: Collection[str]) -> tuple[str, ...]:
    """Why the averages over these tasks are not compared."""
    if set(base) != set(ours):
        return ("AVG is over other tasks",)
    # It would be the task's own test once more.
    return ("AVG is over one task",) if len(ours) == 1 else ()


def _against_published(groups: Sequence[Group | None], average: bool) -> Pair:
    known = [group for group in groups if group]
    values = [group.published for group in known]
    reasons = dict.fromkeys(
        f"{group.task.title}: {reason}" if average else reason
        for group in known
        for reason in group.departures or ()
    )
    n = published.RUNS
    base = [(n, v.mean, v.std, Sample.published(v.mean, v.std, n)) for v in values if v]
    titles = [group.task.published_title for group in known]
    whole = not average or published.are_all_tasks(titles)
    complete = whole and len(base) == len(values)
    return _tested(Pair(_side(groups), _of(base if complete else []), tuple(reasons), None))


def _tested(pair: Pair) -> Pair:
    if None in (pair.ours.mean, pair.base.mean):
        return replace(pair, reasons=())
    if pair.reasons:
        return pair
    if len(pair.ours.samples) == 1:
        return replace(pair, test=welch(pair.ours.samples[0], pair.base.samples[0]))
    share = 1 / len(pair.ours.samples)
    parts = [(share, sample) for sample in pair.ours.samples]
    return replace(
        pair, test=welch_contrast([*parts, *((-share, sample) for sample in pair.base.samples)])
    )


def _apart(group: Group, other: Group) -> Iterator[str]:
    """Why two groups are not of the same thing."""
    kinds = (
        ("task", lambda record: _named(record, "task", "like")),
        ("method", lambda record: _named(record, "method", "name")),
        ("metric", lambda record: record.primary and record.primary.name),
    )
    for name, of in kinds:
        one, two = ({str(of(record)) for record in g.ok} for g in (group, other))
        if one != two:
            yield f"{name} is {' and '.join(sorted(one))}, not {' and '.join(sorted(two))}"
    chosen = [{caveats.is_chosen_on(record) for record in g.ok} for g in (group, other)]
    if chosen[0] != chosen[1]:
        yield "on one side the test set also chose the best step"
    left_out = [
        {r.provenance.dropped_examples.get("test", 0) for r in g.ok} for g in (group, other)
    ]
    if left_out[0] != left_out[1]:
        yield "other test rows were left out"
    files = [{record.inputs.get("test") for record in g.ok} for g in (group, other)]
    if None in files[0] | files[1]:
        yield "test data are not recorded"
    elif files[0] != files[1]:
        yield "test data differ"


def _named(record: Record, part: str, field: str) -> object:
    settings = record.settings.get(part)
    return settings.get(field) if isinstance(settings, Mapping) else None


def _step_ratio(group: Group, other: Group | None) -> float | None:
    times = []
    for one in (group, other):
        known = [record.cost.step_milliseconds_median for record in one.ok] if one else []
        known = [value for value in known if value is not None]
        times.append(_mean(known))
    return times[0] / times[1] if times[0] and times[1] else None


def _corrected(lines: Sequence[Line]) -> list[Line]:
    pairs = [pair for line in lines for pair in line.pairs]
    corrected = iter(holm([pair.test.p if pair.test else None for pair in pairs]))
    return [
        replace(line, pairs=tuple(replace(pair, corrected=next(corrected)) for pair in line.pairs))
        for line in lines
    ]
