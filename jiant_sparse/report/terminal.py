"""What the report prints: the tables that fit a terminal, and everything that is amiss."""

from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report import notes
from jiant_sparse.report.claims.papers import UNAVAILABLE
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import printable
from jiant_sparse.report.render import fits, to_text, wrapped
from jiant_sparse.report.table import Table
from jiant_sparse.report.tables.beside import differences
from jiant_sparse.report.tables.verdicts import TONES

INDENT = "    "


def as_text(frame: Frame, tables: Sequence[Table]) -> str:
    """The counts, then results, published and verdicts in lines of 100 characters; below the
    results, every cell that does not count with its reason, and the warnings."""
    shown = {"results": _results, "published": _published, "verdicts": _verdicts}
    named = {table.name: table for table in tables}
    parts = [f"{printable(frame.benchmark)}\n{notes.status(frame)}.\n"]
    parts += [render(frame, named[name]) for name, render in shown.items() if name in named]
    return "\n".join(parts)


def _results(frame: Frame, table: Table) -> str:
    # The note that points to the page is for readers of a single table.
    elsewhere = notes.not_counted(frame)
    shown = to_text(replace(table, notes=tuple(note for note in table.notes if note != elsewhere)))
    remarks = [line for remark in notes.remarks(frame) for line in wrapped(remark)]
    return shown + "".join(f"{line}\n" for line in (["", *remarks] if remarks else []))


def _published(frame: Frame, table: Table) -> str:
    return to_text(table if fits(table) else differences(table, frame))


def _verdicts(frame: Frame, table: Table) -> str:
    """A list, as a table would fold such long texts; what is decided comes first."""
    lines = [printable(table.title)]
    told = table.data.sort_values(
        "verdict", key=lambda states: states.map([*TONES].index), kind="stable"
    )
    for verdict in told.itertuples():
        claim = f"({verdict.claim}) {verdict.verdict}: {verdict.text}"
        lines += wrapped(claim, hanging=INDENT)
        lines += wrapped(verdict.reason, indent=INDENT, hanging=INDENT)
        if verdict.published != UNAVAILABLE:
            paper = f"published: {verdict.published}"
            lines += wrapped(paper, indent=INDENT, hanging=INDENT)
    return "\n".join(lines) + "\n"
