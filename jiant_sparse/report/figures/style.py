"""The look of all figures, and how a figure becomes SVG and PNG.

The user's matplotlib settings do not change a figure, and it does not change them. The same
records give the same bytes, with the same version of matplotlib.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.sax.saxutils import escape

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from jiant_sparse.report import notes, numbers
from jiant_sparse.units import counted

INK, QUIET, HAIR, PAPER = "#1f1d1a", "#6b665d", "#dcd7cc", "#ffffff"
# Neighbours also differ in grey, by more than 20 of 255.
PALETTE = (
    "#1b3a6b", "#ad4b12", "#35a07f", "#832a5c", "#b08a00",
    "#3a78bd", "#4a2f72", "#586714", "#282828", "#d9737f",
)  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (9, 1.5)))
# Looks that a reader tells apart without colour: every marker, filled and hollow.
MOST = 2 * len(MARKERS)
# The width of a figure and the height of a line of the legend and of the foot, in inches.
WIDTH, LEGEND_LINE, FOOT_LINE = 10.0, 0.2, 0.17
# The smallest type size, in points, and the characters of a foot's line at that size.
SMALL, FOOT_WIDTH = 8, 140
SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-9, 9),
    "grid.color": HAIR,
    "grid.linewidth": 0.5,
    "text.color": INK,
    # A label from a record may hold a dollar sign.
    "text.parse_math": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "svg.fonttype": "none",
}
SOURCE = "Fu et al. 2023, arXiv 2211.15583"

# Arguments of `Axes.plot`.
Line = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    name: the stem of its files. gist: its numbers in a sentence or two, for readers who do not
    see it; the SVG holds it as <desc>. notes: what is not drawn, and why. beside: the published
    tables and figures whose values it draws, as "Table 1".
    """

    name: str
    title: str
    caption: str
    gist: str = ""
    notes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    svg: str = ""
    png: bytes = b""


def look(place: int, **changes: Any) -> Line:
    """Arguments of `Axes.plot` for the method or task at this place of the report, from 0.

    So a method looks the same in all figures of a report. `changes` win.

    >>> look(8)["marker"], look(8, color="red")["markeredgecolor"]
    ('o', 'red')
    """
    colour = changes.get("color", PALETTE[place % len(PALETTE)])
    return {
        "color": colour,
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markerfacecolor": PAPER if place % MOST >= len(MARKERS) else colour,
        "markeredgecolor": colour,
        "markeredgewidth": 0.9,
        **changes,
    }


def paint(
    figure: Figure,
    panels: Sequence[Callable[[Axes], None]],
    *,
    columns: int,
    height: float,
    foot: str,
    legend: Sequence[tuple[str, Line]] = (),
) -> Figure:
    """Draw the panels, each by its function, with a legend at their right and a foot line below.

    height: of one row of panels with its labels, in inches. legend: labels and their lines.
    """
    rows = math.ceil(len(panels) / columns)
    lines = textwrap.wrap(foot, FOOT_WIDTH)
    tall = max(rows * height, LEGEND_LINE * len(legend)) + FOOT_LINE * len(lines)
    ours = {**SETTINGS, "svg.hashsalt": f"jiant_sparse {figure.name}"}
    with matplotlib.style.context(["default", ours]), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas = Canvas(figsize=(WIDTH, tall))
        for place, panel in enumerate(panels, 1):
            panel(canvas.add_subplot(rows, columns, place))
        if legend:
            handles = [Line2D([], [], **line, label=shown(label)) for label, line in legend]
            canvas.legend(handles=handles, loc="outside right upper")
        canvas.supxlabel("\n".join(lines), fontsize=SMALL, color=QUIET, x=0.01, ha="left")
        return finish(canvas, figure)


def finish(canvas: Canvas, figure: Figure) -> Figure:
    """The figure with its SVG and its PNG, both without a date."""
    svg, png = io.StringIO(), io.BytesIO()
    # Laid out once for both files, which saves half of the time.
    ConstrainedLayoutEngine().execute(canvas)
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(svg, format="svg", metadata=nothing)
    canvas.savefig(png, format="png", dpi=144)
    title, gist = (escape(numbers.printable(text)) for text in (figure.title, figure.gist))
    said = f"<title>{title}</title>\n <desc>{gist}</desc>\n <defs>"
    return replace(figure, svg=svg.getvalue().replace("<defs>", said, 1), png=png.getvalue())


def log_axis(axes: Axes, which: str) -> None:
    """Make the axis `which` ("x" or "y") logarithmic, with plain numbers; call it after drawing."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    # Over less than a decade, round numbers at equal distances are more than powers offer.
    few = MaxNLocator(nbins=7, steps=(1, 2, 5, 10))
    powers = LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0))
    axis.set_major_locator(few if high < 8 * low else powers)
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def step_axis(axes: Axes) -> None:
    """Label the x-axis with training steps, with thin spaces between thousands."""
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: numbers.count(value))


def shown(label: str, most: int = 28) -> str:
    """A label of a record as a figure may show it: on one line, not long, never hidden."""
    text = numbers.printable(label)
    text = text if len(text) <= most else text[: most - 1] + "…"
    # matplotlib leaves a label that begins with an underscore out of a legend.
    return f"\N{HAIR SPACE}{text}" if text.startswith("_") else text


def seeds(counts: Iterable[int]) -> str:
    """Name the numbers of seeds behind a figure.

    >>> [seeds([3, 10, 0]), seeds([1]), seeds([0])]
    ['3 to 10 seeds', '1 seed', 'no seed']
    """
    known = sorted({int(count) for count in counts if count})
    if len(known) > 1:
        return f"{known[0]} to {known[-1]} seeds"
    return counted(known[0], "seed") if known else "no seed"


def many(names: Sequence[str], most: int = 6) -> str:
    """List names in a sentence, those after the first `most` as a number.

    >>> many(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    listed = ", ".join(numbers.printable(name) for name in names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"


def note(what: str, names: Iterable[str]) -> list[str]:
    """One note that lists `names`, or none if there are none.

    >>> note("Tasks not drawn for want of room", ["RTE", "CB"])
    ['Tasks not drawn for want of room: RTE, CB.']
    """
    return [f"{what}: {many(listed)}."] if (listed := [*names]) else []


def not_drawn(labels: Sequence[str]) -> list[str]:
    """The note about methods after the MOST that a figure draws."""
    what = "Methods not drawn, since no reader tells so many marks apart"
    return note(what, labels[MOST:])


def beside(
    results: pd.DataFrame, source: str, but: str = "", name: str = ""
) -> tuple[str, list[str]]:
    """What a figure's foot and notes say of published values that it draws beside `results`.

    source: where the values are from; the foot adds whether results and values are comparable, as
    a figure may stand alone. but: a setting that may differ, as the figure shows its effect. name:
    the result set, if there are several.
    """
    apart = notes.apart_briefly(results, but)
    if not apart:
        return f"{source}.", []
    word = "partly not comparable" if notes.is_partly(results, but) else "not comparable"
    said = f"{word} with the published values: {apart}."
    return f"{source} ({word}).", [f"{name}: {said}" if name else f"{said[0].upper()}{said[1:]}"]
