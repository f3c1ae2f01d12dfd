"""A table as text for a terminal."""

import textwrap
from collections.abc import Sequence

from jiant_sparse.report.numbers import printable
from jiant_sparse.report.rendering.layout import numeric
from jiant_sparse.report.table import Cell, Table

WIDTH = 100
# Where the words of a column wrap, as a share of the width: the first column, the others.
HEAD, WORDS = 0.35, 0.5
Block = list[str]


def text(table: Table, width: int = WIDTH) -> str:
    """Title, caption, the table and its notes in `width` characters, 60 or more; columns that do
    not fit continue below, beside the first column again."""
    heading = [printable(table.title), *wrapped(table.caption, width), ""]
    notes = [line for note in table.notes for line in wrapped(note, width)]
    lines = [*heading, *_folded(table, width), *([""] if notes else []), *notes]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def wrapped(
    said: str, width: int = WIDTH, *, indent: str = "", hanging: str | None = None
) -> list[str]:
    """A line of any length in lines of `width` characters: `indent` before the first, `hanging`
    before the others, two spaces more than `indent` if None."""
    after = f"{indent}  " if hanging is None else hanging
    options = {"initial_indent": indent, "subsequent_indent": after, "break_on_hyphens": False}
    return textwrap.wrap(printable(said), width, **options)


def fits(table: Table, width: int = WIDTH) -> bool:
    """Whether the columns stand beside each other in `width` characters."""
    return len(_pieces(_widths(_columns(table, width)), width)) == 1


def _folded(table: Table, width: int) -> list[str]:
    columns = _columns(table, width)
    widths = _widths(columns)
    lines: list[str] = []
    for piece in _pieces(widths, width):
        lines += [""] if lines else []
        shown = [0, *piece]
        rows = zip(*(columns[i] for i in shown), strict=True)
        blocks = [_beside(row, [(widths[i], numeric(table, i)) for i in shown]) for row in rows]
        total = sum(widths[i] for i in shown) + 2 * len(piece)
        lines += [*blocks[0], "─" * total]
        lines += [line for block in blocks[1:] for line in block]
    return lines


def _columns(table: Table, width: int) -> list[list[Block]]:
    return [_column(table, i, width) for i in range(len(table.columns))]


def _widths(columns: Sequence[Sequence[Block]]) -> list[int]:
    return [max(len(line) for block in column for line in block) for column in columns]


def _column(table: Table, index: int, width: int) -> list[Block]:
    """The head and the cells of one column, each as lines of at most its share of `width`."""
    limit = int(width * (HEAD if index == 0 else WORDS))
    column = table.columns[index]
    cells = [row[index] for row in table.rows]
    head = [*_lines(printable(column.title), limit), *_lines(printable(column.subtitle), limit)]
    shown = zip(_numbers(cells), cells, strict=True)
    body = [_lines(said, limit) + _lines(printable(cell.note), limit) for said, cell in shown]
    return [block or [""] for block in (head, *body)]


def _lines(said: str, limit: int) -> Block:
    if len(said) <= limit:
        return [said] if said else []
    return textwrap.wrap(said, limit, break_on_hyphens=False)


def _numbers(cells: Sequence[Cell]) -> list[str]:
    """Values with their marks and spreads, each part below its like; words as they are."""
    parts = [
        (
            printable(cell.text),
            f" ({cell.mark})" if cell.mark else "",
            f" ±{printable(cell.spread)}" if cell.spread else "",
            f" ({cell.spread_mark})" if cell.spread_mark else "",
        )
        for cell in cells
    ]
    valued = [part for part, cell in zip(parts, cells, strict=True) if cell.value is not None]
    widths = [max(map(len, part)) for part in zip(*valued, strict=True)]
    return [
        "".join(part).strip() if cell.value is None else _aligned(part, widths)
        for part, cell in zip(parts, cells, strict=True)
    ]


def _aligned(parts: Sequence[str], widths: Sequence[int]) -> str:
    value, mark, spread, spread_mark = (
        part.rjust(width) if i in (0, 2) else part.ljust(width)
        for i, (part, width) in enumerate(zip(parts, widths, strict=True))
    )
    return value + mark + spread + spread_mark


def _beside(blocks: Sequence[Block], layout: Sequence[tuple[int, bool]]) -> list[str]:
    """The cells of a row beside each other, as many lines as the tallest has."""
    lines = []
    for i in range(max(map(len, blocks))):
        parts = [block[i] if i < len(block) else "" for block in blocks]
        lines.append(
            "  ".join(
                part.rjust(width) if right else part.ljust(width)
                for part, (width, right) in zip(parts, layout, strict=True)
            )
        )
    return lines


def _pieces(widths: Sequence[int], width: int) -> list[list[int]]:
    """The columns after the first, in as few runs as fit into `width`."""
    pieces: list[list[int]] = []
    used = width + 1
    for column, own in enumerate(widths[1:], 1):
        if used + 2 + own > width:
            pieces.append([])
            used = widths[0]
        pieces[-1].append(column)
        used += 2 + own
    return pieces or [[]]
