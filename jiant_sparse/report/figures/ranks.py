"""Figure 4: does a method that is more stable on a task also score higher there?"""

from collections.abc import Sequence
from functools import partial

import pandas as pd
from matplotlib.axes import Axes

from jiant_sparse.report import published, statistics
from jiant_sparse.report.figures import style
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.statistics import MINIMUM_RUNS

NAME = "ranks"
# With more ranks than this their numbers of pairs would touch.
MOST_COUNTS = 16
CAPTION = (
    "As Figure 4 of Fu et al. 2023. Each method has two ranks in each column (task, and AVG): "
    "by standard deviation and by mean. A dot is the mean performance rank of all pairs with "
    "one stability rank, its bar one population standard deviation to either side, n the "
    "number of pairs. ρ is Spearman's over the pairs. Equal values in a column share the "
    "smaller rank, as in the paper's points; if they shared their mean rank, ρ of its tables "
    "would be 0.410 with AVG and 0.399 without. The grey points are computed from Tables 1 "
    "and 2 and are those that the paper plots; it prints ρ = 0.4356, p = 0.000014, which its "
    "tables do not give."
)
DEPENDENT = (
    "The ranks of one column depend on each other and AVG on all of them: the p-values are "
    "smaller than independent pairs would give."
)


def published_pairs() -> pd.DataFrame:
    """The pairs of ranks in Tables 1 and 2, as `pairs` gives them."""
    scores = [
        {"column": (table, column), "average": column == AVERAGE, "mean": one.mean, "std": one.std}
        for table in (1, 2)
        for column in (*published.TASKS, AVERAGE)
        for key in published.METHODS
        if (one := published.value(key, column, table)) is not None
    ]
    return pairs(pd.DataFrame(scores))


def measured_pairs(frame: Frame) -> pd.DataFrame:
    """The pairs of ranks among the methods of `ranked`, as `pairs` gives them."""
    scores = frame.scores[frame.scores["method"].isin(ranked(frame))]
    columns = [*zip(scores["is_average"], scores["task"], strict=True)]
    return pairs(scores.assign(average=scores["is_average"], column=columns))


def pairs(scores: pd.DataFrame) -> pd.DataFrame:
    """The ranks of methods in each `column` of scores, by `std` and by `mean`.

    Returns a row for each score that has both: stability (1 = smallest std), performance (1 =
    largest mean), and whether the column is an `average`. Equal values share the smaller rank.
    """
    known = scores.dropna(subset=["mean", "std"])
    # Rounded first: two sums of equal real value may differ in their last bit.
    columns = known.round({"mean": 9, "std": 9}).groupby("column")
    return pd.DataFrame(
        {
            "stability": columns["std"].rank(method="min").astype(int),
            "performance": columns["mean"].rank(method="min", ascending=False).astype(int),
            "average": known["average"],
        }
    )


def ranked(frame: Frame) -> list[str]:
    """The label of one row for each method, as the claims have it: of a method with several
    settings, the one that is labelled by its key."""
    keys = frame.methods["key"].dropna().unique()
    return [label for key in keys if (label := frame.keyed(key)) is not None]


def points(pairs: pd.DataFrame) -> pd.DataFrame:
    """Number, mean and population deviation of the performance ranks at each stability rank."""
    ranks = pairs.groupby("stability")["performance"]
    return pd.DataFrame({"count": ranks.count(), "mean": ranks.mean(), "std": ranks.std(ddof=0)})


def why_absent(frame: Frame) -> str | None:
    """What keeps the measured panel from being drawn; None if nothing does."""
    if len(frame.methods) < 2:
        return "one method has nothing to be ranked against"
    if len(ranked(frame)) < 2:
        return "fewer than two methods to rank: one row stands for a method, that of its own name"
    if measured_pairs(frame).empty:
        return "no method has a standard deviation: that needs two seeds of a task"
    return None


def draw(frame: Frame) -> Figure | str:
    """The published panel and the benchmark's; or why the latter cannot be drawn."""
    return why_absent(frame) or ranks([frame])


def ranks(frames: Sequence[Frame]) -> Figure:
    """The published panel and one for each of `frames`, which are named by their benchmark."""
    names = [style.shown(frame.benchmark) for frame in frames]
    if len(set(names)) < len(names):
        names = [style.shown(str(frame.directory), 40) for frame in frames]
    drawn = [("Published, Tables 1 and 2", published_pairs(), style.QUIET)]
    results = [frame.results[frame.results["method"].isin(ranked(frame))] for frame in frames]
    together = pd.concat(results)
    # Of several sets, the notes say which are comparable.
    foot, _ = style.beside(together, f"Grey: {style.SOURCE}, 10 seeds")
    counts = together.loc[together["std"].notna(), "n"]
    foot += f" Measured: {style.seeds(counts)}. Rank 1 is best."
    notes = [DEPENDENT]
    for name, frame, one in zip(names, frames, results, strict=True):
        drawn.append((f"Measured: {name}", measured_pairs(frame), style.PALETTE[0]))
        _, apart = style.beside(one, style.SOURCE, name=name if len(names) > 1 else "")
        notes += apart
        notes += [f"{name}: {note}" for note in _notes(frame)]
    title = "Stability rank against performance rank"
    gist = " ".join(_gist(name, pairs) for name, pairs, _ in drawn)
    figure = Figure(NAME, title, CAPTION, gist, (*notes,), ("Fig. 4",))
    panels = [partial(_panel, name, pairs, colour) for name, pairs, colour in drawn]
    return style.paint(figure, panels, columns=2, height=3.6, foot=foot)


def _panel(title: str, pairs: pd.DataFrame, colour: str, axes: Axes) -> None:
    without = _said("without", pairs[~pairs["average"]])
    axes.set_title(f"{title}\n{_said('with AVG', pairs)}\n{without}")
    found = points(pairs)
    top = pairs[["stability", "performance"]].max(axis=None) if len(pairs) else 1
    low = max([top, *(found["mean"] + found["std"])])
    axes.set_xlim(0.4, top + 0.6)
    axes.set_ylim(low + 0.6, 1 - (low - top) - 1.5)
    axes.set_xticks(range(1, top + 1, 1 + top // 16))
    axes.set_yticks(range(1, top + 1, 1 + top // 12))
    axes.set_xlabel("stability rank (1 = smallest std)")
    axes.set_ylabel("performance rank (1 = highest mean)")
    if found.empty:
        message = "no standard deviation:\nfewer than two seeds"
        axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", color=style.QUIET)
        return
    axes.errorbar(found.index, found["mean"], found["std"], fmt="o", color=colour, capsize=2.5)
    if top <= MOST_COUNTS:
        small: style.Line = {"fontsize": style.SMALL, "va": "center", "ha": "center"}
        for rank, text in [(0.55, "n"), *found["count"].items()]:
            above = axes.get_xaxis_transform()
            axes.text(rank, 0.96, text, transform=above, color=style.QUIET, **small)


def _said(what: str, pairs: pd.DataFrame) -> str:
    found = statistics.spearman(pairs["stability"], pairs["performance"]) if len(pairs) else None
    if found is None:
        return f"{what}: no correlation ({len(pairs)} pairs)"
    return f"{what}: ρ = {found.rho:.3f}, p = {found.p:.2g} ({found.n} pairs)"


def _gist(name: str, pairs: pd.DataFrame) -> str:
    found = points(pairs)["mean"]
    if found.empty:
        return f"{name}: no standard deviation."
    (first, last), (high, low) = found.index[[0, -1]], found.iloc[[0, -1]]
    ends = f"mean performance rank {high:.1f} at stability rank {first}, {low:.1f} at {last}"
    return f"{name}: {ends}; {_said('with AVG', pairs)}."


def _notes(frame: Frame) -> list[str]:
    """What the measured panel leaves out, and why the verdict on it may have another ρ."""
    labels = ranked(frame)
    results = frame.results[frame.results["method"].isin(labels)]
    rest = [label for label in frame.methods["method"] if label not in labels]
    notes = style.note("not ranked, since one row stands for a method", rest)
    if lacking := results["std"].isna().sum():
        notes.append(
            f"{lacking} of {len(results)} method and task pairs have no standard deviation and "
            "are left out."
        )
    runs = results.groupby("method", sort=False)["n"].agg(["min", "max"]).reindex(labels)
    few = runs.index[(runs["max"] > 1) & (runs["min"] < MINIMUM_RUNS)]
    counted = results[results["method"].isin(runs.index[runs["min"] >= MINIMUM_RUNS])]
    own = {*results.loc[results["key"].isin(published.METHODS), "method"]}
    foreign = [label for label in labels if label not in own]
    why = []
    if foreign:
        why.append(f"it is about the methods of Fu et al. 2023, so not {style.many(foreign)}")
    if len(few):
        why.append(
            f"it counts methods with {MINIMUM_RUNS} runs or more on every task alone, so not "
            f"{style.many(few)}"
        )
    if counted["n"].nunique() > 1:
        why.append("it brings deviations of fewer runs to what the largest number would give")
    if why:
        notes.append(f"the verdict on Fig. 4 can have another ρ: {', and '.join(why)}.")
    return notes
