"""Result sets beside each other: each against one of them, or against the published tables."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from jiant_sparse.report import caveats
from jiant_sparse.report.comparison import pairs
from jiant_sparse.report.comparison.pairs import Line, Pair, Side
from jiant_sparse.report.comparison.sets import Difference, Set
from jiant_sparse.report.numbers import fixed, probability, signed
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.statistics import LEVEL, MINIMUM_RUNS
from jiant_sparse.report.table import Cell, Column, Table

PUBLISHED = "published"
FIELDS = (
    *("task", "method", "set", "baseline", "n", "mean", "std", "n_baseline", "mean_baseline"),
    *("std_baseline", "difference", "t", "df", "p", "holm_p", "hedges_g", "step_time_ratio"),
    *("word", "reasons"),
)
# Things that differ, by name in the caption.
MOST_NAMED = 12
# Reasons that a cell names; the CSV has them all.
MOST_REASONS = 2
_TONES = {"higher": "good", "lower": "alarm"}


def comparison(sets: Sequence[Set], baseline: Set | None, apart: Sequence[Difference]) -> Table:
    """Every method on every task in all sets, and each set minus `baseline`, one of them; None
    stands for the published tables.

    apart: what differs between the sets, to be named. Holm's correction is over the whole table.
    """
    others = [item for item in sets if item is not baseline]
    base_label = baseline.label if baseline else PUBLISHED
    lines = pairs.compare(baseline, others)
    usual = _usual(lines)
    columns = [Column("task / method"), Column(base_label, "baseline")]
    columns += [Column(item.label) for item in others]
    for item in others:
        columns += [Column(f"{item.label} minus {base_label}", "points, Welch"), Column("seen")]
        columns += [Column("step time", f"{item.label} / {base_label}")] if baseline else []
    return Table(
        name="comparison",
        title=f"{_enumerated([item.label for item in others])} against {base_label}",
        caption=_caption(base_label, apart, usual) + _alone(lines),
        columns=tuple(columns),
        rows=tuple(_row(line, others, usual, bool(baseline)) for line in lines),
        notes=(*_chosen_on_test(sets), *_notes(lines)),
        data=pd.DataFrame(
            [row for line in lines for row in _records(line, others, base_label)],
            columns=FIELDS,
            dtype=object,
        ),
    )


def _usual(lines: Sequence[Line]) -> int | None:
    """The number of seeds that most scores have."""
    sides = [side for line in lines for side in (*line.sides, *(pair.base for pair in line.pairs))]
    numbers = Counter(side.n for side in sides if side.mean is not None)
    return max(numbers, key=lambda n: (numbers[n], n), default=None)


def _caption(base_label: str, apart: Sequence[Difference], usual: int | None) -> str:
    if usual is None:
        return "No cell has a test value yet."
    seeds = "1 seed" if usual == 1 else f"{usual} seeds"
    said = (
        f"Test metric in percent: mean ± population standard deviation over {seeds}, unless n says "
        f"otherwise. Differences are against {base_label}, in percentage points; p is of Welch's "
        "two-sided t-test over the seeds; higher and lower are said only of a p that stays below "
        f"{LEVEL} after Holm's correction."
    )
    return said + (f" The sets differ in: {_names(apart)}." if apart else "")


def _alone(lines: Sequence[Line]) -> str:
    """Says so if nothing stands beside anything."""
    words = {pair.word for line in lines if line.task != AVERAGE for pair in line.pairs}
    return (
        " No method has a result on the same task on both sides." if words <= {"no result"} else ""
    )


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _names(apart: Sequence[Difference]) -> str:
    named = [item.name for item in apart[:MOST_NAMED]]
    more = [f"{len(apart) - MOST_NAMED} more"] if len(apart) > MOST_NAMED else []
    return ", ".join([*named, *more])


def _row(line: Line, others: Sequence[Set], usual: int | None, measured: bool) -> tuple[Cell, ...]:
    name = f"{line.task} / {line.method}"
    base = [] if measured else [_published(line, others, usual)]
    cells = [Cell(name), *base, *(_score(side, usual) for side in line.sides)]
    for pair in line.pairs:
        cells += [_difference(pair), _word(pair)]
        if measured:
            cells.append(Cell(fixed(pair.step_ratio, 2), pair.step_ratio))
    return tuple(cells)


def _published(line: Line, others: Sequence[Set], usual: int | None) -> Cell:
    """The published side; where the sets stand beside different tables, the note has the others'
    values, each with the set that it is for."""
    bases = [pair.base for pair in line.pairs]
    shown = next((base for base in bases if base.mean is not None), bases[0])
    cell = _score(shown, usual)
    apart = [
        f"for {item.label}: {fixed(base.mean, 2)} ± {fixed(base.std, 2)}"
        for item, base in zip(others, bases, strict=True)
        if base.mean is not None and (base.mean, base.std) != (shown.mean, shown.std)
    ]
    return replace(cell, note="; ".join(filter(None, (cell.note, *apart))))


def _score(side: Side, usual: int | None) -> Cell:
    if side.mean is None:
        return Cell(tone="quiet")
    spread = "" if side.std is None else fixed(side.std, 2)
    note = "" if side.n == usual else f"n = {side.n}"
    return Cell(fixed(side.mean, 2), side.mean, spread=spread, note=note)


def _difference(pair: Pair) -> Cell:
    if pair.difference is None:
        return Cell(tone="quiet")
    test, note = pair.test, ""
    if test:
        effect = "" if pair.effect is None else f", g {fixed(pair.effect, 2)}"
        note = f"p {probability(test.p)}, Holm {probability(pair.corrected)}{effect}"
    return Cell(signed(pair.difference, 2), pair.difference, note=note)


def _word(pair: Pair) -> Cell:
    order = ("lower", "no difference seen", "higher")
    value = order.index(pair.word) if pair.word in order else None
    note = ""
    if pair.word == "not comparable":
        more = len(pair.reasons) - MOST_REASONS
        shown = [*pair.reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])]
        note = "; ".join(shown)
    if pair.word == "too few runs":
        note = f"{pair.ours.n} and {pair.base.n}; a test needs {MINIMUM_RUNS}"
    return Cell(pair.word, value, note=note, tone=_TONES.get(pair.word, "quiet"))


def _chosen_on_test(sets: Sequence[Set]) -> Iterator[str]:
    for item in sets:
        if said := caveats.chosen_on_test(item.summary):
            yield f"{item.label}: {said[0].lower()}{said[1:]}"


def _notes(lines: Sequence[Line]) -> tuple[str, ...]:
    judged = [pair for line in lines for pair in line.pairs]
    tested = sum(pair.test is not None for pair in judged)
    return (
        f"{tested} of {len(judged)} comparisons have a test: that needs {MINIMUM_RUNS} runs on "
        "each side, one side that varies, and the same task, method, metric and test data. Holm: "
        "p corrected for all of them. g: Hedges' g, the difference in pooled standard deviations.",
        "No difference seen does not mean that there is none. Runs of one seed may share their "
        "start and the order of their data; the test takes them for independent.",
        "AVG: the mean of the task means, tested over the tasks' runs; its n is the smallest of "
        "the tasks'. Step time: the ratio of the means over the seeds of each run's median step; "
        "for AVG the geometric mean of the tasks' ratios.",
    )


def _records(line: Line, others: Sequence[Set], base: str) -> Iterator[tuple[object, ...]]:
    for item, pair in zip(others, line.pairs, strict=True):
        test = pair.test
        found = (test.t, test.df, test.p) if test else (None, None, None)
        ours, theirs = ((side.n, side.mean, side.std) for side in (pair.ours, pair.base))
        where = (line.task, line.method, item.label, base)
        numbers = (*ours, *theirs, pair.difference, *found, pair.corrected, pair.effect)
        yield (*where, *numbers, pair.step_ratio, pair.word, "; ".join(pair.reasons))
