"""Axes with labels where a reader expects them: logarithms and training steps."""

import math

from matplotlib.axes import Axes
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

from jiant_sparse.report import numbers

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def log_axis(axes: Axes, which: str) -> None:
    """Make the axis `which` ("x" or "y") logarithmic, with as many labels as its span needs.

    To be called after everything is drawn.
    """
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    first, last = axis.get_data_interval()
    if first == last:
        axes.set(**{f"{which}lim": (first / 2, last * 2)})
    low, high = axis.get_view_interval()
    decades = math.log10(high / low)
    labelled = (1.0,) if decades > 2 else (1.0, 2.0, 5.0)
    # Below a factor of eight, round numbers at equal distances are more than powers offer.
    if decades < 0.9:
        places = MaxNLocator(nbins=7, steps=(1, 2, 5, 10)).tick_values(low, high)
        axis.set_major_locator(FixedLocator([place for place in places if low <= place <= high]))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(LogLocator(subs=labelled))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis=which, which="minor", bottom=which == "x", left=which == "y")


def _power(value: float) -> str:
    """0.001 and 1000 as they are, what is farther from 1 as a power of ten."""
    exponent = round(math.log10(value))
    if abs(exponent) > 3 and math.isclose(value, 10.0**exponent):
        return "10" + str(exponent).translate(SUPERSCRIPTS)
    return f"{value:g}"


def step_axis(axes: Axes) -> None:
    """Training steps, with thin spaces between thousands."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(value)))
    axes.xaxis.get_major_locator().set_params(nbins=5)
