"""A table in GitHub's Markdown."""

import re

from jiant_sparse.report.numbers import printable
from jiant_sparse.report.rendering.layout import numeric
from jiant_sparse.report.table import Cell, Column, Table


def markdown(table: Table) -> str:
    """Title, caption, the table with its notes as second lines of the cells, and the notes."""
    parts = [f"### {_escaped(table.title)}", _opening(table.caption)]
    rules = ["---", *("--:" if numeric(table, i) else ":--" for i in range(1, len(table.columns)))]
    lines = [_line([_head(column) for column in table.columns]), _line(rules)]
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    parts.append("\n".join(lines))
    if table.notes:
        parts.append("\n".join(f"- {_opening(note)}" for note in table.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _head(column: Column) -> str:
    subtitle = f" ({_escaped(column.subtitle)})" if column.subtitle else ""
    return _escaped(column.title) + subtitle


def _cell(cell: Cell) -> str:
    said = _escaped(cell.text)
    # Asterisks around nothing, or around spaces, would stand there as they are.
    shown = f"**{said}**" if cell.tone == "good" and said else said
    shown += f" ({cell.mark})" if cell.mark else ""
    shown += f" ± {_escaped(cell.spread)}" if cell.spread else ""
    shown += f" ({cell.spread_mark})" if cell.spread_mark else ""
    return f"{shown}<br>{_escaped(cell.note)}" if cell.note else shown


def _escaped(text: str) -> str:
    """`text` on one line, and nothing in it a command, a link or a formula."""
    plain = re.sub(r"([\\`*_\[\]<>|&#~{}])", r"\\\1", printable(text))
    # GitHub reads a backslash before a dollar sign as part of a formula.
    plain = plain.replace("$", "<span>$</span>")
    # Bare addresses become links by themselves, and no backslash hinders that.
    plain = re.sub(r"(?i)(https?|ftp|mailto|xmpp):", r"\1&#58;", plain)
    return re.sub(r"(?i)\bwww\.", lambda found: f"{found[0][:3]}&#46;", plain).replace("@", "&#64;")


def _opening(text: str) -> str:
    """An escaped line that opens neither a list nor a heading nor a rule."""
    plain = re.sub(r"^(\d+)([.)])", r"\1\\\2", _escaped(text))
    return f"\\{plain}" if plain[:1] in ("-", "+", "=") else plain
