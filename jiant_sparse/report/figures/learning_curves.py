"""Learning curves: how the score that selects the best checkpoint grows, task by task."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from jiant_sparse.report import numbers
from jiant_sparse.report.figures import scales, sheet, style
from jiant_sparse.report.figures.style import Figure, Look
from jiant_sparse.report.summary import Group, Row, Summary, Task

NAME = "learning_curves"
TITLE = "Learning curves"
MOST_PANELS = 12
# Panels side by side, at most, and the height of one in inches where there are so many.
COLUMNS, HEIGHT, TALL = 3, 1.9, 2.7
# Points of one line; a longer history loses every second one, or more.
MOST_POINTS = 24
MARKS = 3

Point = tuple[int, float]


def draw(summary: Summary) -> Figure | str:
    """A panel for each task, a line for each method: the mean over its seeds; or why none."""
    if not any(record.history for group in summary.groups for record in group.ok):
        return "no record holds a history of dev scores"
    rows = style.chosen(summary.rows)
    tasks = summary.tasks[:MOST_PANELS]
    looks = style.method_looks(rows)
    legend: list[tuple[str, Mapping[str, Any]]] = [
        (style.shown(row.label), looks[row.label].mark()) for row in rows
    ]
    baseline = any(task.majority is not None for task in tasks)
    if baseline:
        legend.append(("majority", _BASELINE))
    groups = [group for row in rows for group in row.groups[: len(tasks)]]
    with style.drawing(NAME):
        counts = [len(_histories(group)) for group in groups]
        foot = f"Mean over {style.seeds(counts)}."
        if baseline:
            foot += " Majority: always the most frequent answer, on the test set."
        columns = min(COLUMNS, len(tasks))
        grid = sheet.Grid(len(tasks), columns, HEIGHT if columns == COLUMNS else TALL)
        canvas, axes = sheet.panels(grid, legend, foot)
        for number, place in enumerate(axes):
            _panel(place, tasks[number], number, [(row, looks[row.label]) for row in rows])
            if number % columns == 0:
                place.set_ylabel("dev score [%]")
        notes = _notes(summary, groups, baseline=baseline)
        words = style.Words(NAME, TITLE, _caption(), _gist(tasks, rows), notes)
        return style.finish(canvas, words)


_BASELINE = {"color": style.INK, "linewidth": 0.7, "linestyle": (0, (1, 1.5))}


def _panel(axes: Any, task: Task, number: int, rows: Sequence[tuple[Row, Look]]) -> None:
    for place, (row, look) in enumerate(rows):
        points = curve(row.groups[number])
        if not points:
            continue
        drawn = _thinned(points)
        # Marks of different lines do not stand above each other.
        every = max(1, len(drawn) // MARKS)
        mark = (place * every // max(1, len(rows)), every)
        fields = look.mark(linewidth=1.0, markersize=4.2, markevery=mark)
        axes.plot(*zip(*drawn, strict=True), **fields)
    if task.majority is not None:
        axes.axhline(task.majority, **_BASELINE)
        axes.annotate(
            f"{task.majority:.1f}",
            (1, task.majority),
            (0, 2),
            va="bottom",
            ha="right",
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=style.SMALL,
            # Where curves run behind it.
            bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )
    axes.set_title(style.shown(task.title))
    axes.set_xlabel("training step")
    scales.step_axis(axes)


def curve(group: Group) -> list[Point]:
    """(step, mean dev score in percent) at the steps at which all seeds with a history have one.

    So a curve ends with the first of its seeds, and is of the same seeds everywhere.
    """
    histories = _histories(group)
    if not histories:
        return []
    first, *others = histories
    steps = [step for step in sorted(first) if all(step in other for other in others)]
    return [(step, 100 * fmean(history[step] for history in histories)) for step in steps]


def _histories(group: Group) -> list[dict[int, float]]:
    known = (
        {step: value for step, value in record.history if value is not None} for record in group.ok
    )
    return [history for history in known if history]


def _thinned(points: Sequence[Point]) -> list[Point]:
    stride = -(-len(points) // MOST_POINTS)
    last = len(points) - 1
    return [point for i, point in enumerate(points) if i % stride == 0 or i == last]


def _gist(tasks: Sequence[Task], rows: Sequence[Row]) -> str:
    """For each task, the method whose curve ends highest."""
    said = []
    for number, task in enumerate(tasks):
        ends = {row.label: curve(row.groups[number])[-1:] for row in rows}
        known = {label: points[0] for label, points in ends.items() if points}
        if known:
            label = max(known, key=lambda one: known[one][1])
            step, score = known[label]
            said.append(f"{task.title} {label} ({score:.1f} at step {numbers.count(step)})")
    return f"The curves that end highest: {', '.join(said) or 'none'}."


def _caption() -> str:
    return (
        "Mean over seeds of the dev score that selects the best checkpoint, in percent; for a "
        "task with two metrics it is their mean. A curve shows the steps at which all of its "
        "seeds were scored, so it ends where the first of them stopped. Dotted: what always "
        "giving the most frequent answer scores on the test set in the reported metric."
    )


def _notes(summary: Summary, groups: Sequence[Group], *, baseline: bool) -> list[str]:
    notes = style.not_drawn(summary.rows)
    if len(summary.tasks) > MOST_PANELS:
        rest = style.many([task.title for task in summary.tasks[MOST_PANELS:]])
        notes.append(f"Tasks not drawn for want of room: {rest}.")
    empty = [f"{group.task.label} / {group.method}" for group in groups if not curve(group)]
    if empty:
        notes.append(f"No curve, for want of a score at a common step: {style.many(empty)}.")
    unequal = [f"{g.task.label} / {g.method}" for g in groups if g.failed or g.missing]
    if unequal:
        notes.append(f"Not all planned seeds are in the mean: {style.many(unequal)}.")
    if not baseline:
        notes.append("No majority baseline is known for these test sets.")
    return notes
