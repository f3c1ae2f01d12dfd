"""Learning curves: the score that selects the best checkpoint, by training step and task."""

import statistics
from collections.abc import Iterable
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from jiant_sparse.report import numbers
from jiant_sparse.report.figures import style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame
from jiant_sparse.schema.record import Record

NAME = "learning_curves"
CAPTION = (
    "Mean over seeds of the dev score that selects the best checkpoint, in percent; for a task "
    "with two metrics it is their mean. A curve shows the steps at which all of its seeds were "
    "scored, so it ends where the first of them stopped. Dotted: what always giving the most "
    "frequent answer scores on the test set in the reported metric."
)
MOST_PANELS, COLUMNS = 12, 3
# Points of one line, and markers on it.
MOST_POINTS, MARKS = 24, 3
_MAJORITY: style.Line = {"color": style.INK, "linewidth": 0.7, "linestyle": (0, (1, 1.5))}


def draw(frame: Frame) -> Figure | str:
    """A panel for each task, a line for each method: the mean over its seeds; or why none."""
    if not any(record.history for record in frame.ok["record"]):
        return "no record holds a history of dev scores"
    methods, tasks = frame.methods["method"][: style.MOST], frame.tasks[:MOST_PANELS]
    drawn = frame.results["task"].isin(tasks["task"]) & frame.results["method"].isin(methods)
    results = frame.results[drawn].assign(curve=lambda its: its["records"].map(curve))
    seeds = style.seeds(len(histories(records)) for records in results["records"])
    legend = [(label, style.look(place)) for place, label in enumerate(methods)]
    foot = f"Mean over {seeds}."
    notes = style.not_drawn(frame.methods["method"])
    notes += style.note("Tasks not drawn for want of room", frame.tasks["title"][MOST_PANELS:])
    where = results["task"] + " / " + results["method"]
    empty = results["curve"].map(len) == 0
    notes += style.note("No curve, for want of a score at a common step", where[empty])
    gaps = (results["failed"] > 0) | (results["missing"].fillna(0) > 0)
    notes += style.note("Not all planned seeds are in the mean", where[gaps])
    if tasks["majority"].notna().any():
        legend.append(("majority", _MAJORITY))
        foot += " Majority: always the most frequent answer, on the test set."
    else:
        notes.append("No majority baseline is known for these test sets.")
    by_task = [results[results["task"] == task] for task in tasks["task"]]
    highest = ", ".join(filter(None, map(_highest, by_task))) or "none"
    gist = f"The curves that end highest: {highest}."
    figure = Figure(NAME, "Learning curves", CAPTION, gist, (*notes,))
    panels = [partial(_panel, its) for its in by_task]
    columns = min(COLUMNS, len(panels))
    return style.paint(figure, panels, columns=columns, height=2.5, foot=foot, legend=legend)


def histories(records: Iterable[Record]) -> list[dict[int, float]]:
    """The dev scores by step of each cell that ended well and has one; fractions."""
    found = [{k: v for k, v in r.history if v is not None} for r in records if r.status == "ok"]
    return [history for history in found if history]


def curve(records: Iterable[Record]) -> pd.Series:
    """Mean dev score by step, in percent, at the steps at which all seeds with a history have one.

    So a curve ends with the first of its seeds, and is of the same seeds everywhere.
    """
    known = histories(records)
    steps = sorted(set.intersection(*map(set, known))) if known else []
    means = [100 * statistics.fmean(history[step] for history in known) for step in steps]
    return pd.Series(means, steps, dtype=float)


def _panel(results: pd.DataFrame, axes: Axes) -> None:
    """The curves of one task's results, a row for each method."""
    for number, points in enumerate(results["curve"]):
        if points.empty:
            continue
        stride = -(-len(points) // MOST_POINTS)
        drawn = pd.concat([points[:-1:stride], points[-1:]])
        # Markers of different lines do not stand above each other.
        every = max(1, len(drawn) // MARKS)
        marks = {"markersize": 4.2, "markevery": (number * every // len(results), every)}
        axes.plot(drawn.index, drawn, **style.look(number, linewidth=1, **marks))
    majority = results["majority"].iloc[0]
    if pd.notna(majority):
        axes.axhline(majority, **_MAJORITY)
        axes.annotate(
            f"{majority:.1f}",
            (1, majority),
            (0, 2),
            va="bottom",
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=style.SMALL,
            # Curves may run behind it.
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
    axes.set_title(style.shown(results["title"].iloc[0]))
    axes.set_xlabel("training step")
    style.step_axis(axes)
    place = axes.get_subplotspec()
    if place is None or place.is_first_col():
        axes.set_ylabel("dev score [%]")


def _highest(results: pd.DataFrame) -> str:
    """The method whose curve ends highest, and where; empty if there is no curve."""
    known = [row for row in results.itertuples() if len(row.curve)]
    if not known:
        return ""
    best = max(known, key=lambda row: row.curve.iloc[-1])
    step = numbers.count(best.curve.index[-1])
    return f"{best.title} {best.method} ({best.curve.iloc[-1]:.1f} at step {step})"
