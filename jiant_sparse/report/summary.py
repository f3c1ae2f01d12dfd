"""From records to the report's numbers: every mean, rank and gap, and nothing of their looks."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.report.collect import Skipped
from jiant_sparse.report.published import Value
from jiant_sparse.report.statistics import Sample
from jiant_sparse.schema.record import Record


@dataclass(frozen=True)
class Spread:
    """Mean and population standard deviation of n values; no deviation below two values."""

    n: int
    mean: float | None
    std: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of `values`; of none, everything is unknown."""
        mean = statistics.fmean(values) if values else None
        return cls(len(values), mean, statistics.pstdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Task:
    """A column: its label in the benchmark, the known task that it is a variant of, its heading,
    the name that the paper gives it, the metric that its records report, and what always giving
    the most frequent answer scores on its test set, in percent (None: unknown, or no classes)."""

    label: str
    like: str | None
    title: str
    published_title: str | None
    metric: str | None
    majority: float | None


@dataclass(frozen=True)
class Group:
    """One method on one task: the cells of all seeds. Values are in percent."""

    task: Task
    method: str
    records: tuple[Record, ...]
    missing: tuple[int, ...] | None
    score: Spread
    rank: int | None
    std_rank: int | None
    published: Value | None
    departures: tuple[str, ...] | None

    @property
    def sample(self) -> Sample | None:
        """The score as a statistical test wants it; None below two values."""
        return Sample.of(self.values)

    @property
    def ok(self) -> tuple[Record, ...]:
        """The cells that ended well."""
        return tuple(record for record in self.records if record.status == "ok")

    @property
    def failed(self) -> tuple[Record, ...]:
        """The cells that did not."""
        return tuple(record for record in self.records if record.status == "failed")

    @property
    def values(self) -> tuple[float, ...]:
        """The test values behind the score, by seed."""
        return tuple(v for record in self.ok if (v := test_percent(record)) is not None)

    @property
    def undefined(self) -> tuple[Record, ...]:
        """Cells that ended well but hold no test value."""
        return tuple(record for record in self.ok if test_percent(record) is None)

    @property
    def complete(self) -> bool:
        """Whether every planned cell has a test value."""
        return not (self.failed or self.missing or self.undefined)

    @property
    def difference(self) -> float | None:
        """Percentage points above the published mean."""
        if self.score.mean is None or self.published is None:
            return None
        return self.score.mean - self.published.mean


@dataclass(frozen=True)
class Average:
    """The paper's AVG: mean of the tasks' means, mean of their deviations; over all tasks or not
    at all. `with_value` of `tasks` tasks have a mean."""

    mean: float | None
    std: float | None
    rank: int | None
    std_rank: int | None
    with_value: int
    tasks: int
    published: Value | None

    @property
    def difference(self) -> float | None:
        """Percentage points above the published AVG."""
        if self.mean is None or self.published is None:
            return None
        return self.mean - self.published.mean


@dataclass(frozen=True)
class Row:
    """A method: its label in the benchmark, its key in the house, its groups in column order."""

    label: str
    key: str | None
    groups: tuple[Group, ...]
    average: Average

    @property
    def ok(self) -> tuple[Record, ...]:
        """Its cells that ended well, over all tasks."""
        return tuple(record for group in self.groups for record in group.ok)

    @property
    def complete(self) -> bool:
        """Whether every planned cell of every task has a test value."""
        return all(group.complete for group in self.groups)


@dataclass(frozen=True)
class Summary:
    """A whole benchmark. `missing` is None if no manifest says what was planned; `lost` names the
    cells whose delta is not there."""

    benchmark: str
    directory: Path
    tasks: tuple[Task, ...]
    rows: tuple[Row, ...]
    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    missing: int | None
    unplanned: int
    lost: tuple[str, ...] = ()

    @property
    def groups(self) -> list[Group]:
        """All groups, task by task."""
        return [row.groups[i] for i in range(len(self.tasks)) for row in self.rows]

    def row(self, label: str) -> Row | None:
        """The row of this label; None if there is none."""
        return next((row for row in self.rows if row.label == label), None)

    def keyed(self, key: str) -> Row | None:
        """The row that stands for a method's key: of several, the one that is labelled so."""
        rows = [row for row in self.rows if row.key == key]
        return rows[0] if len(rows) == 1 else next((r for r in rows if r.label == key), None)

    @property
    def failed(self) -> int:
        """The number of failed cells."""
        return sum(record.status == "failed" for record in self.records)


def test_percent(record: Record) -> float | None:
    """The primary test metric of a cell that ended well, in percent."""
    if record.status != "ok" or record.primary is None or record.primary.test is None:
        return None
    return 100 * record.primary.test


def share_percent(records: Iterable[Record], count: str) -> float | None:
    """Mean over the cells with counts of `count` (of `Params`) in percent of eligible weights."""
    shares = [
        100 * number / record.params.eligible
        for record in records
        if record.params and record.params.eligible
        if (number := getattr(record.params, count)) is not None
    ]
    return statistics.fmean(shares) if shares else None


def by_step(records: Iterable[Record]) -> bool:
    """Whether what these cells tuned is not the same weights at every step."""
    return any(r.params is not None and r.params.moved_per_step is not None for r in records)


def mean_count(records: Iterable[Record], count: str) -> float | None:
    """The mean of one of the counts of weights over the cells that have it."""
    found = [getattr(record.params, count) for record in records if record.params]
    counts = [number for number in found if number is not None]
    return statistics.fmean(counts) if counts else None


def largest_first(values: Sequence[float | None]) -> list[int | None]:
    """Ranks: 1 for the largest; equal values share the smaller rank; None has none."""
    # Rounded first: two sums of equal real value may differ in their last bit.
    known = [None if value is None else round(value, 9) for value in values]
    ordered = sorted((value for value in known if value is not None), reverse=True)
    first = {value: place for place, value in reversed(list(enumerate(ordered, 1)))}
    return [None if value is None else first[value] for value in known]


def smallest_first(values: Sequence[float | None]) -> list[int | None]:
    """As `largest_first`, from the other end: 1 for the smallest."""
    return largest_first([None if value is None else -value for value in values])
