"""Figure 5: mean and deviation on test and train over the share of weights that is tuned."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from jiant_sparse.report import densities, published
from jiant_sparse.report.figures import beside, scales, sheet, style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.summary import Group, Spread, Summary
from jiant_sparse.schema.record import Record

NAME = "density"
TITLE = "Score and stability over density"
PARTS = {
    "test_mean": "test, mean",
    "test_std": "test, standard deviation",
    "train_mean": "train, mean",
    "train_std": "train, standard deviation",
}
# Methods with a curve of their own; each takes four panels.
MOST_CURVES = 3
PUBLISHED_KEY = "sam"


def _why_absent(summary: Summary, curves: Sequence[Any]) -> str | None:
    """What keeps this figure from being drawn; None if nothing does."""
    if not curves:
        return "no method was run at two densities or more"
    if not any(
        _values(curve, number, "test_mean")
        for curve in curves
        for number in range(len(summary.tasks))
    ):
        return "no cell of a method with several densities has a test value"
    return None


def draw(summary: Summary) -> Figure | str:
    """Four panels for each method that was run at several densities; or why there are none."""
    # The paper's method first: it has something to stand beside.
    curves = sorted(densities.density_curves(summary), key=lambda one: one.key != PUBLISHED_KEY)
    if why := _why_absent(summary, curves):
        return why
    drawn, tasks = curves[:MOST_CURVES], summary.tasks[: style.MOST]
    looks = style.task_looks(tasks)
    legend = [(style.shown(task.title), looks[task.label].mark()) for task in tasks]
    grey = any(curve.key == PUBLISHED_KEY for curve in drawn) and any(map(_published_of, tasks))
    if grey:
        legend.append(("published", _quiet("-", "")))
    groups = [g for curve in drawn for _, row in curve.points for g in row.groups]
    apart = _apart(summary, drawn) if grey else beside.Apart()
    with style.drawing(NAME):
        foot = f"Measured: {style.seeds([group.score.n for group in groups])} per point."
        if grey:
            source = f"Grey, same marks: {style.SOURCE}, Fig. 5, SAM, 10 seeds"
            foot += f" {beside.source(source, apart)}"
        canvas, axes = sheet.panels(sheet.Grid(4 * len(drawn), 2, 2.3), legend, foot)
        for number, curve in enumerate(drawn):
            for place, part in zip(axes[4 * number :], PARTS, strict=False):
                _panel(place, curve, part, [(task, looks[task.label]) for task in tasks])
        notes = [*beside.notes(apart), *_notes(summary, curves, groups)]
        gist = " ".join(_gist(curve, tasks) for curve in drawn)
        shown = ["Fig. 5"] if grey else []
        return style.finish(canvas, style.Words(NAME, TITLE, _caption(), gist, notes, shown))


def _apart(summary: Summary, curves: Sequence[Any]) -> beside.Apart:
    """What keeps the measured curve from the published one; at each density it has its equal."""
    rows = [row for curve in curves if curve.key == PUBLISHED_KEY for _, row in curve.points]
    return beside.apart(summary, rows, but="density")


def _gist(curve: Any, tasks: Sequence[Any]) -> str:
    said = []
    for number, task in enumerate(tasks):
        found = _values(curve, number, "test_mean")
        if found:
            density, value = max(found, key=lambda point: point[1])
            said.append(f"{task.title} {density:g} ({value:.1f})")
    return f"{curve.key}, density with the highest test mean: {', '.join(said) or 'none'}."


def _panel(axes: Axes, curve: Any, part: str, tasks: Sequence[Any]) -> None:
    for number, (task, look) in enumerate(tasks):
        if curve.key == PUBLISHED_KEY and (known := _published_of(task, part)):
            axes.plot(*zip(*known, strict=True), **_quiet(look.dash, look.marker))
        found = _values(curve, number, part)
        if found:
            axes.plot(*zip(*found, strict=True), **look.mark(), zorder=3)
    scales.log_axis(axes, "x")
    axes.set_title(f"{style.shown(curve.key)}: {PARTS[part]}")
    axes.set_xlabel("density (fraction of the weights, log)")
    axes.set_ylabel("score [%]" if part.endswith("mean") else "std [points]")


def _quiet(dash: Any, marker: str) -> dict[str, Any]:
    return {
        "color": style.QUIET,
        "linestyle": dash,
        "marker": marker,
        "linewidth": 0.7,
        "markersize": 3,
        "markerfacecolor": style.PAPER,
        "markeredgewidth": 0.6,
        "alpha": 0.75,
    }


def _published_of(task: Any, part: str = "test_mean") -> list[tuple[float, float]]:
    points = published.figure5().get((part, task.published_title), ())
    return [(density, value) for density, value in points if value is not None]


def _values(curve: Any, number: int, part: str) -> list[tuple[float, float]]:
    """(density, percent) where task `number` has the value of `part`."""
    phase, _, what = part.partition("_")
    found = []
    for density, row in curve.points:
        group = row.groups[number]
        spread = group.score if phase == "test" else Spread.of(train_percents(group))
        value = getattr(spread, what)
        if value is not None:
            found.append((density, value))
    return found


def train_percents(group: Group) -> list[float]:
    """The reported metric on the training set, percent, of the cells that measured it."""
    values = map(_train_value, group.ok)
    return [100 * value for value in values if value is not None]


def _train_value(record: Record) -> float | None:
    return record.metrics.get("train", {}).get(record.primary.name) if record.primary else None


def _caption() -> str:
    return (
        "As Figure 5 of Fu et al. 2023: mean and population standard deviation over seeds, on test "
        "and on training data, of one method at several densities. A std needs two seeds. The "
        "paper's eighth density is printed 0.005 and plotted at 0.05; its training panels have no "
        "point at 0.005, and its STS-B at 0.0002 has a std of 0, as one run has."
    )


def _notes(summary: Summary, curves: Sequence[Any], groups: Sequence[Group]) -> list[str]:
    notes = []
    if len(curves) > MOST_CURVES:
        rest = style.many([curve.key for curve in curves[MOST_CURVES:]])
        notes.append(f"Not drawn for want of room: {rest}.")
    if len(summary.tasks) > style.MOST:
        rest = style.many([task.title for task in summary.tasks[style.MOST :]])
        notes.append(f"Tasks not drawn for want of room: {rest}.")
    empty = [f"{g.task.label} / {g.method}" for g in groups if not g.score.n]
    if empty:
        notes.append(f"No test value, so no point: {style.many(empty)}.")
    single = [f"{g.task.label} / {g.method}" for g in groups if g.score.n == 1]
    if single:
        notes.append(f"One seed, so no standard deviation: {style.many(single)}.")
    if not any(train_percents(group) for group in groups):
        notes.append("No record holds the score on the training data: those panels are empty.")
    return notes
