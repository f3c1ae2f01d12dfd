"""How many weights a method tunes, changes and adds, beside Table 4."""

from dataclasses import replace
from typing import Any

import pandas as pd

from jiant_sparse.report import notes, published
from jiant_sparse.report.cells import COUNTS
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import DASH, count, percent
from jiant_sparse.report.table import Cell, Column, Table, known

FIELDS = ["benchmark", "task", "method", "n", *COUNTS]
FIELDS += ["tuned_percent", "changed_percent", "published_percent"]
COLUMNS = (
    Column("method"),
    Column("tuned", "% of the encoder"),
    Column("paper", "%, Table 4"),
    Column("changed", "% of the encoder"),
    Column("selected", "weights"),
    Column("added", "weights"),
    Column("head", "weights"),
)
CAPTION = (
    "Tuned: selected weights of the encoder and new ones inside of it, in percent of the encoder's "
    "own, as Table 4 of Fu et al. 2023 counts; changed: weights that differ from the pretrained "
    "ones at the end. The task head is in neither. Counted in the modules, not "
    "taken from the settings."
)
RANGES = "A range: the counts of the cells differ, by task or by seed; shares are means over them."


def parameters(frame: Frame) -> Table:
    """One row a method; counts over its cells that ended well, as a range where they differ."""
    counts = frame.ok[["method", *COUNTS]].dropna(subset="eligible")
    of_method = dict([*counts.groupby("method")])
    apart = _apart(frame)
    rows = [
        _row(row, of_method.get(row.method, counts[:0]), row.method in apart)
        for row in frame.averages.itertuples()
    ]
    counted = frame.ok.groupby(["task", "method"])["eligible"].count().rename("counted")
    scores = frame.by_method
    data = scores[~scores["is_average"]].join(counted, on=["task", "method"])
    percents = [published.percent_tuned(key) for key in data["key"]]
    data = data.assign(
        benchmark=frame.benchmark,
        n=data["counted"].fillna(0).astype(int),
        published_percent=pd.Series(percents, dtype="float64", index=data.index),
    )
    said = []
    seen = {*frame.ok["method"]}
    methods = zip(frame.methods["method"], frame.methods["key"], strict=True)
    beside = [m for m, key in methods if m in seen and published.percent_tuned(key) is not None]
    if beside:
        named = ", ".join(label for label in beside if label in apart)
        others = f"; another model, density or q: {named}" if named else ""
        said.append(f"The paper's shares are of RoBERTa-base, density 0.5 %{others}.")
    shown = ["selected", "added", "head"]
    if any((its[shown].nunique() > 1).any() for its in of_method.values()):
        said.append(RANGES)
    return Table(
        name="parameters",
        title="Tuned weights",
        caption=CAPTION,
        columns=COLUMNS,
        rows=tuple(rows),
        data=data[FIELDS],
        notes=(*said, *filter(None, [notes.per_step(frame)])),
    )


def _apart(frame: Frame) -> set[str]:
    """The methods with a cell that does not tune the share of the weights that Table 4 counts."""
    cells = zip(frame.ok["method"], frame.ok["key"], frame.ok["record"], strict=True)
    return {m for m, key, its in cells if not published.is_published_size(its.settings, key)}


def _row(row: Any, counts: pd.DataFrame, is_apart: bool) -> tuple[Cell, ...]:
    """A method: its shares from the row of its AVG, and its counts."""
    paper = published.percent_tuned(row.key)
    each_step = f"{count(row.moved_per_step)} per step" if row.per_step else ""
    changed = Cell(percent(row.changed_percent), known(row.changed_percent))
    if (counts["changed"] > counts["selected"]).any():
        changed = replace(changed, note="more than selected", tone="alarm")
    selected = _range(counts["selected"])
    if row.per_step:
        selected = replace(selected, note=f"in any step: {percent(row.drawn_percent)} %")
    return (
        Cell(row.method),
        Cell(percent(row.tuned_percent), known(row.tuned_percent), note=each_step),
        Cell(percent(paper), paper, tone="quiet" if is_apart else ""),
        changed,
        selected,
        _range(counts["added"]),
        _range(counts["head"]),
    )


def _range(counts: pd.Series) -> Cell:
    if counts.empty:
        return Cell()
    low, high = counts.min(), counts.max()
    text = count(low) if low == high else f"{count(low)}{DASH}{count(high)}"
    return Cell(text, counts.mean())
