"""The paper's values, and how the measured means compare with them."""

from dataclasses import replace
from typing import Any

import pandas as pd

from jiant_sparse.report import notes
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import fixed, signed
from jiant_sparse.report.published import AVERAGE, RUNS
from jiant_sparse.report.statistics import LEVEL
from jiant_sparse.report.table import Cell, Column, Table, Tone, crossed

FIELDS = ["benchmark", "task", "method", "published_mean", "published_std", "published_runs"]
FIELDS += ["table", "mean", "std", "n", "difference", "t", "df", "p", "word", "reasons"]
TONES: dict[str | None, Tone] = {"compatible": "", "higher": "alarm", "lower": "alarm"}
# What a title adds if nothing is comparable; the cells then need not say it.
ALL_APART = ": not comparable"


def published(frame: Frame) -> Table | None:
    """Published mean and population std, the measured difference in percentage points and whether
    the means are compatible; methods without a published value are left out. None without any."""
    scores = frame.by_method
    beside = scores[scores["published_mean"].notna()]
    if beside.empty:
        return None
    known = beside["word"].dropna() == "not comparable"
    apart = "" if not known.any() else ALL_APART if known.all() else ": partly not comparable"
    tested = (
        ", and what Welch's test says: compatible, or higher or lower than published (two-sided, "
        f"p < {LEVEL:g})"
    )
    cells = crossed(scores, lambda row: _cell(row, worded=apart != ALL_APART))
    return Table(
        name="published",
        title=f"Published beside measured{apart}",
        caption=f"{notes.SOURCE}, {notes.tables(frame.results)}: {notes.SETTING}; mean ± "
        "population standard deviation. Below each, how far this benchmark's mean lies above it, "
        f"in percentage points{'' if apart == ALL_APART else tested}.",
        columns=(Column("method"), *map(Column, frame.tasks["title"]), Column(AVERAGE)),
        rows=tuple((Cell(label), *cells[label]) for label in beside["method"].unique()),
        data=beside.assign(
            benchmark=frame.benchmark,
            published_runs=RUNS,
            table=beside["published_table"],
            difference=beside["difference"].round(9),
            reasons=["; ".join(notes.reasons(frame, row)) for row in beside.itertuples()],
        )[FIELDS],
        notes=tuple(_notes(frame, beside)),
    )


def differences(table: Table, frame: Frame) -> Table:
    """The table of `published` with only the line below each published value: for readers who
    have the measured means before them."""
    rows = tuple(
        (head, *(Cell(cell.note or cell.text, cell.value, tone=cell.tone) for cell in cells))
        for head, *cells in table.rows
    )
    caption = (
        "How far this benchmark's means lie above those of "
        f"{notes.SOURCE}, {notes.tables(frame.results)}, in points."
    )
    said = (_sentence(notes.comparability_briefly(frame)), *table.notes[1:])
    return replace(table, rows=rows, caption=caption, notes=said)


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def _cell(row: Any, *, worded: bool) -> Cell:
    if pd.isna(row.published_mean):
        return Cell(tone="quiet")
    said = "no result"
    if row.word is not None:
        said = signed(row.difference, 2) + (f" {row.word}" if worded else "")
    return Cell(
        fixed(row.published_mean, 2),
        value=row.published_mean,
        spread=fixed(row.published_std, 2),
        note=said,
        tone=TONES.get(row.word, "quiet"),
    )


def _notes(frame: Frame, beside: pd.DataFrame) -> list[str]:
    said = [_sentence(notes.comparability(frame)[1])]
    tests = beside["p"].count()
    if tests:
        chance = fixed(LEVEL * tests, 1)
        said += [
            f"p is not corrected: of {tests} equal pairs, about {chance} would come out unequal "
            "by chance."
            if tests > 1
            else "p is not corrected: one equal pair in twenty would come out unequal by chance.",
            f"The tests take every published value as that of {RUNS} runs; the printed digits of "
            "some cells fit only another number of runs, or none.",
        ]
    if frame.averages["published_mean"].isna().all():
        said.append("The paper's AVG is over its seven tasks and is shown beside those only.")
    return said
