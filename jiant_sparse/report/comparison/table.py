"""The table of a comparison: each set beside one of them, or beside the published tables."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from jiant_sparse.report import notes
from jiant_sparse.report.comparison.pairs import PUBLISHED, Pair, pairs
from jiant_sparse.report.comparison.sets import Difference, ResultSet
from jiant_sparse.report.numbers import fixed, probability, signed
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.statistics import LEVEL, MINIMUM_RUNS
from jiant_sparse.report.table import Cell, Column, Table, Tone
from jiant_sparse.units import counted

# Names of things that differ in the caption; reasons in a cell (the CSV has all).
MOST_NAMED, MOST_REASONS = 12, 2
# The ends of the names of a pair's two scores.
SIDES = ("", "_baseline")
_TONES: dict[str, Tone] = {"higher": "good", "lower": "alarm"}


def comparison(
    sets: Sequence[ResultSet], baseline: ResultSet | None, apart: Sequence[Difference]
) -> Table:
    """All methods on all tasks in all sets, and each set minus `baseline`, one of them.

    A baseline of None is the published tables. apart: what differs between the sets, to be named.
    """
    others = [item for item in sets if item is not baseline]
    base = baseline.label if baseline else PUBLISHED
    *first, last = labels = [item.label for item in others]
    named = f"{', '.join(first)} and {last}" if first else last
    places = pairs(baseline, others)
    every = [pair for place in places for pair in place]
    usual = _usual_n(places, measured=bool(baseline))
    columns = [Column("task / method"), Column(base, "baseline"), *map(Column, labels)]
    for label in labels:
        columns += [Column(f"{label} minus {base}", "points, Welch"), Column("seen")]
        columns += [Column("step time", f"{label} / {base}")] if baseline else []
    data = [{**pair, "reasons": "; ".join(pair["reasons"])} for pair in every]
    return Table(
        name="comparison",
        title=f"{named} against {base}",
        caption=_caption(base, apart, usual) + _alone(every),
        columns=tuple(columns),
        rows=tuple(_row(place, usual, measured=bool(baseline)) for place in places),
        notes=(*_chosen_on_test(sets), *_notes(every)),
        data=pd.DataFrame(data, dtype=object),
    )


def _usual_n(places: Sequence[Sequence[Pair]], *, measured: bool) -> int | None:
    """The number of seeds that most scores have; of several numbers, the largest."""
    scores = [(pair, side) for place in places for pair in place for side in SIDES]
    # A measured baseline is a column of its own.
    scores += [(place[0], "_baseline") for place in places if measured]
    return notes.most_frequent(
        pair[f"n{side}"] for pair, side in scores if pair[f"mean{side}"] is not None
    )


def _caption(base: str, apart: Sequence[Difference], usual: int | None) -> str:
    if usual is None:
        return "No cell has a test value yet."
    said = (
        "Test metric in percent: mean ± population standard deviation over "
        f"{counted(usual, 'seed')}, unless n says otherwise. Differences are against {base}, in "
        "percentage points; p is of Welch's two-sided t-test over the seeds; higher and lower are "
        f"said only of a p that stays below {LEVEL} after Holm's correction."
    )
    named = [item.name for item in apart[:MOST_NAMED]]
    named += [f"{len(apart) - MOST_NAMED} more"] if len(apart) > MOST_NAMED else []
    return said + (f" The sets differ in: {', '.join(named)}." if named else "")


def _alone(every: Sequence[Pair]) -> str:
    words = {pair["word"] for pair in every if pair["task"] != AVERAGE}
    said = " No method has a result on the same task on both sides."
    return said if words <= {"no result"} else ""


def _row(place: Sequence[Pair], usual: int | None, *, measured: bool) -> tuple[Cell, ...]:
    base = _score(place[0], "_baseline", usual) if measured else _published(place, usual)
    cells = [Cell(f"{place[0]['task']} / {place[0]['method']}"), base]
    cells += [_score(pair, "", usual) for pair in place]
    for pair in place:
        cells += [_difference(pair), _word(pair)]
        ratio = pair["step_time_ratio"]
        cells += [Cell(fixed(ratio, 2), ratio)] if measured else []
    return tuple(cells)


def _published(place: Sequence[Pair], usual: int | None) -> Cell:
    """The published score; a note has the scores of the sets that stand beside another table."""
    known = [pair for pair in place if pair["mean_baseline"] is not None]
    shown = known[0] if known else place[0]
    cell = _score(shown, "_baseline", usual)
    apart = [
        f"for {pair['set']}: {fixed(pair['mean_baseline'], 2)} ± {fixed(pair['std_baseline'], 2)}"
        for pair in known
        if any(pair[name] != shown[name] for name in ("mean_baseline", "std_baseline"))
    ]
    return replace(cell, note="; ".join(filter(None, (cell.note, *apart))))


def _score(pair: Pair, side: str, usual: int | None) -> Cell:
    n, mean, std = (pair[f"{name}{side}"] for name in ("n", "mean", "std"))
    if mean is None:
        return Cell(tone="quiet")
    spread = "" if std is None else fixed(std, 2)
    return Cell(fixed(mean, 2), mean, spread=spread, note="" if n == usual else f"n = {n}")


def _difference(pair: Pair) -> Cell:
    if pair["difference"] is None:
        return Cell(tone="quiet")
    note = ""
    if pair["p"] is not None:
        effect = "" if pair["hedges_g"] is None else f", g {fixed(pair['hedges_g'], 2)}"
        note = f"p {probability(pair['p'])}, Holm {probability(pair['holm_p'])}{effect}"
    return Cell(signed(pair["difference"], 2), pair["difference"], note=note)


def _word(pair: Pair) -> Cell:
    word, reasons, note = pair["word"], pair["reasons"], ""
    order = ("lower", "no difference seen", "higher")
    if word == "not comparable":
        more = len(reasons) - MOST_REASONS
        note = "; ".join([*reasons[:MOST_REASONS], *([f"and {more} more"] if more > 0 else [])])
    if word == "too few runs":
        note = f"{pair['n']} and {pair['n_baseline']}; a test needs {MINIMUM_RUNS}"
    value = order.index(word) if word in order else None
    return Cell(word, value, note=note, tone=_TONES.get(word, "quiet"))


def _chosen_on_test(sets: Sequence[ResultSet]) -> Iterator[str]:
    for item in sets:
        if said := notes.chosen_on_test(item.frame):
            yield f"{item.label}: {said[0].lower()}{said[1:]}"


def _notes(every: Sequence[Pair]) -> tuple[str, ...]:
    tested = sum(pair["p"] is not None for pair in every)
    return (
        f"{tested} of {len(every)} comparisons have a test: that needs "
        f"{MINIMUM_RUNS} runs on each side, one side that varies, and the same task, method, "
        "metric and test data. Holm: p corrected for all of them. g: Hedges' g, the difference in "
        "pooled standard deviations.",
        "No difference seen does not mean that there is none. Runs of one seed may share their "
        "start and the order of their data; the test takes them for independent.",
        "AVG: the mean of the task means, tested over the tasks' runs; its n is the smallest of "
        "the tasks'. Step time: the ratio of the means over the seeds of each run's median step; "
        "for AVG the geometric mean of the tasks' ratios.",
    )
