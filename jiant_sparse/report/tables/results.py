"""The main table: every method on every task, as the paper's Tables 1 and 2."""

from typing import Any

import pandas as pd

from jiant_sparse.report import notes
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import fixed, percent
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.table import Cell, Column, Table, crossed, known

FIELDS = ["benchmark", "task", "method", "n", "seeds", "mean", "std", "rank", "std_rank"]
FIELDS += ["majority", "tuned_percent", "drawn_percent", "changed_percent"]
FIELDS += ["missing", "failed", "undefined"]


def results(frame: Frame) -> Table:
    """Test metric in percent: mean and population std with their ranks, AVG as in the paper, shares
    of tuned and changed weights, and what always giving the most frequent answer scores."""
    usual, scores = notes.usual_n(frame), frame.scores
    cells = crossed(scores, lambda row: _cell(row, usual))
    rows = []
    for row in frame.averages.itertuples():
        key = row.key if row.key and row.key != row.method else ""
        each = "per step" if row.per_step else ""
        tuned = Cell(percent(row.tuned_percent), value=known(row.tuned_percent), note=each)
        changed = Cell(percent(row.changed_percent), value=known(row.changed_percent))
        rows.append((Cell(row.method, note=key), *cells[row.method], tuned, changed))
    seeds = scores["seeds"].map(lambda its: " ".join(map(str, its)), na_action="ignore")
    said = [
        notes.chosen_on_test(frame),
        *notes.left_out(frame),
        *notes.footnotes(frame),
        *notes.below_majority(frame),
        notes.per_step(frame),
        notes.not_counted(frame),
    ]
    return Table(
        name="results",
        title="Results",
        caption=_caption(usual),
        columns=(
            Column("method"),
            *(Column(task.title, notes.metric(task.metric)) for task in frame.tasks.itertuples()),
            Column(AVERAGE, "all tasks"),
            Column("tuned %"),
            Column("changed %"),
        ),
        rows=(*rows, *_baseline(frame)),
        data=scores.assign(benchmark=frame.benchmark, seeds=seeds)[FIELDS],
        notes=tuple(filter(None, said)),
    )


def _caption(usual: int | None) -> str:
    if usual is None:
        return "No cell has a test value yet."
    over, marked, deviations = "over 1 seed", "a column's largest means", ""
    if usual > 1:
        over = f"± population standard deviation over {usual} seeds"
        marked = "a column's largest means and smallest deviations"
        deviations = " and the mean of the task deviations"
    return (
        f"Test metric in percent: mean {over}, unless n says otherwise. Marked 1 to 3: {marked}. "
        f"AVG is the mean of the task means{deviations}. "
        "Tuned, changed: shares of the encoder's weights."
    )


def _cell(row: Any, usual: int | None) -> Cell:
    """A mean with its deviation, or why there is none."""
    gaps = notes.gaps(row)
    if pd.isna(row.mean):
        if row.is_average:
            return Cell(f"incomplete {row.with_value}/{row.tasks}", tone="quiet")
        return Cell(gaps, tone="alarm") if gaps else Cell(tone="quiet")
    if row.is_average:
        note = "" if row.complete else "not all cells"
    else:
        number = f"n = {row.n}" if row.n != usual or gaps else ""
        note = ", ".join(filter(None, (number, gaps)))
    return Cell(
        fixed(row.mean, 2),
        value=row.mean,
        rank=known(row.rank),
        spread="" if pd.isna(row.std) else fixed(row.std, 2),
        spread_rank=known(row.std_rank),
        note=note,
        tone="good" if row.best else "",
    )


def _baseline(frame: Frame) -> list[tuple[Cell, ...]]:
    """The row of the most frequent answer: no method, so it has no rank; none if nothing is
    known. Its AVG, too, is over all tasks or not at all."""
    scores = [*frame.tasks["majority"], frame.averages["majority"].iloc[0]]
    if all(map(pd.isna, scores)):
        return []
    cells = [Cell(fixed(score, 2), value=known(score), tone="quiet") for score in scores]
    head, nothing = Cell("most frequent answer", tone="quiet"), Cell(tone="quiet")
    return [(head, *cells, nothing, nothing)]
