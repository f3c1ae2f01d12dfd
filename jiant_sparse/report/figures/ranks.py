"""Figure 4: does a method that is more stable on a task also score higher there?"""

import statistics as averages
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from jiant_sparse.report import published, statistics
from jiant_sparse.report.figures import beside, sheet, style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.statistics import MINIMUM_RUNS as LEAST
from jiant_sparse.report.summary import Row, Summary, largest_first, smallest_first

NAME = "ranks"
# With more ranks than this their numbers of pairs would touch.
MOST_COUNTS = 16
TITLE = "Stability rank against performance rank"
# Stability rank and performance rank of one method in one column.
Pairs = list[tuple[int, int]]


def published_pairs(*, average: bool, tables: Sequence[int] = (1, 2)) -> Pairs:
    """The ranks within each column of the paper's tables; `average`: with the AVG columns."""
    columns = (*published.TASKS, published.AVERAGE) if average else published.TASKS
    pairs: Pairs = []
    for table in tables:
        for column in columns:
            pairs += _pairs([published.value(key, column, table) for key in published.METHODS])
    return pairs


def measured_pairs(summary: Summary, *, average: bool) -> Pairs:
    """The ranks within each column of the benchmark, among the `ranked` methods with a deviation
    in it."""
    rows, pairs = ranked(summary), []
    for number in range(len(summary.tasks)):
        pairs += _pairs([row.groups[number].score for row in rows])
    return pairs + _pairs([row.average for row in rows]) if average else pairs


def ranked(summary: Summary) -> list[Row]:
    """One row for each method, as the claims have it: a method with several settings and none
    that is labelled by its key stands for nothing."""
    keys = dict.fromkeys(row.key for row in summary.rows if row.key)
    return [row for key in keys if (row := summary.keyed(key)) is not None]


def _pairs(column: Sequence[Any]) -> Pairs:
    """The ranks of those that have a mean and a deviation; equal values share the smaller rank."""
    known = [one for one in column if one is not None and None not in (one.mean, one.std)]
    stable = smallest_first([one.std for one in known])
    good = largest_first([one.mean for one in known])
    return [(a, b) for a, b in zip(stable, good, strict=True) if a is not None and b is not None]


def points(pairs: Pairs) -> list[tuple[int, int, float, float]]:
    """(stability rank, number of pairs, mean performance rank, its population deviation)."""
    by_rank: dict[int, list[int]] = {}
    for stable, good in pairs:
        by_rank.setdefault(stable, []).append(good)
    return [
        (rank, len(good), averages.fmean(good), averages.pstdev(good))
        for rank, good in sorted(by_rank.items())
    ]


def why_absent(summary: Summary) -> str | None:
    """What keeps the measured panel from being drawn; None if nothing does."""
    if len(summary.rows) < 2:
        return "one method has nothing to be ranked against"
    if len(ranked(summary)) < 2:
        return "fewer than two methods to rank: one row stands for a method, that of its own name"
    if measured_pairs(summary, average=True):
        return None
    return "no method has a standard deviation: that needs two seeds of a task"


def draw(summary: Summary) -> Figure | str:
    """The published panel and the benchmark's; or why the latter cannot be drawn."""
    return why_absent(summary) or ranks([summary])


def ranks(summaries: Sequence[Summary]) -> Figure:
    """The published panel and one for each of `summaries`, which are named by their benchmark."""
    names = [style.shown(summary.benchmark) for summary in summaries]
    if len(set(names)) < len(names):
        names = [style.shown(str(summary.directory), 40) for summary in summaries]
    sets = [("Published, Tables 1 and 2", published_pairs(average=True), style.QUIET)]
    sets += [
        (f"Measured: {name}", measured_pairs(summary, average=True), style.PALETTE[0])
        for name, summary in zip(names, summaries, strict=True)
    ]
    without = [published_pairs(average=False)]
    without += [measured_pairs(summary, average=False) for summary in summaries]
    apart = [beside.apart(summary, ranked(summary)) for summary in summaries]
    with style.drawing(NAME):
        # Of several sets, the notes say which are.
        foot = beside.source(f"Grey: {style.SOURCE}, 10 seeds", beside.together(apart))
        foot += f" Measured: {_seeds(summaries)}. Rank 1 is best."
        grid = sheet.Grid(len(sets), min(len(sets), 3), 2.7, title_lines=3)
        canvas, axes = sheet.panels(grid, (), foot)
        for place, (name, pairs, colour), rest in zip(axes, sets, without, strict=True):
            _panel(place, pairs, colour)
            place.set_title(f"{name}\n{_said('with AVG', pairs)}\n{_said('without', rest)}")
        gist = " ".join(_gist(name, pairs) for name, pairs, _ in sets)
        notes = _notes(summaries, names, apart)
        return style.finish(canvas, style.Words(NAME, TITLE, _caption(), gist, notes, ["Fig. 4"]))


def _panel(axes: Axes, pairs: Pairs, colour: str) -> None:
    found = points(pairs)
    top = max(map(max, pairs), default=1)
    low = max([top, *(mean + std for _, _, mean, std in found)])
    axes.set_xlim(0.4, top + 0.6)
    axes.set_ylim(low + 0.6, 1 - (low - top) - 1.5)
    axes.set_xticks(range(1, top + 1, 1 + top // 16))
    axes.set_yticks(range(1, top + 1, 1 + top // 12))
    axes.set_xlabel("stability rank (1 = smallest std)")
    axes.set_ylabel("performance rank (1 = highest mean)")
    if not found:
        message = "no standard deviation:\nfewer than two seeds"
        axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", color=style.QUIET)
        return
    at, _, mean, std = zip(*found, strict=True)
    axes.errorbar(at, mean, std, fmt="o", color=colour, markersize=5.5, linewidth=1.1, capsize=2.5)
    if top <= MOST_COUNTS:
        small = {"fontsize": style.SMALL, "color": style.QUIET, "va": "center", "ha": "center"}
        for rank, text in [(0.55, "n"), *((rank, str(count)) for rank, count, *_ in found)]:
            axes.text(rank, 0.96, text, transform=axes.get_xaxis_transform(), **small)


def _said(what: str, pairs: Pairs) -> str:
    found = statistics.spearman(*zip(*pairs, strict=True)) if pairs else None
    if found is None:
        return f"{what}: no correlation ({len(pairs)} pairs)"
    return f"{what}: ρ = {found.rho:.3f}, p = {found.p:.2g} ({found.n} pairs)"


def _seeds(summaries: Sequence[Summary]) -> str:
    return style.seeds(
        [
            group.score.n
            for summary in summaries
            for row in ranked(summary)
            for group in row.groups
            if group.score.std is not None
        ]
    )


def _gist(name: str, pairs: Pairs) -> str:
    found = points(pairs)
    if not found:
        return f"{name}: no standard deviation."
    (first, _, high, _), (last, _, low, _) = found[0], found[-1]
    ends = f"mean performance rank {high:.1f} at stability rank {first}, {low:.1f} at {last}"
    return f"{name}: {ends}; {_said('with AVG', pairs)}."


def _caption() -> str:
    return (
        "As Figure 4 of Fu et al. 2023. Each method has two ranks in each column (task, and AVG): "
        "by standard deviation and by mean. A dot is the mean performance rank of all pairs with "
        "one stability rank, its bar one population standard deviation to either side, n the "
        "number of pairs. ρ is Spearman's over the pairs. Equal values in a column share the "
        "smaller rank, as in the paper's points; if they shared their mean rank, ρ of its tables "
        "would be 0.410 with AVG and 0.399 without. The grey points are computed from Tables 1 "
        "and 2 and are those that the paper plots; it prints ρ = 0.4356, p = 0.000014, which its "
        "tables do not give."
    )


def _notes(
    summaries: Sequence[Summary], names: Sequence[str], apart: Sequence[beside.Apart]
) -> list[str]:
    notes = [
        "The ranks of one column depend on each other and AVG on all of them: the p-values are "
        "smaller than independent pairs would give."
    ]
    for name, summary, why in zip(names, summaries, apart, strict=True):
        rows = ranked(summary)
        notes += beside.notes(why, name if len(names) > 1 else "")
        labels = {row.label for row in rows}
        rest = [row.label for row in summary.rows if row.label not in labels]
        if rest:
            notes.append(
                f"{name}: not ranked, since one row stands for a method: {style.many(rest)}."
            )
        groups = [group for row in rows for group in row.groups]
        lacking = sum(group.score.std is None for group in groups)
        if lacking:
            total = len(groups)
            notes.append(
                f"{name}: {lacking} of {total} method and task pairs have no standard deviation "
                "and are left out."
            )
        notes += _beside_the_verdict(name, rows)
    return notes


def _beside_the_verdict(name: str, rows: Sequence[Row]) -> list[str]:
    """Whether the verdict on this figure is on other methods or deviations than its panel."""
    numbers = {row.label: [group.score.n for group in row.groups] for row in rows}
    few = [label for label, ns in numbers.items() if max(ns) > 1 and min(ns) < LEAST]
    unequal = len({n for ns in numbers.values() if min(ns) >= LEAST for n in ns}) > 1
    why = []
    foreign = [row.label for row in rows if row.key not in published.METHODS]
    if foreign:
        why.append(f"it is about the methods of Fu et al. 2023, so not {style.many(foreign)}")
    if few:
        why.append(
            f"it counts methods with {LEAST} runs or more on every task alone, so not "
            f"{style.many(few)}"
        )
    if unequal:
        why.append("it brings deviations of fewer runs to what the largest number would give")
    if not why:
        return []
    return [f"{name}: the verdict on Fig. 4 can have another ρ: {', and '.join(why)}."]
