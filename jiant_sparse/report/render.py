"""A table as CSV, Markdown, LaTeX and text for a terminal. Every form escapes for itself."""

import io
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import rich.table
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from tabulate import tabulate

from jiant_sparse.report.numbers import printable, sentence
from jiant_sparse.report.table import Cell, Table

# CSV: decimals of a number; below SMALL they would lose digits that matter: 3e-8 is not 0.
DECIMALS, SMALL, SMALL_DIGITS = 6, 1e-3, 4
# LaTeX: a column of words that are longer wraps; a table of more columns is scaled to the line.
LONG, MANY = 40, 6
# Terminal: its width, and the share of it at which the words of the first column, and of any
# other column, wrap.
WIDTH, HEAD, WORDS = 100, 0.35, 0.5
SPECIAL = {
    **{sign: f"\\{sign}" for sign in "$&#_%{}"},
    # After the end of a row, a bracket or an asterisk would be read as its argument.
    **{sign: f"{{{sign}}}" for sign in "[]*"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    # A straight mark exists only in some font encodings; two strokes exist in all.
    '"': "''",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "ρ": r"$\rho$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "²": "$^2$",
    "…": r"\ldots{}",
    "’": "'",
    "‘": "`",
    "“": "``",
    "”": "''",
    "ß": r"\ss{}",
    "\ufffd": "?",
}


def to_csv(table: Table) -> str:
    """Its data, for further computing; an empty field is unknown."""
    return table.data.astype(object).map(_plain).to_csv(index=False, lineterminator="\n")


def _plain(value: Any) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):
        small = 0 < abs(value) < SMALL
        # The sum turns -0.0 into 0.0.
        number = float(f"{value:.{SMALL_DIGITS}g}") if small else round(value, DECIMALS) + 0.0
        return repr(float(number))
    if not isinstance(value, str):
        return str(value)
    shown = printable(value)
    # A spreadsheet would take it for a formula.
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown


@dataclass(frozen=True)
class _Dialect:
    """How a form writes a cell: templates of what stands out, of a mark and of a spread."""

    escape: Callable[[str], str]
    bold: str
    mark: str
    spread: str

    def cell(self, cell: Cell) -> str:
        """The main text of a cell, with its mark and spread."""
        said = self.escape(cell.text)
        # Signs around nothing would stand there as they are.
        shown = self.bold.format(said) if cell.tone == "good" and said else said
        shown += self.mark.format(cell.mark) if cell.mark else ""
        shown += self.spread.format(self.escape(cell.spread)) if cell.spread else ""
        return shown + (self.mark.format(cell.spread_mark) if cell.spread_mark else "")


def to_markdown(table: Table) -> str:
    """Title, caption, a table in GitHub's dialect whose cells hold their notes, and the notes."""
    heads = [
        _markdown(column.title) + (f" ({_markdown(column.subtitle)})" if column.subtitle else "")
        for column in table.columns
    ]
    rows = [
        [MARKDOWN.cell(cell) + (f"<br>{_markdown(cell.note)}" if cell.note else "") for cell in row]
        for row in table.rows
    ]
    sides = ["right" if table.is_numeric(i) else "left" for i in range(len(heads))]
    parts = [
        f"### {_markdown(table.title)}",
        _opening(table.caption),
        tabulate(rows, heads, tablefmt="pipe", disable_numparse=True, colalign=sides),
        "\n".join(f"- {_opening(note)}" for note in table.notes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(text: str) -> str:
    """`text` on one line, and nothing in it a command, a link or a formula."""
    plain = re.sub(r"([\\`*_\[\]<>|&#~{}])", r"\\\1", printable(text))
    # GitHub reads a backslash before a dollar sign as part of a formula.
    plain = plain.replace("$", "<span>$</span>")
    # Bare addresses become links by themselves, and no backslash hinders that.
    plain = re.sub(r"(?i)(https?|ftp|mailto|xmpp):", r"\1&#58;", plain)
    return re.sub(r"(?i)\bwww\.", lambda found: f"{found[0][:3]}&#46;", plain).replace("@", "&#64;")


def _opening(text: str) -> str:
    """An escaped line that opens neither a list nor a heading nor a rule."""
    plain = re.sub(r"^(\d+)([.)])", r"\1\\\2", _markdown(text))
    return f"\\{plain}" if plain[:1] in ("-", "+", "=") else plain


def to_latex(table: Table) -> str:
    """A complete `table` environment; its first line says which packages it needs."""
    heads = [[_latex(column.title) for column in table.columns]]
    if any(column.subtitle for column in table.columns):
        heads.append([_small(column.subtitle) for column in table.columns])
    rows = []
    for row in table.rows:
        rows.append([LATEX.cell(cell) for cell in row])
        if any(cell.note for cell in row):
            rows.append([_small(cell.note) for cell in row])
    # The numbers keep equal heads apart.
    columns = pd.MultiIndex.from_arrays([*heads, range(len(table.columns))])
    style = pd.DataFrame(rows, columns=columns).style.hide(axis="index")
    tabular = style.hide(axis="columns", level=len(heads)).to_latex(
        hrules=True, sparse_columns=False, column_format=_format(table)
    )
    wide = len(table.columns) > MANY
    packages = r"\usepackage{booktabs}" + (r" and \usepackage{graphicx}" if wide else "")
    lines = [
        f"% Needs {packages}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(sentence(table.title))} {_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        *([r"\resizebox{\linewidth}{!}{%"] if wide else []),
        tabular.strip() + ("}" if wide else ""),
    ]
    if table.notes:
        lines += [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
        lines += [rf"{_latex(note)}\par" for note in table.notes]
        lines.append(r"\end{minipage}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _format(table: Table) -> str:
    kinds = "l"
    for i in range(1, len(table.columns)):
        longest = max((max(len(row[i].text), len(row[i].note)) for row in table.rows), default=0)
        short = "r" if table.is_numeric(i) else "l"
        kinds += short if longest <= LONG else r"p{0.3\linewidth}"
    return kinds


def _small(text: str) -> str:
    return rf"{{\scriptsize {_latex(text)}}}" if text else ""


def _latex(text: str) -> str:
    return "".join(SPECIAL.get(sign) or _letter(sign) for sign in printable(text))


def _letter(sign: str) -> str:
    """ASCII, and accented letters that every font has; anything else by its number."""
    parts = unicodedata.normalize("NFD", sign)
    plain = sign.isascii() or (len(parts) > 1 and parts[0].isascii() and ord(sign) < 0x100)
    return sign if plain else f"{{[}}U+{ord(sign):04X}{{]}}"


MARKDOWN = _Dialect(_markdown, bold="**{}**", mark=" ({})", spread=" ± {}")
LATEX = _Dialect(_latex, bold=r"\textbf{{{}}}", mark="$_{{[{}]}}$", spread=r" $\pm$ {}")
PLAIN = _Dialect(printable, bold="{}", mark=" ({})", spread=" ±{}")


def to_text(table: Table, width: int = WIDTH) -> str:
    """Title, caption, the table and its notes in `width` characters, 60 or more; columns that do
    not fit continue below, beside the first column again."""
    lines = [printable(table.title), *wrapped(table.caption, width), ""]
    for piece in _pieces(table, width):
        lines += [*_grid(table, [0, *piece], width), ""]
    lines += [line for note in table.notes for line in wrapped(note, width)]
    return "\n".join(lines).rstrip() + "\n"


def fits(table: Table, width: int = WIDTH) -> bool:
    """Whether the columns stand beside each other in `width` characters."""
    return len(_pieces(table, width)) == 1


def wrapped(
    said: str, width: int = WIDTH, *, indent: str = "", hanging: str | None = None
) -> list[str]:
    """A line of any length in lines of `width` characters: `indent` before the first, `hanging`
    before the others, two spaces more than `indent` if None."""
    after = f"{indent}  " if hanging is None else hanging
    return textwrap.wrap(
        printable(said),
        width,
        initial_indent=indent,
        subsequent_indent=after,
        break_on_hyphens=False,
    )


def _limit(index: int, width: int) -> int:
    return int(width * (HEAD if index == 0 else WORDS))


def _texts(table: Table, index: int) -> list[str]:
    """A column: its head and its cells, notes on lines of their own."""
    column = table.columns[index]
    texts = [printable(column.title) + "\n" + printable(column.subtitle)]
    for row in table.rows:
        texts.append(PLAIN.cell(row[index]) + "\n" + printable(row[index].note))
    return [text.removesuffix("\n") for text in texts]


def _pieces(table: Table, width: int) -> list[list[int]]:
    """The columns after the first, in as few runs as fit into `width` beside the first."""
    widths = []
    for i in range(len(table.columns)):
        longest = max(cell_len(line) for text in _texts(table, i) for line in text.split("\n"))
        widths.append(min(longest, _limit(i, width)))
    pieces: list[list[int]] = []
    used = width + 1
    for column, own in enumerate(widths[1:], 1):
        if used + 2 + own > width:
            pieces.append([])
            used = widths[0]
        pieces[-1].append(column)
        used += 2 + own
    return pieces or [[]]


def _grid(table: Table, columns: Sequence[int], width: int) -> list[str]:
    """These columns beside each other."""
    grid = rich.table.Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    texts = [_texts(table, i) for i in columns]
    for i, column in zip(columns, texts, strict=True):
        side: Any = "right" if table.is_numeric(i) else "left"
        limit = _limit(i, width)
        grid.add_column(Text(column[0]), justify=side, max_width=limit, overflow="fold")
    for cells in zip(*(column[1:] for column in texts), strict=True):
        grid.add_row(*map(Text, cells))
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(grid)
    return [line.rstrip() for line in stream.getvalue().splitlines()]
