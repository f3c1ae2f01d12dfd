"""What the report prints: the tables that fit a terminal, and everything that is amiss."""

from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report import words
from jiant_sparse.report.claims.papers import UNAVAILABLE
from jiant_sparse.report.numbers import printable
from jiant_sparse.report.rendering.text import fits, text, wrapped
from jiant_sparse.report.summary import Summary
from jiant_sparse.report.table import Table
from jiant_sparse.report.tables.beside import differences
from jiant_sparse.report.tables.verdicts import TONES

# The names of the tables, in the order in which they are printed.
TERMINAL = ("results", "published", "verdicts")
INDENT = "    "


def as_text(summary: Summary, tables: Sequence[Table]) -> str:
    """The counts, then those of `tables` that are in TERMINAL, in lines of 100 characters; below
    the results, every cell that does not count with its reason, and the warnings."""
    shown = {"results": _results, "published": _published, "verdicts": _verdicts}
    named = {table.name: table for table in tables}
    parts = [f"{printable(summary.benchmark)}\n{words.status(summary)}.\n"]
    parts += [shown[name](summary, named[name]) for name in TERMINAL if name in named]
    return "\n".join(parts)


def _results(summary: Summary, table: Table) -> str:
    # The note that points to the page is for readers of a single table.
    elsewhere = words.not_counted(summary)
    shown = text(replace(table, notes=tuple(note for note in table.notes if note != elsewhere)))
    remarks = [line for remark in words.remarks(summary) for line in wrapped(remark)]
    return shown + "".join(f"{line}\n" for line in (["", *remarks] if remarks else []))


def _published(summary: Summary, table: Table) -> str:
    return text(table if fits(table) else differences(table, summary))


def _verdicts(summary: Summary, table: Table) -> str:
    """A list, as such texts would fold any table; what is decided comes first."""
    told = [dict(zip(table.fields, line, strict=True)) for line in table.lines]
    lines = [printable(table.title)]
    for verdict in sorted(told, key=lambda verdict: [*TONES].index(verdict["verdict"])):
        claim = f"({verdict['claim']}) {verdict['verdict']}: {verdict['text']}"
        lines += wrapped(claim, hanging=INDENT)
        lines += wrapped(verdict["reason"], indent=INDENT, hanging=INDENT)
        if verdict["published"] != UNAVAILABLE:
            paper = f"published: {verdict['published']}"
            lines += wrapped(paper, indent=INDENT, hanging=INDENT)
    return "\n".join(lines) + "\n"
