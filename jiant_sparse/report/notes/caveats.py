"""What a reader must know of scores and shares that are not what such numbers usually are."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pandas as pd

from jiant_sparse.report import published
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import fixed, percent
from jiant_sparse.schema.record import unscored

SHORT = {
    "mcc": "MCC",
    "acc": "accuracy",
    "f1": "F1",
    "acc_and_f1": "acc, F1",
    "avg_f1": "macro F1",
    "pearson": "Pearson",
    "spearmanr": "Spearman",
    "corr": "r, ρ",
}
LONG = {
    "mcc": "Matthews correlation",
    "acc_and_f1": "mean of accuracy and F1",
    "corr": "mean of Pearson and Spearman correlation",
}
WSC = (
    "WSC: the majority class alone scores 63.46 on the real test set; every published value is "
    "lower."
)
# Methods or places that a note names.
MOST_NAMED = 6


def metric(name: str | None) -> str:
    """The short name of a metric."""
    return SHORT.get(name or "", name or "metric unknown")


def footnotes(frame: Frame) -> list[str]:
    """What a reader must know about the metrics of the tasks."""
    tasks = [*frame.tasks.itertuples()]
    said = [f"{task.title}: {LONG[task.metric]}." for task in tasks if task.metric in LONG]
    if any(task.published_title == "CB" and task.metric == "acc" for task in tasks):
        said.append("CB: accuracy, as in the paper.")
    notes = [" ".join(said)] if said else []
    return [*notes, WSC] if any(task.published_title == "WSC" for task in tasks) else notes


def chosen_on_test(frame: Frame) -> str:
    """That scores are of the set that also chose the best step; empty if none is."""
    scored = frame.cells[frame.cells["test"].notna()]
    number = scored["chosen_on_test"].sum()
    if not number:
        return ""
    chose = (
        "the set that also chose each run's best step, and its learning rate where that was "
        f"selected (split {published.STOCHASTIC_SPLIT}, as in {published.STOCHASTIC_SOURCE})"
    )
    if number == len(scored):
        return (
            f"The scores are of {chose}: they are optimistic, and not comparable with those of a "
            "test set that chose nothing, as in Fu et al. 2023."
        )
    return (
        f"{number} of the {len(scored)} scores are of {chose}: {_named(_places(frame, scored))}. "
        "They are optimistic, and not comparable with the others here, nor with Fu et al. 2023."
    )


def _places(frame: Frame, scored: pd.DataFrame) -> Iterator[str]:
    """The methods with such scores, and their tasks where not all scores of a method are such."""
    titles = dict(zip(frame.tasks["task"], frame.tasks["title"], strict=True))
    for label in frame.methods["method"]:
        its = scored[scored["method"] == label]
        chosen = its[its["chosen_on_test"]]
        tasks = ", ".join(titles[task] for task in chosen["task"].unique())
        if len(chosen):
            yield label if len(chosen) == len(its) else f"{label} ({tasks})"


def left_out(frame: Frame) -> list[str]:
    """For each task, which rows of dev and test were not scored, and in how many cells."""
    notes = []
    for task in frame.tasks.itertuples():
        records = frame.ok.loc[frame.ok["task"] == task.task, "record"]
        told = Counter(filter(None, map(unscored, records)))
        for rows, number in told.items():
            cells = f" ({number} of {len(records)} cells)" if number < len(records) else ""
            said = f"{rows} rows do not fit max_seq_length and were not scored{cells}"
            notes.append(f"{task.title}: {said}.")
    return notes


def per_step(frame: Frame) -> str:
    """Which methods tune other weights at each step, and how many in all; empty if none does."""
    moving = frame.averages[frame.averages["per_step"]]
    if not len(moving):
        return ""
    shares = zip(moving["method"], moving["drawn_percent"].map(percent), strict=True)
    return (
        "Per step: the weights differ from step to step, and tuned is the share of one step; "
        f"in percent, chosen at least once in a run: {_named(map(' '.join, shares))}."
    )


def _named(names: Iterable[str]) -> str:
    listed = [*names]
    more = len(listed) - MOST_NAMED
    return ", ".join(listed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def below_majority(frame: Frame) -> list[str]:
    """For each task, how many methods lie below always giving the most frequent answer."""
    notes = []
    for task in frame.tasks.itertuples():
        means = frame.results.loc[frame.results["task"] == task.task, "mean"].dropna()
        below = (means < task.majority).sum()
        if below:
            verb = "lie" if below > 1 else "lies"
            notes.append(
                f"{task.title}: {below} of the {len(means)} means {verb} below "
                f"{fixed(task.majority, 2)}, which always giving the most frequent answer scores."
            )
    return notes
