"""Whether one method differs from each other one, task by task: Tables 5 and 6, and Welch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from jiant_sparse.report import published
from jiant_sparse.report.numbers import fixed, probability
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    hedges_g,
    holm,
    pooled,
    welch,
)
from jiant_sparse.report.summary import Group, Row, Summary
from jiant_sparse.report.table import Cell, Column, Table, Tone
from jiant_sparse.report.words import comparability_briefly

# The method whose tests the paper prints.
PUBLISHED_REFERENCE = "sam"
FIELDS = ("benchmark", "task", "reference", "method", "n_reference", "n", "t", "df", "p", "holm_p",
          "hedges_g")  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """A test, and what to say of it; `with_paper` if the paper's tables are of it."""

    name: str
    title: str
    about: str
    test: Callable[[Sample | None, Sample | None], Test | None]
    with_paper: bool


POOLED = _Kind(
    "significance_pooled",
    "t-test, pooled variance",
    "Student's two-sample t-test as the paper has it: the two variances are taken for equal.",
    pooled,
    True,
)
WELCH = _Kind(
    "significance_welch",
    "t-test, Welch",
    "Welch's two-sample t-test: the two variances may differ, as they do between these methods.",
    welch,
    False,
)


@dataclass(frozen=True)
class _Comparison:
    """The reference against another row on one task."""

    row: Row
    ours: Group
    theirs: Group
    test: Test | None
    corrected: float | None

    @property
    def effect(self) -> float | None:
        """Hedges' g of the reference over the other."""
        return hedges_g(self.ours.sample, self.theirs.sample)

    @property
    def published(self) -> tuple[float, float] | None:
        """t and p of Table 5 or 6, if these two stand beside the same table of scores."""
        values = (self.ours.published, self.theirs.published)
        tables = {value.table if value else None for value in values}
        if len(tables) > 1 or None in tables:
            return None
        number = published.TESTS_OF[tables.pop()]
        return published.t_test(self.row.key, self.ours.task.published_title, number)


def significance(summary: Summary, reference: Row) -> tuple[Table, ...]:
    """t and p of `reference`, a row of the summary, against each other row: pooled and Welch.

    Positive t: the reference is better. Holm's correction is over all tests of a table. No table
    if there is no other row.
    """
    if len(summary.rows) < 2:
        return ()
    return tuple(_table(summary, reference, kind) for kind in (POOLED, WELCH))


def _table(summary: Summary, reference: Row, kind: _Kind) -> Table:
    compared = list(_compared(summary, reference, kind))
    alike = _alike(compared)
    beside = kind.with_paper and reference.key == PUBLISHED_REFERENCE
    width = len(summary.tasks)
    rows = [
        (
            Cell(compared[i].row.label),
            *(_cell(item, beside, alike) for item in compared[i : i + width]),
        )
        for i in range(0, len(compared), width)
    ]
    caption = (
        f"{kind.about} {reference.label} minus each other method, on the test scores of the seeds; "
        f"positive t: {reference.label} is better. p is two-sided."
    )
    return Table(
        name=kind.name,
        title=f"{reference.label} against each method: {kind.title}",
        caption=caption,
        columns=(Column("method"), *(Column(task.title, "t") for task in summary.tasks)),
        rows=tuple(rows),
        fields=FIELDS + (("published_t", "published_p") if beside else ()),
        lines=tuple(_line(summary, reference, item, beside) for item in compared),
        notes=_notes(summary, compared, beside, alike),
    )


def _compared(summary: Summary, reference: Row, kind: _Kind) -> Iterator[_Comparison]:
    pairs = [
        (row, ours, theirs)
        for row in summary.rows
        if row.label != reference.label
        for ours, theirs in zip(reference.groups, row.groups, strict=True)
    ]
    tests = [kind.test(ours.sample, theirs.sample) for _, ours, theirs in pairs]
    corrected = holm([test.p if test else None for test in tests])
    for pair, test, p in zip(pairs, tests, corrected, strict=True):
        yield _Comparison(*pair, test, p)


def _alike(compared: list[_Comparison]) -> str:
    """Why none of all comparisons has a test; empty if one has, or not all for the same reason."""
    reasons = {"" if item.test else _why(item) for item in compared}
    return reasons.pop() if len(reasons) == 1 else ""


def _cell(item: _Comparison, beside: bool, alike: str) -> Cell:
    found = item.published if beside else None
    paper = f"paper t {fixed(found[0], 2)}, p {probability(found[1], 2)}" if found else ""
    if item.test is None:
        why = "" if alike else _why(item)
        return Cell(note="; ".join(part for part in (why, paper) if part), tone="quiet")
    said = (
        f"p {probability(item.test.p)}, Holm {probability(item.corrected)}, "
        f"g {fixed(item.effect, 2)}"
    )
    tone: Tone = ""
    if item.corrected is not None and item.corrected < LEVEL:
        word, tone = ("better", "good") if item.test.t > 0 else ("worse", "alarm")
        said = f"{word}: {said}"
    note = "; ".join(part for part in (said, paper) if part)
    return Cell(fixed(item.test.t, 2), item.test.t, note=note, tone=tone)


def _why(item: _Comparison) -> str:
    """Why there is no test."""
    numbers = (item.ours.score.n, item.theirs.score.n)
    if min(numbers) < MINIMUM_RUNS:
        if numbers[0] == numbers[1]:
            return f"{numbers[0]} run{'' if numbers[0] == 1 else 's'} each"
        return f"{numbers[0]} against {numbers[1]} runs"
    return "neither varies"


def _line(summary: Summary, reference: Row, item: _Comparison, beside: bool) -> tuple[object, ...]:
    test, numbers = item.test, (item.ours.score.n, item.theirs.score.n)
    where = (summary.benchmark, item.ours.task.label, reference.label, item.row.label)
    found = (test.t, test.df, test.p) if test else (None, None, None)
    paper = (item.published or (None, None)) if beside else ()
    return (*where, *numbers, *found, item.corrected, item.effect, *paper)


def _notes(
    summary: Summary, compared: list[_Comparison], beside: bool, alike: str
) -> tuple[str, ...]:
    tested = sum(item.test is not None for item in compared)
    notes = []
    if tested:
        notes += [
            f"Holm: p corrected for all {tested} tests of this table; better and worse are said of "
            f"a p below {LEVEL} after it. g: Hedges' g, the difference in pooled standard "
            "deviations.",
            "Runs of one seed share their data and its order between methods; the tests take them "
            "for independent, as the paper's do.",
        ]
    if tested < len(compared):
        notes.append(
            f"{len(compared) - tested} of {len(compared)} comparisons have no test"
            f"{f', {alike}' if alike else ''}: it needs {MINIMUM_RUNS} runs on each side, and one "
            "side that varies."
        )
    if beside and any(item.published for item in compared):
        notes.append("paper: Tables 5 and 6, pooled, 10 runs each, p to two decimals.")
        notes.append(f"The paper's t and these are {comparability_briefly(summary)}.")
    return tuple(notes)
