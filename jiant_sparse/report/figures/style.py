"""How every figure looks: one type size, a look for each line that survives greyscale.

A figure is drawn inside `drawing`, which lets no setting of the user's matplotlib in and none of
ours out. The same records give the same bytes, with the same version of matplotlib.
"""

import io
import warnings
import xml.sax.saxutils
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import matplotlib.style
from matplotlib.figure import Figure as Canvas

from jiant_sparse.report import numbers
from jiant_sparse.report.summary import Row, Task

# The page puts its own colours in their place; see inline.py.
INK, QUIET, HAIR, PAPER = "#1f1d1a", "#6b665d", "#dcd7cc", "#ffffff"
# Spread over the greys that stand out from white: no two within 7 of 255, neighbours not within 20.
# Each has a twin for a dark page.
PALETTE = (
    "#1b3a6b",
    "#ad4b12",
    "#35a07f",
    "#832a5c",
    "#b08a00",
    "#3a78bd",
    "#4a2f72",
    "#586714",
    "#282828",
    "#d9737f",
)
DARK_PALETTE = (
    "#8fb3ee",
    "#e8975c",
    "#5cc7a5",
    "#e089bb",
    "#d9b63a",
    "#5f9fe0",
    "#b69be0",
    "#b5c756",
    "#e0ddd6",
    "#f0a0a8",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# Not a divisor of the number of MARKERS: a filled mark and its hollow twin differ in dashes too.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (4, 1.5)),
    (0, (1, 1.2)),
    (0, (6, 1.5, 1, 1.5)),
    (0, (9, 1.5)),
)
# Filled and hollow; more lines than this no reader tells apart.
MOST = 2 * len(MARKERS)
# Each method of the papers has the same look in every figure of every report.
OWN = {
    "sam": 0,
    "lora": 1,
    "random": 2,
    "diff_pruning": 3,
    "adapter": 4,
    "bitfit": 5,
    "mixout": 6,
    "mag_pruning": 7,
    "full_tuning": 8,
    "child_pruning": 9,
    # Those of the second paper: of its eight, Frozen alone shares a colour, with Bitfit.
    "stochastic_tuning": 10,
    "top_tuning": 11,
    "random_per_step": 12,
    "multi_head": 13,
    "dps_mix": 14,
    "frozen": 15,
}
# Other rows take the looks of methods that are not there, of the second paper's before others.
SPARE = (*range(10, MOST), *range(10))
# In points, as all sizes here; nothing is smaller.
SMALL = 8
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-9, 9),
    "figure.facecolor": PAPER,
    "grid.color": HAIR,
    "grid.linewidth": 0.5,
    "text.color": INK,
    # A label from a record may hold a dollar sign.
    "text.parse_math": False,
    # The grid shows where a label belongs.
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "svg.fonttype": "none",
}
SOURCE = "Fu et al. 2023, arXiv 2211.15583"


@dataclass(frozen=True)
class Figure:
    """A finished figure: `name` is the stem of its files; notes say what is not in it, and why.

    beside: the published tables and figures whose values it draws, as "Table 1".
    """

    NAMES: ClassVar = (
        "ranks",
        "density",
        "discontinuity",
        "learning_curves",
        "tuned_fraction",
        "time_memory",
    )

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Look:
    """What tells one line from another: any two of these do, without the colour."""

    colour: str
    marker: str
    hollow: bool
    dash: Any

    def mark(self, **changes: Any) -> dict[str, Any]:
        """Arguments of `Axes.plot` for this look; `changes` win."""
        colour = changes.pop("colour", self.colour)
        face = PAPER if self.hollow else colour
        fields = {"color": colour, "linestyle": self.dash, "marker": self.marker}
        fields |= {"markerfacecolor": face, "markeredgecolor": colour, "markeredgewidth": 0.9}
        return fields | changes


def look(number: int) -> Look:
    """The look with this number, 0 to MOST - 1; beyond, they begin again."""
    return Look(
        PALETTE[number % len(PALETTE)],
        MARKERS[number % len(MARKERS)],
        number % MOST >= len(MARKERS),
        DASHES[number % len(DASHES)],
    )


def chosen(rows: Sequence[Row]) -> list[Row]:
    """Rows that are drawn: all, or MOST of them, those named like a method of the papers first."""
    own = [row for row in rows if row.label in OWN]
    others = [row for row in rows if row.label not in OWN]
    kept = {row.label for row in [*own, *others][:MOST]}
    return [row for row in rows if row.label in kept]


def not_drawn(rows: Sequence[Row]) -> list[str]:
    """A note about the rows that `chosen` leaves out, if any."""
    kept = {row.label for row in chosen(rows)}
    rest = [row.label for row in rows if row.label not in kept]
    if not rest:
        return []
    return [f"Methods not drawn, since no reader tells so many marks apart: {many(rest)}."]


def method_looks(rows: Sequence[Row]) -> dict[str, Look]:
    """Label -> look: its own for the one row that stands for a method of the papers."""
    keys = [row.key for row in rows]
    taken = {
        row.label: OWN[row.key]
        for row in rows
        if row.key in OWN and (row.label == row.key or keys.count(row.key) == 1)
    }
    # Two rows with one key and one so labelled: the labelled one has it.
    free = iter(n for n in SPARE if n not in taken.values())
    return {
        row.label: look(taken.get(row.label) if row.label in taken else next(free, 0))
        for row in rows
    }


def task_looks(tasks: Sequence[Task]) -> dict[str, Look]:
    """Label -> look, in the order of the columns."""
    return {task.label: look(number) for number, task in enumerate(tasks)}


def shown(label: str, most: int = 28) -> str:
    """A foreign string as it may stand in a figure: one line, not long, never hidden."""
    text = numbers.printable(label)
    text = text if len(text) <= most else text[: most - 1] + "…"
    # matplotlib leaves a label that begins so out of a legend.
    return f"\N{HAIR SPACE}{text}" if text.startswith("_") else text


def seeds(counts: Sequence[int]) -> str:
    """How many seeds stand behind what is drawn: "10 seeds" or "1 to 10 seeds"."""
    known = sorted({count for count in counts if count})
    if not known:
        return "no seed"
    if len(known) == 1:
        return f"{known[0]} seed{'s' * (known[0] > 1)}"
    return f"{known[0]} to {known[-1]} seeds"


def many(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, the rest as a number."""
    listed = ", ".join(numbers.printable(name) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


@contextmanager
def drawing(name: str) -> Iterator[None]:
    """Everything between making a canvas and `finish` happens in here."""
    ours = {**SETTINGS, "svg.hashsalt": f"jiant_sparse {name}"}
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        # A label may need letters that the font lacks; its box is warning enough.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


@dataclass(frozen=True)
class Words:
    """What is said about a figure. `gist`: its numbers in a sentence or two, for those who do not
    see it; it goes into the SVG as <desc>. `notes` and `beside`: as of a `Figure`."""

    name: str
    title: str
    caption: str
    gist: str
    notes: Sequence[str]
    beside: Sequence[str] = ()


def finish(canvas: Canvas, words: Words) -> Figure:
    """The figure as SVG and as PNG, without a date."""
    svg, png = io.StringIO(), io.BytesIO()
    canvas.savefig(svg, format="svg", metadata={"Date": None, "Title": words.title})
    canvas.savefig(png, format="png", dpi=144)
    gist = xml.sax.saxutils.escape(numbers.printable(words.gist))
    drawn = svg.getvalue().replace("</title>", f"</title>\n <desc>{gist}</desc>", 1)
    return Figure(
        *(words.name, words.title, words.caption, drawn, png.getvalue()),
        *((*words.notes,), (*words.beside,)),
    )
