"""The table of a comparison: each set beside one of them, or beside the published tables."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from jiant_sparse.report import notes
from jiant_sparse.report.comparison.pairs import PUBLISHED, Pair, Side, pairs
from jiant_sparse.report.comparison.sets import Difference, ResultSet
from jiant_sparse.report.numbers import fixed, probability, signed
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.statistics import LEVEL, MINIMUM_RUNS
from jiant_sparse.report.table import Cell, Column, Table, Tone

# Names of things that differ in the caption; reasons in a cell (the CSV has all).
MOST_NAMED, MOST_REASONS = 12, 2
_TONES: dict[str, Tone] = {"higher": "good", "lower": "alarm"}


def comparison(
    sets: Sequence[ResultSet], baseline: ResultSet | None, apart: Sequence[Difference]
) -> Table:
    """All methods on all tasks in all sets, and each set minus `baseline`, one of them.

    A baseline of None is the published tables. apart: what differs between the sets, to be named.
    """
    others = [item for item in sets if item is not baseline]
    base = baseline.label if baseline else PUBLISHED
    labels = [item.label for item in others]
    places = pairs(baseline, others)
    usual = _usual_n(places, measured=bool(baseline))
    columns = [Column("task / method"), Column(base, "baseline"), *map(Column, labels)]
    for label in labels:
        columns += [Column(f"{label} minus {base}", "points, Welch"), Column("seen")]
        columns += [Column("step time", f"{label} / {base}")] if baseline else []
    return Table(
        name="comparison",
        title=f"{' and '.join(filter(None, (', '.join(labels[:-1]), labels[-1])))} against {base}",
        caption=_caption(base, apart, usual) + _alone(places),
        columns=tuple(columns),
        rows=tuple(_row(place, labels, usual, measured=bool(baseline)) for place in places),
        notes=(*_chosen_on_test(sets), *_notes(places)),
        data=pd.DataFrame(
            _record(pair, label, base)
            for place in places
            for pair, label in zip(place, labels, strict=True)
        ),
    )


def _usual_n(places: Sequence[Sequence[Pair]], *, measured: bool) -> int | None:
    """The number of seeds that most scores have; of several, the largest."""
    sides = [side for place in places for pair in place for side in (pair.ours, pair.base)]
    # A measured baseline is a column of its own.
    sides += [place[0].base for place in places if measured]
    numbers = Counter(side.n for side in sides if side.mean is not None)
    return max(numbers, key=lambda n: (numbers[n], n), default=None)


def _caption(base: str, apart: Sequence[Difference], usual: int | None) -> str:
    if usual is None:
        return "No cell has a test value yet."
    seeds = "1 seed" if usual == 1 else f"{usual} seeds"
    said = (
        f"Test metric in percent: mean ± population standard deviation over {seeds}, unless n says "
        f"otherwise. Differences are against {base}, in percentage points; p is of Welch's "
        "two-sided t-test over the seeds; higher and lower are said only of a p that stays below "
        f"{LEVEL} after Holm's correction."
    )
    named = [item.name for item in apart[:MOST_NAMED]]
    named += [f"{len(apart) - MOST_NAMED} more"] if len(apart) > MOST_NAMED else []
    return said + (f" The sets differ in: {', '.join(named)}." if named else "")


def _alone(places: Sequence[Sequence[Pair]]) -> str:
    words = {pair.word for place in places for pair in place if pair.task != AVERAGE}
    said = " No method has a result on the same task on both sides."
    return said if words <= {"no result"} else ""


def _row(
    place: Sequence[Pair], labels: Sequence[str], usual: int | None, *, measured: bool
) -> tuple[Cell, ...]:
    base = _score(place[0].base, usual) if measured else _published(place, labels, usual)
    cells = [Cell(f"{place[0].task} / {place[0].method}"), base]
    cells += [_score(pair.ours, usual) for pair in place]
    for pair in place:
        cells += [_difference(pair), _word(pair)]
        cells += [Cell(fixed(pair.step_ratio, 2), pair.step_ratio)] if measured else []
    return tuple(cells)


def _published(place: Sequence[Pair], labels: Sequence[str], usual: int | None) -> Cell:
    """The published score; a note has the scores of the sets that stand beside another table."""
    bases = {label: pair.base for label, pair in zip(labels, place, strict=True)}
    known = {label: base for label, base in bases.items() if base.mean is not None}
    shown = next(iter(known.values()), place[0].base)
    cell = _score(shown, usual)
    apart = [
        f"for {label}: {fixed(base.mean, 2)} ± {fixed(base.std, 2)}"
        for label, base in known.items()
        if (base.mean, base.std) != (shown.mean, shown.std)
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
    note = ""
    if pair.test:
        effect = "" if pair.effect is None else f", g {fixed(pair.effect, 2)}"
        note = f"p {probability(pair.test.p)}, Holm {probability(pair.holm_p)}{effect}"
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


def _chosen_on_test(sets: Sequence[ResultSet]) -> Iterator[str]:
    for item in sets:
        if said := notes.chosen_on_test(item.frame):
            yield f"{item.label}: {said[0].lower()}{said[1:]}"


def _notes(places: Sequence[Sequence[Pair]]) -> tuple[str, ...]:
    tests = [pair.test for place in places for pair in place]
    return (
        f"{len(tests) - tests.count(None)} of {len(tests)} comparisons have a test: that needs "
        f"{MINIMUM_RUNS} runs on each side, one side that varies, and the same task, method, "
        "metric and test data. Holm: p corrected for all of them. g: Hedges' g, the difference in "
        "pooled standard deviations.",
        "No difference seen does not mean that there is none. Runs of one seed may share their "
        "start and the order of their data; the test takes them for independent.",
        "AVG: the mean of the task means, tested over the tasks' runs; its n is the smallest of "
        "the tasks'. Step time: the ratio of the means over the seeds of each run's median step; "
        "for AVG the geometric mean of the tasks' ratios.",
    )


def _record(pair: Pair, label: str, base: str) -> dict[str, Any]:
    """A line of the CSV."""
    test = pair.test
    return {
        "task": pair.task,
        "method": pair.method,
        "set": label,
        "baseline": base,
        "n": pair.ours.n,
        "mean": pair.ours.mean,
        "std": pair.ours.std,
        "n_baseline": pair.base.n,
        "mean_baseline": pair.base.mean,
        "std_baseline": pair.base.std,
        "difference": pair.difference,
        "t": test and test.t,
        "df": test and test.df,
        "p": test and test.p,
        "holm_p": pair.holm_p,
        "hedges_g": pair.effect,
        "step_time_ratio": pair.step_ratio,
        "word": pair.word,
        "reasons": "; ".join(pair.reasons),
    }
