"""What a score costs: tuned weights, time and memory against the AVG over tasks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes

from jiant_sparse.report import caveats, numbers, published
from jiant_sparse.report.figures import beside, scales, sheet, style
from jiant_sparse.report.figures.style import Figure, Look
from jiant_sparse.report.summary import Group, Row, Summary, by_step, share_percent
from jiant_sparse.report.tables.times import to_stop

TUNED, COST = "tuned_fraction", "time_memory"
TUNED_TITLE = "Score against tuned share"
COST_TITLE = "Score against time and memory"
HOUR = 3600.0
UNITS = (("s", 1.0), ("min", 60.0), ("h", HOUR))

# Cost and AVG of one method, by its label.
Points = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class _Panel:
    """One panel: what is measured, what is published for the same methods, and the words on its
    axes: the cost's `name` and `unit`, and what is scored."""

    measured: Points
    known: Points
    name: str
    unit: str
    scored: str = "AVG score [%]"
    pareto: bool = True


def tuned_percent(row: Row) -> float | None:
    """Tuned weights in percent of the encoder's, of one step where they differ from step to step;
    above 0: a log axis has no place for none."""
    return share_percent(row.ok, "tuned") or None


def seconds_to_stop(row: Row) -> float | None:
    """Training and selection, mean of the tasks' means over seeds; unknown if a task's is."""
    means = [_mean_seconds(group) for group in row.groups]
    return None if None in means or not means else fmean(means)


def _mean_seconds(group: Group) -> float | None:
    times = map(to_stop, group.ok)
    known = [time for time in times if time is not None]
    return fmean(known) if known else None


def peak_gigabytes(row: Row) -> float | None:
    """The largest peak of its cells, in units of 1e9 bytes."""
    peaks = [record.cost.peak_memory_bytes for record in row.ok]
    known = [peak for peak in peaks if peak is not None]
    return max(known) / 1e9 if known else None


def front(points: Points) -> Points:
    """The Pareto front: those that no other beats, which is to cost no more and score no less,
    one of the two better. Equal points are both kept. By cost, ascending."""

    def beaten(cost: float, score: float) -> bool:
        return any(
            other != (cost, score) and other[0] <= cost and other[1] >= score
            for other in points.values()
        )

    ordered = sorted(points.items(), key=lambda item: item[1])
    return {label: point for label, point in ordered if not beaten(*point)}


def _why_absent(summary: Summary, costs: Sequence[Callable[[Row], Any]], what: str) -> str | None:
    """What keeps a figure of `costs` from being drawn; None if nothing does."""
    if any(_points(summary.rows, cost) for cost in costs):
        return None
    if all(row.average.mean is None for row in summary.rows):
        return "no method has an AVG: each lacks the score of some task"
    return f"no method with an AVG has {what} recorded"


def _points(rows: Sequence[Row], cost: Callable[[Row], float | None], part: str = "mean") -> Points:
    pairs = {row.label: (cost(row), getattr(row.average, part)) for row in rows}
    return {label: pair for label, pair in pairs.items() if None not in pair}


def draw_tuned(summary: Summary) -> Figure | str:
    """AVG mean, and AVG std if there is one, against the tuned share; or why it is not drawn."""
    if why := _why_absent(summary, [tuned_percent], "its count of tuned weights"):
        return why
    rows = style.chosen(summary.rows)
    cost = ("tuned weights", "% of the encoder")
    panels = [
        _Panel(
            _points(rows, tuned_percent), _published(rows, published.percent_tuned, "mean"), *cost
        )
    ]
    if std := _points(rows, tuned_percent, "std"):
        known = _published(rows, published.percent_tuned, "std")
        panels.append(_Panel(std, known, *cost, "AVG std [points]", pareto=False))
    notes = _notes(summary, {"count of tuned weights above 0": tuned_percent})
    notes += filter(None, [caveats.per_step(rows)])
    shown = _shown(rows, panels, "Table 4")
    apart = beside.apart(summary, rows) if shown else beside.Apart()
    grey = beside.source(f"Grey: {style.SOURCE}, Tables 4 and 1 or 2, 10 seeds", apart)
    with style.drawing(TUNED):
        canvas = _canvas(rows, panels, grey, _each_step(rows))
        said = [*beside.notes(apart), *_fronts(panels), *notes]
        caption = f"{_TUNED_CAPTION} {_TABLE_4}" if shown else _TUNED_CAPTION
        words = style.Words(TUNED, TUNED_TITLE, caption, _gist(panels), said, shown)
        return style.finish(canvas, words)


def draw_cost(summary: Summary) -> Figure | str:
    """AVG mean against the time to stop and against the peak memory; or why it is not drawn."""
    if why := _why_absent(summary, [seconds_to_stop, peak_gigabytes], "its time or memory"):
        return why
    rows = style.chosen(summary.rows)
    comparable = any(group.departures == () for row in rows for group in row.groups)
    hours = _published(rows, lambda key: published.hours(key, published.AVERAGE), "mean")
    panels = _cost_panels(rows, hours if comparable else {})
    apart = beside.apart(summary, rows) if hours else beside.Apart()
    shown = _shown(rows, panels, "Table 3")
    notes = beside.notes(apart) if shown else []
    notes += _fronts(panels) + _notes(summary, {"time": seconds_to_stop, "memory": peak_gigabytes})
    if hours and not comparable:
        notes.append(f"The paper's hours (Table 3) are not drawn; not comparable: {apart.why}.")
    devices = {record.provenance.device for row in rows for record in row.ok}
    if len(devices) > 1:
        names = style.many(sorted(map(str, devices)))
        notes.append(f"The cells ran on different devices ({names}): compare with care.")
    with style.drawing(COST):
        source = f"Grey: {style.SOURCE}, Tables 3 and 1 or 2, 10 seeds, hours of a {CARD}"
        canvas = _canvas(rows, panels, beside.source(source, apart))
        caption = f"{_COST_CAPTION} {_HOURS}" if shown else _COST_CAPTION
        words = style.Words(COST, COST_TITLE, caption, _gist(panels), notes, shown)
        return style.finish(canvas, words)


def _cost_panels(rows: Sequence[Row], hours: Points) -> list[_Panel]:
    panels = []
    if seconds := _points(rows, seconds_to_stop):
        unit, size = _unit([cost for cost, _ in seconds.values()])
        known = _scaled(hours, HOUR / size)
        panels.append(_Panel(_scaled(seconds, 1 / size), known, "time to stop", unit))
    if memory := _points(rows, peak_gigabytes):
        panels.append(_Panel(memory, {}, "peak memory", "GB"))
    return panels


def _shown(rows: Sequence[Row], panels: Sequence[_Panel], costs: str) -> list[str]:
    """The published tables whose values are drawn: that of the costs, and those of the AVG."""
    labels = {label for panel in panels for label in panel.known}
    values = [row.average.published for row in rows if row.label in labels]
    tables = {f"Table {value.table}" for value in values if value}
    return [costs, *sorted(tables)] if labels else []


_TUNED_CAPTION = (
    "AVG over tasks (mean of means and, with two seeds or more, mean of standard deviations) "
    "against the selected and added weights in percent of the encoder's. Ringed: the Pareto "
    "front, the methods that no other one beats by tuning no more and scoring no less, however "
    "small the difference; shaded: what they beat."
)
_TABLE_4 = (
    "Grey, same marks: the paper's AVG over the same seven tasks at the share of its Table 4."
)
_COST_CAPTION = (
    "AVG over tasks against training and selection time until the run stopped (mean of the tasks' "
    "means) and against the largest peak memory of a cell: of the process on a CPU, of the device "
    "on CUDA. Ringed: the Pareto front, the methods that no other one beats by costing no more "
    "and scoring no less, however small the difference; shaded: what they beat."
)
# What the published hours were taken on.
CARD = "TITAN RTX"
_HOURS = (
    f"Grey, same marks: the paper's AVG at the hours of its Table 3, which are of a {CARD} with "
    "24 GB, whatever the device here, and of which it does not say what they hold."
)


def _published(
    rows: Sequence[Row], cost: Callable[[str | None], float | None], part: str
) -> Points:
    """What the paper has for the rows that stand for its methods, where its AVG is theirs."""
    keys = [row.key for row in rows]
    pairs = {
        row.label: (cost(row.key), getattr(row.average.published, part))
        for row in rows
        if row.average.published is not None and (row.label == row.key or keys.count(row.key) == 1)
    }
    return {label: pair for label, pair in pairs.items() if None not in pair}


def _scaled(points: Points, factor: float) -> Points:
    return {label: (cost * factor, score) for label, (cost, score) in points.items()}


def _unit(seconds: Sequence[float]) -> tuple[str, float]:
    """The largest unit in which the slowest method takes two or more."""
    fitting = [unit for unit in UNITS if max(seconds, default=0.0) >= 2 * unit[1]]
    return (fitting or [UNITS[0]])[-1]


_BARE = {"linestyle": "", "markersize": 6.5}
_RING = {
    "linestyle": "",
    "marker": "o",
    "markersize": 13,
    "markerfacecolor": "none",
    "markeredgecolor": style.INK,
    "markeredgewidth": 0.8,
}


def _each_step(rows: Sequence[Row]) -> str:
    """Whose share is that of one step, for a foot."""
    moving = [row.label for row in rows if by_step(row.ok)]
    return f"Share of one step: {style.many(moving)}." if moving else ""


def _canvas(rows: Sequence[Row], panels: Sequence[_Panel], grey: str, more: str = "") -> Any:
    looks = style.method_looks(rows)
    drawn = [row for row in rows if any(row.label in panel.measured for panel in panels)]
    legend = [(style.shown(row.label), looks[row.label].mark(**_BARE)) for row in drawn]
    legend.append(("Pareto front", _RING | {"markersize": 9}))
    foot = f"Measured: {style.seeds([g.score.n for row in drawn for g in row.groups])} per task."
    if any(panel.known for panel in panels):
        foot += f" {grey}"
    foot += f" {more}" if more else ""
    grid = sheet.Grid(len(panels), len(panels), 2.7, title_lines=0)
    canvas, axes = sheet.panels(grid, legend, foot)
    for place, panel in zip(axes, panels, strict=True):
        _draw(place, panel, looks)
    return canvas


def _draw(axes: Axes, panel: _Panel, looks: Mapping[str, Look]) -> None:
    for label, point in panel.known.items():
        grey = {"colour": style.QUIET, "linestyle": "", "markersize": 5, "alpha": 0.75}
        axes.plot(*point, **looks[label].mark(**grey), zorder=2)
    for label, point in panel.measured.items():
        axes.plot(*point, **looks[label].mark(**_BARE), zorder=3)
    axes.margins(0.08)
    scales.log_axis(axes, "x")
    axes.set_xlabel(f"{panel.name} [{panel.unit}, log]")
    axes.set_ylabel(panel.scored)
    if panel.pareto:
        _shade(axes, [*front(panel.measured).values()])


def _shade(axes: Axes, best: Sequence[tuple[float, float]]) -> None:
    """A ring around each point of the front; shade over what costs more and scores less."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    corners = [(best[0][0], bottom)]
    for (cost, score), (until, _) in zip(best, [*best[1:], (right, bottom)], strict=True):
        corners += [(cost, score), (until, score)]
    corners.append((right, bottom))
    shade = {"color": style.HAIR, "alpha": 0.4, "linewidth": 0, "zorder": 0}
    axes.fill(*zip(*corners, strict=True), **shade)
    axes.plot(*zip(*best, strict=True), **_RING, zorder=2.5)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _fronts(panels: Sequence[_Panel]) -> list[str]:
    """Who is on the front of each panel that has one."""
    named = [(panel.name, ", ".join(front(panel.measured))) for panel in panels if panel.pareto]
    return [f"Pareto front by {name}: {numbers.printable(labels)}." for name, labels in named]


def _gist(panels: Sequence[_Panel]) -> str:
    """The points of each front."""
    said = []
    for panel in panels:
        if panel.pareto:
            points = [
                f"{label} ({score:.1f} at {cost:.3g} {panel.unit})"
                for label, (cost, score) in front(panel.measured).items()
            ]
            said.append(f"{panel.scored} by {panel.name}, Pareto front: {', '.join(points)}.")
    return " ".join(said)


def _notes(summary: Summary, costs: dict[str, Callable[[Row], float | None]]) -> list[str]:
    rows, notes = style.chosen(summary.rows), style.not_drawn(summary.rows)
    if notes:
        notes.append("The Pareto front is that of the drawn methods.")
    lacking = [row.label for row in rows if row.average.mean is None]
    if lacking:
        notes.append(f"Without an AVG, so not drawn: {style.many(lacking)}.")
    for what, cost in costs.items():
        unknown = [row.label for row in rows if row.average.mean is not None and cost(row) is None]
        if unknown:
            notes.append(f"Without {what}, so not drawn: {style.many(unknown)}.")
    return notes
