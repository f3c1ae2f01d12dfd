"""Whether a measured mean could be the published one: Welch's test, two-sided, at LEVEL.

Its p is as it is, not corrected for how many results a report compares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jiant_sparse.report.published import RUNS, Value
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    welch,
    welch_contrast,
)
from jiant_sparse.report.summary import Group, Row

Word = Literal["compatible", "higher", "lower", "not comparable", "too few runs", "no spread"]


@dataclass(frozen=True)
class Compatibility:
    """How a measured mean stands to the published one.

    word: `compatible`, `higher` or `lower` than published at LEVEL; `not comparable` if it is
        another experiment, `too few runs` below MINIMUM_RUNS, `no spread` if neither side varies.
    test: measured minus published; None unless the word is one of the first three.
    reasons: why it is another experiment, or what a test lacks.
    """

    word: Word
    test: Test | None = None
    reasons: tuple[str, ...] = ()


def of(group: Group) -> Compatibility | None:
    """The result of one method on one task; None if nothing is published or there is no result."""
    if group.published is None or group.score.mean is None:
        return None
    if group.departures:
        return Compatibility("not comparable", None, group.departures)
    sample = group.sample
    if sample is None or sample.n < MINIMUM_RUNS:
        return Compatibility("too few runs", None, (_runs(group),))
    return _judged(welch(sample, _published(group.published)))


def of_average(row: Row) -> Compatibility | None:
    """The AVG of a method, over the same tasks on both sides; None as in `of`.

    The variance of a mean of task means is the sum of theirs over the square of their number. A
    row with a single group of another experiment is not comparable as a whole.
    """
    if row.average.published is None or row.average.mean is None:
        return None
    apart = dict.fromkeys(reason for group in row.groups for reason in group.departures or ())
    if apart:
        return Compatibility("not comparable", None, tuple(apart))
    short = [group for group in row.groups if group.score.n < MINIMUM_RUNS]
    if short:
        said = tuple(f"{group.task.title}: {_runs(group)}" for group in short)
        return Compatibility("too few runs", None, said)
    return _judged(_contrast(row.groups))


def _contrast(groups: Sequence[Group]) -> Test | None:
    parts = []
    for group in groups:
        if group.sample is None or group.published is None:
            return None
        share = 1 / len(groups)
        parts += [(share, group.sample), (-share, _published(group.published))]
    return welch_contrast(parts)


def _judged(test: Test | None) -> Compatibility:
    if test is None:
        return Compatibility("no spread", None, ("neither side varies from run to run",))
    if test.p >= LEVEL:
        return Compatibility("compatible", test)
    return Compatibility("higher" if test.t > 0 else "lower", test)


def _published(value: Value) -> Sample:
    return Sample.published(value.mean, value.std, RUNS)


def _runs(group: Group) -> str:
    number = group.score.n
    return f"{number} run{'' if number == 1 else 's'}; a test needs {MINIMUM_RUNS}"
