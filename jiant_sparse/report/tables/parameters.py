"""How many weights a method tunes, changes and adds, beside Table 4."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report import caveats, published
from jiant_sparse.report.numbers import DASH, count, percent
from jiant_sparse.report.summary import Row, Summary, by_step, mean_count, share_percent
from jiant_sparse.report.table import Cell, Column, Table

COUNTS = ("eligible", "selected", "added", "head", "trainable", "changed", "moved_per_step")
CAPTION = (
    "Tuned: selected weights of the encoder and new ones inside of it, in percent of the encoder's "
    "own, as Table 4 of Fu et al. 2023 counts; changed: weights that differ from the pretrained "
    "ones at the end. The task head is in neither. Counted in the modules, not "
    "taken from the settings."
)
RANGES = "A range: the counts of the cells differ, by task or by seed; shares are means over them."


def parameters(summary: Summary) -> Table:
    """One row a method; counts over its cells that ended well, as a range where they differ."""
    rows = tuple(_row(row) for row in summary.rows)
    columns = (
        Column("method"),
        Column("tuned", "% of the encoder"),
        Column("paper", "%, Table 4"),
        Column("changed", "% of the encoder"),
        Column("selected", "weights"),
        Column("added", "weights"),
        Column("head", "weights"),
    )
    return Table(
        name="parameters",
        title="Tuned weights",
        caption=CAPTION,
        columns=columns,
        rows=rows,
        fields=("benchmark", "task", "method", "n", *COUNTS, "tuned_percent", "changed_percent",
                "published_percent"),
        lines=_lines(summary),
        notes=_notes(summary),
    )  # fmt: skip


def _row(row: Row) -> tuple[Cell, ...]:
    tuned, changed = (share_percent(row.ok, name) for name in ("tuned", "changed"))
    paper = published.percent_tuned(row.key)
    over = any(r.params and r.params.changed > r.params.selected for r in row.ok)
    return (
        Cell(row.label),
        Cell(percent(tuned), tuned, note=_each_step(row)),
        Cell(percent(paper), paper, tone="" if _is_published(row) else "quiet"),
        Cell(
            percent(changed),
            changed,
            note="more than selected" if over else "",
            tone="alarm" if over else "",
        ),
        _selected(row),
        *(_range(_values(row, name)) for name in ("added", "head")),
    )


def _each_step(row: Row) -> str:
    moved = mean_count(row.ok, "moved_per_step")
    return "" if moved is None else f"{count(moved)} per step"


def _selected(row: Row) -> Cell:
    """Where each step moves other weights, those that any did."""
    cell = _range(_values(row, "selected"))
    share = f"in any step: {percent(share_percent(row.ok, 'drawn'))} %"
    return replace(cell, note=share) if by_step(row.ok) else cell


def _values(row: Row, name: str) -> list[int]:
    return [getattr(record.params, name) for record in row.ok if record.params]


def _range(values: Sequence[int]) -> Cell:
    if not values:
        return Cell()
    low, high = min(values), max(values)
    text = count(low) if low == high else f"{count(low)}{DASH}{count(high)}"
    return Cell(text, statistics.fmean(values))


def _is_published(row: Row) -> bool:
    return all(published.is_published_size(record.settings, row.key) for record in row.ok)


def _lines(summary: Summary) -> tuple[tuple[object, ...], ...]:
    lines = []
    for row in summary.rows:
        for group in row.groups:
            counted = [record for record in group.ok if record.params]
            means = [mean_count(counted, name) for name in COUNTS]
            shares = [share_percent(counted, name) for name in ("tuned", "changed")]
            where = (summary.benchmark, group.task.label, row.label, len(counted))
            lines.append((*where, *means, *shares, published.percent_tuned(row.key)))
    return tuple(lines)


def _notes(summary: Summary) -> tuple[str, ...]:
    notes = []
    rows = [row for row in summary.rows if row.ok]
    known = [row for row in rows if published.percent_tuned(row.key) is not None]
    if known:
        apart = [row.label for row in known if not _is_published(row)]
        said = f"; another model, density or q: {', '.join(apart)}" if apart else ""
        notes.append(f"The paper's shares are of RoBERTa-base, density 0.5 %{said}.")
    names = ("selected", "added", "head")
    if any(len(set(_values(row, name))) > 1 for row in rows for name in names):
        notes.append(RANGES)
    if said := caveats.per_step(rows):
        notes.append(said)
    return tuple(notes)
