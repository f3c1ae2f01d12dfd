"""The paper's values, and how the measured means stand to them."""

from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report import compatibility, words
from jiant_sparse.report.compatibility import Compatibility
from jiant_sparse.report.numbers import fixed, signed
from jiant_sparse.report.published import AVERAGE, RUNS
from jiant_sparse.report.statistics import LEVEL
from jiant_sparse.report.summary import Average, Group, Row, Summary
from jiant_sparse.report.table import Cell, Column, Table, Tone

FIELDS = (
    *("benchmark", "task", "method", "published_mean", "published_std", "published_runs", "table"),
    *("mean", "std", "n", "difference", "t", "df", "p", "word", "reasons"),
)
TONES: dict[str, Tone] = {
    "compatible": "",
    "higher": "alarm",
    "lower": "alarm",
    "not comparable": "quiet",
    "too few runs": "quiet",
    "no spread": "quiet",
}
# What a title adds if nothing is comparable; nothing else then says it of each cell.
ALL_APART = ": not comparable"
# A part of a row with a published value, and its verdict.
Judged = tuple[Group | Average, Compatibility | None]


def published(summary: Summary) -> Table | None:
    """Published mean and population std, the measured difference in percentage points and whether
    the means are compatible; rows without a published value are left out. None without any."""
    judged = {row.label: _judge(row) for row in summary.rows if words.tables(row.groups)}
    if not judged:
        return None
    apart = _apart(list(judged.values()))
    return Table(
        name="published",
        title=f"Published beside measured{apart}",
        caption=_caption(summary, apart == ALL_APART),
        columns=(Column("method"), *(Column(t.title) for t in summary.tasks), Column(AVERAGE)),
        rows=tuple(
            (Cell(label), *(_cell(*part, worded=apart != ALL_APART) for part in parts))
            for label, parts in judged.items()
        ),
        notes=tuple(_notes(summary, list(judged.values()))),
        fields=FIELDS,
        lines=tuple(
            _line(summary, label, part, verdict)
            for label, parts in judged.items()
            for part, verdict in parts
            if part.published
        ),
    )


def differences(table: Table, summary: Summary) -> Table:
    """The table of `published` made narrow and brief: of each cell only what stands below the
    published value, for where the measured means are shown already."""
    rows = tuple(
        (head, *(Cell(cell.note or cell.text, cell.value, tone=cell.tone) for cell in cells))
        for head, *cells in table.rows
    )
    caption = (
        "How far this benchmark's means lie above those of "
        f"{words.SOURCE}, {words.tables(summary.groups)}, in points."
    )
    notes = (_sentence(words.comparability_briefly(summary)), *table.notes[1:])
    return replace(table, rows=rows, caption=caption, notes=notes)


def _sentence(said: str) -> str:
    return f"{said[0].upper()}{said[1:]}."


def _judge(row: Row) -> list[Judged]:
    parts: list[Judged] = [(group, compatibility.of(group)) for group in row.groups]
    return [*parts, (row.average, compatibility.of_average(row))]


def _apart(rows: Sequence[Sequence[Judged]]) -> str:
    """For the title: whether any of it, or all of it, is another experiment."""
    known = [verdict.word == "not comparable" for parts in rows for _, verdict in parts if verdict]
    if not any(known):
        return ""
    return ALL_APART if all(known) else ": partly not comparable"


def _caption(summary: Summary, apart: bool) -> str:
    tested = (
        ", and what Welch's test says: compatible, or higher or lower than published (two-sided, "
        f"p < {LEVEL:g})"
    )
    return (
        f"{words.SOURCE}, {words.tables(summary.groups)}: {words.SETTING}; mean ± population "
        "standard deviation. Below each, how far this benchmark's mean lies above it, in "
        f"percentage points{'' if apart else tested}."
    )


def _cell(part: Group | Average, verdict: Compatibility | None, *, worded: bool) -> Cell:
    if part.published is None:
        return Cell(tone="quiet")
    said = "no result"
    if verdict:
        word = f" {verdict.word}" if worded else ""
        said = f"{signed(part.difference, 2)}{word}"
    return Cell(
        fixed(part.published.mean, 2),
        value=part.published.mean,
        spread=fixed(part.published.std, 2),
        note=said,
        tone=TONES[verdict.word] if verdict else "quiet",
    )


def _notes(summary: Summary, rows: Sequence[Sequence[Judged]]) -> list[str]:
    notes = [_sentence(words.comparability(summary)[1])]
    tests = [v.test for parts in rows for _, v in parts if v is not None and v.test is not None]
    if tests:
        number, chance = len(tests), fixed(LEVEL * len(tests), 1)
        notes.append(
            f"p is not corrected: of {number} equal pairs, about {chance} would come out unequal "
            "by chance."
            if number > 1
            else "p is not corrected: one equal pair in twenty would come out unequal by chance."
        )
        notes.append(
            f"The tests take every published value as that of {RUNS} runs; the printed digits of "
            "some cells fit only another number of runs, or none."
        )
    if all(row.average.published is None for row in summary.rows):
        notes.append("The paper's AVG is over its seven tasks and is shown beside those only.")
    return notes


def _line(
    summary: Summary, label: str, part: Group | Average, verdict: Compatibility | None
) -> tuple[object, ...]:
    group = part if isinstance(part, Group) else None
    mean, std = (group.score.mean, group.score.std) if group else (part.mean, part.std)
    value, test = part.published, verdict.test if verdict else None
    return (
        *(summary.benchmark, group.task.label if group else AVERAGE, label),
        *(value.mean, value.std, RUNS, value.table),
        *(mean, std, group.score.n if group else None),
        None if part.difference is None else round(part.difference, 9),
        *((test.t, test.df, test.p) if test else (None, None, None)),
        *((verdict.word, "; ".join(verdict.reasons)) if verdict else (None, None)),
    )
