"""What a score costs: tuned weights, time and memory against the AVG over tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from jiant_sparse.report import notes, numbers, published
from jiant_sparse.report.figures import style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.published import AVERAGE

TUNED, COST = "tuned_fraction", "time_memory"
UNITS = {"s": 1, "min": 60, "h": 3600}
TUNED_CAPTION = (
    "AVG over tasks (mean of means and, with two seeds or more, mean of standard deviations) "
    "against the selected and added weights in percent of the encoder's. Ringed: the Pareto "
    "front, the methods that no other one beats by tuning no more and scoring no less, however "
    "small the difference; shaded: what they beat."
)
COST_CAPTION = (
    "AVG over tasks against training and selection time until the run stopped (mean of the tasks' "
    "means) and against the largest peak memory of a cell: of the process on a CPU, of the device "
    "on CUDA. Ringed: the Pareto front, the methods that no other one beats by costing no more "
    "and scoring no less, however small the difference; shaded: what they beat."
)
# What the captions add where published costs are drawn.
SHARES = "Grey, same marks: the paper's AVG over the same seven tasks at the share of its Table 4."
HOURS = (
    "Grey, same marks: the paper's AVG at the hours of its Table 3, which are of a TITAN RTX with "
    "24 GB, whatever the device here, and of which it does not say what they hold."
)
_POINT = {"linestyle": "", "markersize": 6.5}
_PUBLISHED = {"color": style.QUIET, "linestyle": "", "markersize": 5, "alpha": 0.75}
_RING: style.Line = {
    "linestyle": "",
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
    "markeredgecolor": style.INK,
    "markeredgewidth": 0.8,
}


@dataclass(frozen=True)
class CostPanel:
    """One panel: name and unit of the cost, measured and published points, and what is scored.

    Points are frames with a row for each method: its `cost`, `score` and `place` in the report.
    """

    name: str
    unit: str
    measured: pd.DataFrame
    published: pd.DataFrame
    scored: str = "AVG score [%]"
    pareto: bool = True


def costs(frame: Frame) -> pd.DataFrame:
    """The averages of a frame for the methods that are drawn, by label, with their costs.

    place: of the method in the report. tuned: percent of the encoder's weights that are tuned (in
    one step, where they differ from step to step); no weights have no place on a log axis. seconds
    until the run stopped: mean of the tasks' means, unknown if a task's is. memory: largest peak of
    a cell, in GB. published_tuned, published_seconds: of the method's row, if it stands for one.
    """
    found = frame.averages.set_index("method")[: style.MOST]
    stands = [frame.keyed(key) == label for label, key in found["key"].items()]
    own = found["key"].where(pd.Series(stands, found.index) & found["published_mean"].notna())
    seconds = frame.results.groupby("method")["stop_seconds"]
    return found.assign(
        place=range(len(found)),
        tuned=found["tuned_percent"].where(found["tuned_percent"] > 0),
        seconds=seconds.agg(lambda means: means.mean(skipna=False)),
        memory=frame.ok.groupby("method")["peak_memory_bytes"].max() / 1e9,
        published_tuned=own.map(published.percent_tuned, na_action="ignore").astype(float),
        published_seconds=UNITS["h"]
        * own.map(lambda key: published.hours(key, AVERAGE), na_action="ignore").astype(float),
    )


def points(methods: pd.DataFrame, cost: str, score: str, unit: float = 1) -> pd.DataFrame:
    """The methods with both numbers: `cost` in units of `unit`, `score` and `place`."""
    found = {"cost": methods[cost] / unit, "score": methods[score], "place": methods["place"]}
    return pd.DataFrame(found).dropna()


def front(points: pd.DataFrame) -> pd.DataFrame:
    """The Pareto front, by cost, ascending.

    A point beats another one if it costs no more and scores no less, one of the two better. Equal
    points are both kept.
    """
    cost, score = points["cost"].to_numpy(), points["score"].to_numpy()
    no_worse = (cost[:, None] <= cost) & (score[:, None] >= score)
    beats = no_worse & ((cost[:, None] < cost) | (score[:, None] > score))
    return points[~beats.any(axis=0)].sort_values(["cost", "score"], kind="stable")


def draw_tuned(frame: Frame) -> Figure | str:
    """AVG mean, and AVG std if there is one, against the tuned share; or why it is not drawn."""
    methods = costs(frame)
    if why := _why_absent(methods, ["tuned"], "its count of tuned weights"):
        return why
    panels = [
        CostPanel(
            name="tuned weights",
            unit="% of the encoder",
            measured=points(methods, "tuned", part),
            published=points(methods, "published_tuned", f"published_{part}"),
            scored="AVG score [%]" if part == "mean" else "AVG std [points]",
            pareto=part == "mean",
        )
        for part in ("mean", "std")
    ]
    said = _lacking(methods, {"count of tuned weights above 0": "tuned"})
    said += filter(None, [notes.per_step(frame)])
    moving = style.note("Share of one step", methods.index[methods["per_step"]])
    figure = Figure(
        TUNED, "Score against tuned share", TUNED_CAPTION, notes=(*said,), beside=("Table 4",)
    )
    source = "Tables 4 and 1 or 2, 10 seeds"
    return _drawn(frame, figure, panels, source=source, caption=SHARES, foot=moving)


def draw_cost(frame: Frame) -> Figure | str:
    """AVG mean against the time to stop and against the peak memory; or why it is not drawn."""
    methods = costs(frame)
    if why := _why_absent(methods, ["seconds", "memory"], "its time or memory"):
        return why
    unit = time_unit(points(methods, "seconds", "mean")["cost"])
    seconds = points(methods, "seconds", "mean", UNITS[unit])
    hours = points(methods, "published_seconds", "published_mean", UNITS[unit])
    memory = points(methods, "memory", "mean")
    said = _lacking(methods, {"time": "seconds", "memory": "memory"})
    results = frame.results[frame.results["method"].isin(methods.index)]
    if len(hours) and {} not in results["departures"].tolist():
        why = notes.apart_briefly(results)
        said.append(f"The paper's hours (Table 3) are not drawn; not comparable: {why}.")
        hours = hours[:0]
    devices = frame.ok.loc[frame.ok["method"].isin(methods.index), "device"]
    names = sorted({*devices.map(published.shown)})
    if len(names) > 1:
        listed = style.many(names)
        said.append(f"The cells ran on different devices ({listed}): compare with care.")
    panels = [
        CostPanel("time to stop", unit, seconds, hours),
        CostPanel("peak memory", "GB", memory, memory[:0]),
    ]
    figure = Figure(
        COST, "Score against time and memory", COST_CAPTION, notes=(*said,), beside=("Table 3",)
    )
    source = "Tables 3 and 1 or 2, 10 seeds, hours of a TITAN RTX"
    return _drawn(frame, figure, panels, source=source, caption=HOURS)


def _why_absent(methods: pd.DataFrame, names: Sequence[str], what: str) -> str | None:
    """What keeps a figure of the costs `names` from being drawn; None if nothing does."""
    if any(len(points(methods, name, "mean")) for name in names):
        return None
    if methods["mean"].isna().all():
        return "no method has an AVG: each lacks the score of some task"
    return f"no method with an AVG has {what} recorded"


def time_unit(seconds: Sequence[float]) -> str:
    """The largest unit in which the longest of some times is two or more.

    >>> [time_unit([10, 119]), time_unit([10, 121]), time_unit([7200]), time_unit([])]
    ['s', 'min', 'h', 's']
    """
    longest = max(seconds, default=0)
    return [unit for unit, size in UNITS.items() if unit == "s" or longest >= 2 * size][-1]


def _drawn(
    frame: Frame,
    figure: Figure,
    panels: Sequence[CostPanel],
    *,
    source: str,
    caption: str,
    foot: Sequence[str] = (),
) -> Figure:
    """Complete a figure, and draw its panels with points.

    figure: its `beside` is the table of the published costs. source, caption: what is said of
    those, if any is drawn. foot: sentences after the number of seeds.
    """
    panels = [panel for panel in panels if len(panel.measured)]
    places = pd.concat([panel.measured["place"] for panel in panels])
    places = places[~places.index.duplicated()].sort_values()
    results = frame.results[frame.results["method"].isin(frame.methods["method"][: style.MOST])]
    counts = results.loc[results["method"].isin(places.index), "n"]
    said = [f"Measured: {style.seeds(counts)} per task."]
    notes, gist = [], []
    for panel in panels:
        if panel.pareto:
            best = front(panel.measured)
            notes.append(
                f"Pareto front by {panel.name}: {numbers.printable(', '.join(best.index))}."
            )
            shown = [
                f"{one.Index} ({one.score:.1f} at {one.cost:.3g} {panel.unit})"
                for one in best.itertuples()
            ]
            gist.append(f"{panel.scored} by {panel.name}, Pareto front: {', '.join(shown)}.")
    if undrawn := style.not_drawn(frame.methods["method"]):
        notes += [*undrawn, "The Pareto front is that of the drawn methods."]
    if known := {label for panel in panels for label in panel.published.index}:
        tables = frame.averages.loc[frame.averages["method"].isin(known), "published_table"]
        averages = (f"Table {table}" for table in sorted(tables.dropna().unique()))
        grey, apart = style.beside(results, f"Grey: {style.SOURCE}, {source}")
        said, notes = [*said, grey], apart + notes
        caption = f"{figure.caption} {caption}"
        figure = replace(figure, caption=caption, beside=(*figure.beside, *averages))
    else:
        figure = replace(figure, beside=())
    figure = replace(figure, gist=" ".join(gist), notes=(*notes, *figure.notes))
    legend = [(label, style.look(place, **_POINT)) for label, place in places.items()]
    return style.paint(
        figure,
        [partial(_panel, panel) for panel in panels],
        columns=len(panels),
        height=3.4,
        foot=" ".join([*said, *foot]),
        legend=[*legend, ("Pareto front", _RING | {"markersize": 9})],
    )


def _panel(panel: CostPanel, axes: Axes) -> None:
    for drawn, line in ((panel.published, _PUBLISHED), (panel.measured, _POINT | {"zorder": 3})):
        for one in drawn.itertuples():
            axes.plot(one.cost, one.score, **style.look(one.place, **line))
    axes.margins(0.08)
    style.log_axis(axes, "x")
    axes.set_xlabel(f"{panel.name} [{panel.unit}, log]")
    axes.set_ylabel(panel.scored)
    if panel.pareto:
        _shade(axes, front(panel.measured))


def _shade(axes: Axes, best: pd.DataFrame) -> None:
    """Ring each point of the front; shade what costs more and scores less."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    steps = [*best["cost"], right]
    shade: style.Line = {"color": style.HAIR, "alpha": 0.4, "linewidth": 0, "zorder": 0}
    axes.stairs(best["score"], steps, baseline=bottom, fill=True, **shade)
    axes.plot(best["cost"], best["score"], **_RING, zorder=2.5)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _lacking(methods: pd.DataFrame, needs: dict[str, str]) -> list[str]:
    """Which methods are not drawn. needs: what a method must have -> its column."""
    lacking = methods["mean"].isna()
    said = style.note("Without an AVG, so not drawn", methods.index[lacking])
    for what, column in needs.items():
        unknown = methods.index[~lacking & methods[column].isna()]
        said += style.note(f"Without {what}, so not drawn", unknown)
    return said
