"""Coordinates of the page's small plots; `plots.html` draws them."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from jiant_sparse.schema.record import Record

# The smallest and the largest value of an axis.
Span = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Where the data of a plot lies in its drawing, and how many points of a curve it has."""

    left: int
    right: int
    bottom: int
    top: int
    most: int


SPARK = Box(left=4, right=116, bottom=18, top=4, most=80)
PLOT = Box(left=34, right=352, bottom=126, top=20, most=240)


@dataclass(frozen=True)
class Curve:
    """The dev scores of a cell, in percent, and where they lie in a box.

    path: of the curve, broken where a score is undefined. best: where the best step lies. Ticks
    are (place, value). scores: (step, score) of each known score; chosen: that of the best step.
    """

    path: str
    best: tuple[float, float] | None
    x_ticks: list[tuple[float, float]]
    y_ticks: list[tuple[float, float]]
    scores: list[tuple[int, float]]
    chosen: tuple[int, float] | None


def span(values: Iterable[float | None], majority: float | None = None) -> Span | None:
    """The smallest and the largest known value; None if none is known.

    The span holds `majority` too, unless it would be more than twice as wide.

    >>> span([60.0, None, 70.0], majority=52.0), span([60.0, 70.0], majority=49.0)
    ((52.0, 70.0), (60.0, 70.0))
    """
    known = [value for value in values if value is not None and not math.isnan(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    if majority is None or math.isnan(majority):
        return low, high
    wide = min(low, majority), max(high, majority)
    return wide if wide[1] - wide[0] <= 2 * (high - low) else (low, high)


def at(value: float, span: Span, start: float, end: float) -> float:
    """Where `value` of `span` lies between `start` and `end`; in the middle of an empty span.

    >>> at(70, (50, 90), 4, 116)
    60.0
    """
    low, high = span
    share = 0.5 if high == low else (value - low) / (high - low)
    return float(f"{start + share * (end - start):.4g}")


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers between `low` and `high`.

    >>> ticks(8.1, 63.4, most=4)
    [20.0, 40.0, 60.0]
    """
    if low == high:
        return [round(low, 2)]
    places = MaxNLocator(most, steps=(1, 2, 5, 10)).tick_values(low, high)
    return [round(float(place), 9) for place in places if low <= place <= high]


def curve(record: Record, scores: Span | None, box: Box) -> Curve | None:
    """The history of a cell in `box`, on the scale `scores`, in percent; None if there is none."""
    known = {step: 100 * value for step, value in record.history if value is not None}
    if not known or scores is None:
        return None
    steps = [step for step, _ in record.history]
    best = record.best_step if record.best_step in known else None
    across = (min(steps), max(steps))

    def point(step: int) -> tuple[float, float]:
        x = at(step, across, box.left, box.right)
        return x, at(known[step], scores, box.bottom, box.top)

    # A long run costs no more than a short one; its best step stays.
    stride = -(-len(steps) // box.most)
    drawn = sorted({*steps[::stride], steps[-1], *([] if best is None else [best])})
    path = ""
    for before, step in zip([None, *drawn], drawn, strict=False):
        if step in known:
            x, y = point(step)
            # A line to itself makes a lone point visible.
            path += f"L{x:g} {y:g}" if before in known else f"M{x:g} {y:g}h0"
    return Curve(
        path=path,
        best=None if best is None else point(best),
        x_ticks=[(at(tick, across, box.left, box.right), tick) for tick in ticks(*across, 5)],
        y_ticks=[(at(tick, scores, box.bottom, box.top), tick) for tick in ticks(*scores, 4)],
        scores=sorted(known.items()),
        chosen=None if best is None else (best, known[best]),
    )
