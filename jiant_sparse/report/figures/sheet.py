"""Where panels, legend and foot line stand: fixed margins in inches, so that no text is cut."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from jiant_sparse.report.figures import style

WIDTH = 9.5
LEFT, RIGHT, ACROSS, BELOW = 0.82, 0.12, 0.82, 0.78
TITLE_LINE, LEGEND_LINE, FOOT_LINE = 0.17, 0.18, 0.16
# Characters of a foot line at its type size.
FOOT_WIDTH = 140

Handles = Sequence[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Grid:
    """Panels in rows of `columns`, each `height` inches high under `title_lines` lines."""

    count: int
    columns: int
    height: float
    title_lines: int = 1

    @property
    def rows(self) -> int:
        return math.ceil(self.count / self.columns)

    @property
    def width(self) -> float:
        """Of one panel, in inches."""
        return (WIDTH - LEFT - RIGHT - (self.columns - 1) * ACROSS) / self.columns

    def left(self, column: int) -> float:
        """Where a column begins, in inches."""
        return LEFT + column * (self.width + ACROSS)


def panels(grid: Grid, legend: Handles, foot: str) -> tuple[Canvas, list[Axes]]:
    """A canvas with the axes of `grid`, a legend of (label, arguments of a line) and a foot text.

    The legend stands in the free place of the last row if it fits there, below all if not.
    """
    free = grid.columns * grid.rows - grid.count
    beside = free > 0 and _lines(legend, _inside(grid, free)) * LEGEND_LINE <= grid.height
    abreast = _abreast(legend, _inside(grid, free) if beside else WIDTH - LEFT)
    lines = 0 if beside else math.ceil(len(legend) / abreast)
    feet = textwrap.wrap(foot, FOOT_WIDTH)
    under = 0.14 + FOOT_LINE * len(feet)
    below = under + 0.42 + LEGEND_LINE * lines + (0.12 if lines else 0)
    top = 0.18 + TITLE_LINE * grid.title_lines
    gap = BELOW + TITLE_LINE * (grid.title_lines - 1)
    total = top + grid.rows * grid.height + (grid.rows - 1) * gap + below
    canvas = Canvas(figsize=(WIDTH, total))
    FigureCanvasAgg(canvas)
    axes = []
    for number in range(grid.count):
        row, column = divmod(number, grid.columns)
        bottom = below + (grid.rows - 1 - row) * (grid.height + gap)
        left, width = grid.left(column), grid.width
        axes.append(
            canvas.add_axes((left / WIDTH, bottom / total, width / WIDTH, grid.height / total))
        )
    if legend:
        corner = (grid.left(grid.columns - free), below) if beside else (LEFT, under)
        _legend(canvas, legend, abreast, (corner[0] / WIDTH, corner[1] / total))
    small = {"fontsize": style.SMALL, "color": style.QUIET, "va": "bottom", "linespacing": 1.3}
    canvas.text(LEFT / WIDTH, 0.08 / total, "\n".join(feet), **small)
    return canvas, axes


def _inside(grid: Grid, free: int) -> float:
    return WIDTH - RIGHT - grid.left(grid.columns - free)


def _abreast(legend: Handles, width: float) -> int:
    """How many columns of a legend, each as wide as its longest label, fit into `width` inches."""
    lengths = [len(label) for label, _ in legend]
    for columns in range(len(lengths), 1, -1):
        short, longer = divmod(len(lengths), columns)
        ends = [short * n + min(n, longer) for n in range(columns + 1)]
        longest = [max(lengths[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
        if sum(0.65 + 0.083 * length for length in longest) <= width:
            return columns
    return 1


def _lines(legend: Handles, width: float) -> int:
    return math.ceil(len(legend) / _abreast(legend, width))


def _legend(canvas: Canvas, legend: Handles, abreast: int, place: tuple[float, float]) -> None:
    canvas.legend(
        [Line2D([], [], **fields) for _, fields in legend],
        [label for label, _ in legend],
        loc="lower left",
        bbox_to_anchor=place,
        ncols=abreast,
        borderpad=0,
        borderaxespad=0,
        handlelength=3,
        columnspacing=1.6,
        labelspacing=0.4,
    )
