"""One result set against another, or against the published tables, on every task and on AVG."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jiant_sparse.report import notes, published
from jiant_sparse.report.cells import setting
from jiant_sparse.report.comparison.sets import ResultSet
from jiant_sparse.report.frame import Frame, spread
from jiant_sparse.report.published import AVERAGE, STOCHASTIC_SPLIT
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    hedges_g,
    holm,
    welch_contrast,
)
from jiant_sparse.schema.record import Record

PUBLISHED = "published"
# A row of a frame's results: one method on one task.
Result = Mapping[str, Any]
# A row of the comparison; an unknown number is None.
Pair = dict[str, Any]


class Side(NamedTuple):
    """Mean and population deviation of n runs in percent, and the samples of the tasks behind it.

    n of AVG is the smallest of its tasks; without results n is 0 and all else is unknown.
    """

    n: int
    mean: float | None
    std: float | None
    samples: tuple[Sample | None, ...]


def pairs(baseline: ResultSet | None, others: Sequence[ResultSet]) -> list[list[Pair]]:
    """Compare each of `others` with the baseline, None being the published tables.

    Returns the pairs, one for each of `others`, of each place that any set has records for. The
    places of a method are its tasks, in the order of the first set, and AVG if there are several
    tasks. The keys of a pair:
        task, method, set, baseline
        n, mean, std, n_baseline, mean_baseline, std_baseline
        difference       percentage points above the baseline; None if there is nothing to subtract
        t, df, p         Welch's test
        holm_p           p after Holm's correction over all pairs
        hedges_g         None for AVG, which has no runs of its own
        step_time_ratio  the mean of the seeds' median step times over the baseline's
        word             what can be said, after the correction
        reasons          why the two sides are results of different things
    """
    sets = [baseline, *others] if baseline else others
    label = baseline.label if baseline else PUBLISHED
    places: list[list[Pair]] = []
    for task, method, rows in _places([item.frame for item in sets]):
        base, sides = (rows[0], rows[1:]) if baseline else (None, rows)
        place: list[Pair] = []
        for item, ours in zip(others, sides, strict=True):
            where: Pair = {"task": task, "method": method, "set": item.label, "baseline": label}
            place.append(where | _compared(ours, base, task == AVERAGE))
        places.append(place)
    every = [pair for place in places for pair in place]
    for pair, corrected in zip(every, holm([pair["p"] for pair in every]), strict=True):
        pair["holm_p"] = corrected
        pair["word"] = _word(pair)
    return places


def _word(pair: Pair) -> str:
    if pair["mean"] is None or pair["mean_baseline"] is None:
        return "no result"
    if pair["reasons"]:
        return "not comparable"
    if min(pair["n"], pair["n_baseline"]) < MINIMUM_RUNS:
        return "too few runs"
    if pair["holm_p"] is None:
        return "no spread"
    if pair["holm_p"] >= LEVEL:
        return "no difference seen"
    return "higher" if pair["t"] > 0 else "lower"


def _places(frames: Sequence[Frame]) -> Iterator[tuple[str, str, list[list[Result]]]]:
    """Title of a task or AVG, method, and each set's results there: one, or for AVG all."""
    titles: dict[str, str] = {}
    for frame in frames:
        titles |= dict(zip(frame.tasks["task"], frame.tasks["title"], strict=True))
    for method in dict.fromkeys(label for frame in frames for label in frame.methods["method"]):
        rows = [frame.of(method).to_dict("records") for frame in frames]
        for task, title in titles.items():
            here = [[row for row in its if row["task"] == task] for its in rows]
            if any(row["records"] for its in here for row in its):
                yield title, method, here
        if len(titles) > 1 and any(_ok(row) for its in rows for row in its):
            yield AVERAGE, method, rows


def _compared(rows: Sequence[Result], base_rows: Sequence[Result] | None, average: bool) -> Pair:
    """The numbers of two sides, and Welch's test unless there is a reason against it."""
    ours, ratio = _measured(rows), None
    if base_rows is None:
        base = _published(rows, average)
        reasons = _each(rows, lambda row: notes.settings_apart(row["departures"]), average)
    else:
        base, (reasons, ratio) = _measured(base_rows), _apart(base_rows, rows, average)
    test = effect = difference = None
    if ours.mean is None or base.mean is None:
        reasons = []
    elif not reasons:
        difference, share = ours.mean - base.mean, 1 / len(ours.samples)
        parts = [(share, sample) for sample in ours.samples]
        test = welch_contrast([*parts, *((-share, sample) for sample in base.samples)])
        if test and len(ours.samples) == 1:
            effect = hedges_g(ours.samples[0], base.samples[0])
    return {
        "n": ours.n,
        "mean": ours.mean,
        "std": ours.std,
        "n_baseline": base.n,
        "mean_baseline": base.mean,
        "std_baseline": base.std,
        "difference": difference,
        **Test.fields(test),
        "holm_p": None,
        "hedges_g": effect,
        "step_time_ratio": ratio,
        "word": "",
        "reasons": tuple(dict.fromkeys(reasons)),
    }


def _measured(rows: Sequence[Result]) -> Side:
    return _side([(*spread(row["values"]), Sample.of(row["values"])) for row in rows])


def _published(rows: Sequence[Result], average: bool) -> Side:
    """The published side of these results; unknown unless it is over the same tasks."""
    values = [(row["published_mean"], row["published_std"]) for row in rows]
    whole = not average or published.are_all_tasks(row["published_title"] for row in rows)
    if not whole or any(math.isnan(mean) for mean, _ in values):
        return _side([])
    n = published.RUNS
    return _side([(n, mean, std, Sample.published(mean, std, n)) for mean, std in values])


def _side(parts: Sequence[tuple[int, float | None, float | None, Sample | None]]) -> Side:
    """The mean of the tasks' means and of their deviations; unknown if that of a task is."""
    if not parts:
        return Side(0, None, None, ())
    n, means, stds, samples = zip(*parts, strict=True)
    mean = None if None in means else statistics.fmean(means)
    return Side(min(n), mean, None if None in stds else statistics.fmean(stds), samples)


def _each(
    rows: Sequence[Result], reasons: Callable[[Result], Sequence[str]], average: bool
) -> list[str]:
    """The reasons of each result; of AVG, with the titles of the tasks."""
    return [
        f"{row['title']}: {reason}" if average else reason
        for row in rows
        for reason in reasons(row)
    ]


def _apart(
    base: Sequence[Result], ours: Sequence[Result], average: bool
) -> tuple[list[str], float | None]:
    """Why results are of different things, and the ratio of step times: the geometric mean over
    the tasks."""
    others = {row["task"]: row for row in base}
    both = [row for row in ours if row["task"] in others]
    reasons = _each(both, lambda row: _differ(_ok(row), _ok(others[row["task"]])), average)
    if average and not len(both) == len(base) == len(ours):
        return ["AVG is over other tasks", *reasons], None
    if average and len(both) == 1:
        # It would be the task's own test once more.
        return ["AVG is over one task", *reasons], None
    name = "step_milliseconds_median"
    times = [(row[name], others[row["task"]][name]) for row in both]
    logs = [math.log(one / other) for one, other in times if one > 0 and other > 0]
    return reasons, math.exp(statistics.fmean(logs)) if logs and len(logs) == len(ours) else None


# What two sides must have in common, and what is said if they do not.
_ALIKE: tuple[tuple[str, Callable[[Record], Any]], ...] = (
    ("task is {}, not {}", lambda record: setting(record, "task", "like")),
    ("method is {}, not {}", lambda record: setting(record, "method", "name")),
    ("metric is {}, not {}", lambda record: record.primary and record.primary.name),
    (
        "on one side the test set also chose the best step",
        lambda record: record.settings.get("split") == STOCHASTIC_SPLIT,
    ),
    (
        "other test rows were left out",
        lambda record: record.provenance.dropped_examples.get("test", 0),
    ),
    ("test data differ", lambda record: record.inputs.get("test")),
)


def _differ(ours: Sequence[Record], base: Sequence[Record]) -> list[str]:
    found = []
    for words, of in _ALIKE:
        one, two = ({of(record) for record in records} for records in (ours, base))
        if words == "test data differ" and None in one | two:
            found.append("test data are not recorded")
        elif one != two:
            told = (" and ".join(sorted(map(str, side))) for side in (one, two))
            found.append(words.format(*told))
    return found


def _ok(row: Result) -> list[Record]:
    return [record for record in row["records"] if record.status == "ok"]
