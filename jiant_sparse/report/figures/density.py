"""Figure 5: mean and deviation on test and training data over the share of trained weights."""

from collections.abc import Mapping
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from jiant_sparse.report import densities, published
from jiant_sparse.report.figures import style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame

NAME = "density"
PARTS = {
    "test_mean": "test, mean",
    "test_std": "test, standard deviation",
    "train_mean": "train, mean",
    "train_std": "train, standard deviation",
}
# Methods with a curve of their own; each takes four panels.
MOST_CURVES = 3
# The method whose values Figure 5 of the paper holds.
PUBLISHED_KEY = "sam"
CAPTION = (
    "As Figure 5 of Fu et al. 2023: mean and population standard deviation over seeds, on test "
    "and on training data, of one method at several densities. A std needs two seeds. The "
    "paper's eighth density is printed 0.005 and plotted at 0.05; its training panels have no "
    "point at 0.005, and its STS-B at 0.0002 has a std of 0, as one run has."
)
_QUIET: style.Line = {
    "color": style.QUIET,
    "linewidth": 0.7,
    "markersize": 3,
    "markerfacecolor": style.PAPER,
    "markeredgewidth": 0.6,
    "alpha": 0.75,
}


def draw(frame: Frame) -> Figure | str:
    """Four panels for each method that was run at several densities; or why there are none."""
    curves = densities.curves(frame)
    if not curves:
        return "no method was run at two densities or more"
    # The paper's method first: its panels hold published values too.
    keys = sorted(curves, key=lambda key: key != PUBLISHED_KEY)
    points = {key: curve_points(frame, curves[key]) for key in keys}
    if pd.concat(points)["test_mean"].isna().all():
        return "no cell of a method with several densities has a test value"
    points = {key: points[key] for key in keys[:MOST_CURVES]}
    drawn = pd.concat(points, ignore_index=True)
    tasks = frame.tasks[: style.MOST]
    legend = [(title, style.look(place)) for place, title in enumerate(tasks["title"])]
    foot = f"Measured: {style.seeds(drawn['n'])} per point."
    notes: list[str] = []
    beside: tuple[str, ...] = ()
    if PUBLISHED_KEY in points and any(map(_published, tasks["published_title"])):
        legend.append(("published", _QUIET))
        # Each density has its published value.
        source = f"Grey, same marks: {style.SOURCE}, Fig. 5, SAM, 10 seeds"
        said, notes = style.beside(points[PUBLISHED_KEY], source, but="density")
        foot, beside = f"{foot} {said}", ("Fig. 5",)
    notes += style.note("Not drawn for want of room", keys[MOST_CURVES:])
    notes += style.note("Tasks not drawn for want of room", frame.tasks["title"][style.MOST :])
    where = drawn["task"] + " / " + drawn["method"]
    notes += style.note("No test value, so no point", where[drawn["n"] == 0])
    notes += style.note("One seed, so no standard deviation", where[drawn["n"] == 1])
    if drawn["train_mean"].isna().all():
        notes.append("No record holds the score on the training data: those panels are empty.")
    gist = " ".join(_gist(key, found) for key, found in points.items())
    figure = Figure(NAME, "Score and stability over density", CAPTION, gist, (*notes,), beside)
    panels = [partial(_panel, key, part, points[key], tasks) for key in points for part in PARTS]
    return style.paint(figure, panels, columns=2, height=2.9, foot=foot, legend=legend)


def curve_points(frame: Frame, labels: Mapping[float, str]) -> pd.DataFrame:
    """The results of the methods `labels`, density -> label, with their `density` and PARTS."""
    train = frame.ok.groupby(["task", "method"])["train"]
    spread = pd.DataFrame(
        {"train_mean": train.mean(), "train_std": train.std(ddof=0).where(train.count() > 1)}
    )
    density = {label: density for density, label in labels.items()}
    found = frame.results[frame.results["method"].isin(density)]
    found = found.rename(columns={"mean": "test_mean", "std": "test_std"})
    found = found.join(spread, on=["task", "method"])
    return found.assign(density=found["method"].map(density)).sort_values("density", kind="stable")


def _published(title: str | None, part: str = "test_mean") -> list[tuple[float, float]]:
    points = published.figure5().get((part, title or ""), ())
    return [(density, value) for density, value in points if value is not None]


def _panel(key: str, part: str, points: pd.DataFrame, tasks: pd.DataFrame, axes: Axes) -> None:
    for place, task in enumerate(tasks.itertuples()):
        if key == PUBLISHED_KEY and (known := _published(task.published_title, part)):
            axes.plot(*zip(*known, strict=True), **style.look(place, **_QUIET))
        found = points[points["task"] == task.task].dropna(subset=part)
        # Rounded: ticks over noise in the last digits would be long.
        axes.plot(found["density"], found[part].round(6), **style.look(place, zorder=3))
    style.log_axis(axes, "x")
    axes.set_title(f"{style.shown(key)}: {PARTS[part]}")
    axes.set_xlabel("density (fraction of the weights, log)")
    axes.set_ylabel("score [%]" if part.endswith("mean") else "std [points]")


def _gist(key: str, points: pd.DataFrame) -> str:
    known = points.dropna(subset="test_mean")
    best = known.loc[known.groupby("task")["test_mean"].idxmax()].sort_index()
    said = [f"{one.title} {one.density:g} ({one.test_mean:.1f})" for one in best.itertuples()]
    return f"{key}, density with the highest test mean: {', '.join(said) or 'none'}."
