"""A table as LaTeX with booktabs, its marks as in the paper."""

import unicodedata
from collections.abc import Sequence

from jiant_sparse.report.numbers import printable
from jiant_sparse.report.rendering.layout import numeric
from jiant_sparse.report.table import Cell, Column, Table

# A column of words that are longer wraps; a table of more columns is scaled to the line.
LONG = 40
MANY = 6
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


def latex(table: Table) -> str:
    """A complete `table` environment; its first line says which packages it needs."""
    wide = len(table.columns) > MANY
    scaled = [r"\resizebox{\linewidth}{!}{%"] if wide else []
    notes = [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
    notes += [rf"{_escaped(note)}\par" for note in table.notes]
    packages = r"\usepackage{booktabs}" + (r" and \usepackage{graphicx}" if wide else "")
    lines = [
        f"% Needs {packages}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_escaped(_sentence(table.title))} {_escaped(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        *scaled,
        rf"\begin{{tabular}}{{{_format(table)}}}",
        r"\toprule",
        *_heads(table.columns),
        r"\midrule",
        *(line for row in table.rows for line in _row(row)),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        *([*notes, r"\end{minipage}"] if table.notes else []),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _sentence(title: str) -> str:
    return title if title.endswith((".", "?", "!")) else f"{title}."


def _format(table: Table) -> str:
    kinds = ["l"]
    for i in range(1, len(table.columns)):
        longest = max((max(len(row[i].text), len(row[i].note)) for row in table.rows), default=0)
        short = "r" if numeric(table, i) else "l"
        kinds.append(short if longest <= LONG else r"p{0.3\linewidth}")
    return "".join(kinds)


def _heads(columns: Sequence[Column]) -> list[str]:
    lines = [_line([_escaped(column.title) for column in columns])]
    if any(column.subtitle for column in columns):
        lines.append(_line([_small(column.subtitle) for column in columns]))
    return lines


def _row(cells: Sequence[Cell]) -> list[str]:
    """The row, and a second one if any of its cells has a note."""
    lines = [_line([_cell(cell) for cell in cells])]
    if any(cell.note for cell in cells):
        lines.append(_line([_small(cell.note) for cell in cells]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return rf"{' & '.join(cells)} \\"


def _small(text: str) -> str:
    return rf"{{\scriptsize {_escaped(text)}}}" if text else ""


def _cell(cell: Cell) -> str:
    said = _escaped(cell.text)
    shown = rf"\textbf{{{said}}}" if cell.tone == "good" and said else said
    shown += f"$_{{[{cell.mark}]}}$" if cell.mark else ""
    shown += rf" $\pm$ {_escaped(cell.spread)}" if cell.spread else ""
    return shown + (f"$_{{[{cell.spread_mark}]}}$" if cell.spread_mark else "")


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(sign) or _letter(sign) for sign in printable(text))


def _letter(sign: str) -> str:
    """ASCII, and accented letters that every font has; anything else by its number."""
    base, *marks = unicodedata.normalize("NFD", sign)
    plain = sign.isascii() or (marks and base.isascii() and ord(sign) < 0x100)
    return sign if plain else f"{{[}}U+{ord(sign):04X}{{]}}"
