"""Every sentence of the report: what its frames say in words.

First what is missing or doubtful, then what scores and shares mean, then how results compare with
the published ones.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import beside, published
from jiant_sparse.report.cells import setting
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import fixed, percent
from jiant_sparse.report.statistics import MINIMUM_RUNS
from jiant_sparse.schema.record import DELTA, unscored
from jiant_sparse.units import counted

# Remarks of one kind below a printed table; characters of the line that quotes an error.
MOST_REMARKS, LONGEST = 20, 200
# Methods or places that a note names.
MOST_NAMED = 6
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
SOURCE = "Fu et al. 2023"
SETTING = "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds"
# Departures that are listed first, and how many a short list names.
FIRST, MOST_SETTINGS = ("model", "data", "split"), 2


def status(frame: Frame) -> str:
    """The benchmark's counts in one line."""
    missing = "missing unknown" if frame.missing is None else f"{frame.missing} missing"
    broken = f", {len(frame.skipped)} unusable" if frame.skipped else ""
    return f"{len(frame.ok)} ok, {frame.failed} failed, {missing}{broken}"


def warnings(frame: Frame) -> list[str]:
    """Everything that makes a number of the report less than it seems."""
    found = []
    if frame.missing is None:
        found.append("There is no benchmark.json: which cells are missing is unknown.")
    if frame.unplanned:
        found.append(f"{frame.unplanned} recorded cells are not in benchmark.json; they count.")
    if frame.lost:
        found.append(
            f"{len(frame.lost)} of {len(frame.cells)} records have no {DELTA} beside them, "
            f"or another: their scores count, but cannot be recomputed; such as {frame.lost[0]}."
        )
    found += [warning for row in frame.results.itertuples() for warning in _of_result(row)]
    ok = frame.ok
    for task in frame.tasks.itertuples():
        found += _of_task(task, ok[ok["task"] == task.task])
    return found + [*_changed_more(frame)]


def _of_result(row: Any) -> Iterator[str]:
    where = f"{row.task} / {row.method}"
    ok = [record for record in row.records if record.status == "ok"]
    if row.undefined:
        seeds = [record.cell.seed for record in ok if record.cell.seed not in row.seeds]
        yield f"{where}: no test value in {seeds_of(seeds)}; not counted."
    kinds: list[dict[str, Any]] = []
    for record in ok:
        shared = {key: value for key, value in record.settings.items() if key != "seed"}
        if shared not in kinds:
            kinds.append(shared)
    if len(kinds) > 1:
        yield f"{where}: the seeds were run with {len(kinds)} different settings."


def _of_task(task: Any, cells: pd.DataFrame) -> Iterator[str]:
    names = {*cells["metric"].dropna()}
    expected = TASKS[task.like].metric if task.like else None
    # What a configuration asks for is no mistake; the column's head names it.
    asked = {setting(record, "task", "metric") for record in cells["record"]}
    if len(names) > 1:
        yield f"{task.task}: the cells report different metrics: {', '.join(sorted(names))}."
    elif names and expected and names != {expected} and names != asked:
        yield f"{task.task}: the metric is {names.pop()}, that of {task.like} is {expected}."


def _changed_more(frame: Frame) -> Iterator[str]:
    """The methods that changed weights which they did not select."""
    cells = frame.ok[frame.ok["changed"] > frame.ok["selected"]]
    for method in frame.methods["method"]:
        over = cells[cells["method"] == method]
        if over.empty:
            continue
        ever = "ever " if over["moved_per_step"].notna().any() else ""
        changed, selected = (percent(over[f"{n}_percent"].mean()) for n in ("changed", "selected"))
        tasks = ", ".join(over["task"].unique())
        yield (
            f"{method}: {changed} % of the weights changed, but {selected} % were {ever}selected "
            f"({tasks})."
        )


def not_counted(frame: Frame) -> str:
    """For a table that stands alone: that something is amiss, and where it is said in full."""
    number = len(warnings(frame))
    if not (number or frame.failed or frame.missing or frame.skipped):
        return ""
    more = f"; {counted(number, 'warning')}" if number else ""
    return f"Cells: {status(frame)}{more}. The page says which and why."


def remarks(frame: Frame) -> list[str]:
    """Every gap with its reason, then the warnings; of each kind MOST_REMARKS, then a count."""
    failed = [
        f"failed: {cell.task} / {cell.method} seed {cell.seed}: "
        f"{_first_line(cell.error or 'no message recorded')}"
        for cell in frame.cells[frame.cells["status"] == "failed"].itertuples()
    ]
    missing = [
        f"missing: {row.task} / {row.method} {seeds_of(row.missing_seeds)}"
        for row in frame.results.itertuples()
        if row.missing_seeds
    ]
    unusable = [
        f"unusable: {item.path}: {_first_line('; '.join(item.problems))}" for item in frame.skipped
    ]
    lines = []
    for part in (failed, missing, unusable, warnings(frame)):
        more = len(part) - MOST_REMARKS
        lines += part[:MOST_REMARKS]
        lines += [f"... and {more} more; index.html has all."] if more > 0 else []
    return lines


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"


def seeds_of(seeds: Iterable[int]) -> str:
    """Seeds with runs as ranges.

    >>> seeds_of([3]), seeds_of([7, 0, 1, 2, 4])
    ('seed 3', 'seeds 0-2, 4, 7')
    """
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    said = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"{'seed' if sum(map(len, runs)) == 1 else 'seeds'} {', '.join(said)}"


def gaps(row: Any) -> str:
    """What keeps a result from being complete: "1 failed, 2 missing"; empty if nothing does."""
    missing = 0 if pd.isna(row.missing) else row.missing
    counts = ((row.failed, "failed"), (missing, "missing"), (row.undefined, "without value"))
    return ", ".join(f"{number} {said}" for number, said in counts if number)


def usual_n(frame: Frame) -> int | None:
    """The number of seeds that most results have; None without results."""
    return most_frequent(int(n) for n in frame.results["n"] if n)


def most_frequent(numbers: Iterable[int]) -> int | None:
    """The number that is there most often; of several, the largest. None without numbers.

    >>> most_frequent([3, 2, 2, 3, 1])
    3
    """
    found = Counter(numbers)
    return max(found, key=lambda number: (found[number], number), default=None)


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


def tables(results: pd.DataFrame) -> str:
    """The published tables beside which these results stand, as "Table 1 and Table 2"."""
    numbers = sorted(results["published_table"].dropna().unique())
    return " and ".join(f"Table {number}" for number in numbers)


def comparability(frame: Frame) -> tuple[bool, str]:
    """Whether all results may be compared with the published ones, and why not."""
    departures = _departures(frame.results)
    if not departures:
        return False, "nothing is published for these methods and tasks"
    if all(found is None for found in departures):
        return False, "not comparable: there is no result to compare"
    apart = _apart(frame.results)
    if not apart:
        return True, "comparable: same model, data, split and training as published"
    return False, f"{_label(frame.results)}: {', '.join(apart)}"


def comparability_briefly(frame: Frame) -> str:
    """The same, naming only the first settings."""
    apart = apart_briefly(frame.results)
    return f"{_label(frame.results)}: {apart}" if apart else comparability(frame)[1]


def apart_briefly(results: pd.DataFrame, but: str = "") -> str:
    """The first settings in which results depart from the published experiment.

    "model is X, split is files and 9 more settings"; empty if no result departs. but: a setting
    that may differ.
    """
    apart = _apart(results, but)
    named, more = apart[:MOST_SETTINGS], len(apart) - MOST_SETTINGS
    if more > 0:
        return f"{', '.join(named)} and {counted(more, 'more setting')}"
    return " and ".join(named)


def is_partly(results: pd.DataFrame, but: str = "") -> bool:
    """Whether a result with a published value is comparable."""
    return any(found is not None and not found.keys() - {but} for found in _departures(results))


def reasons(frame: Frame, row: Any) -> list[str]:
    """Why a result, or an AVG, has no test against the published value."""
    if row.word == "not comparable":
        return settings_apart(row.departures)
    if row.word == "no spread":
        return ["neither side varies from run to run"]
    if row.word != "too few runs":
        return []
    if not row.is_average:
        return [_too_few(row.n)]
    parts = frame.of(row.method)
    short = parts[parts["n"] < MINIMUM_RUNS].itertuples()
    return [f"{part.title}: {_too_few(part.n)}" for part in short]


def settings_apart(departures: dict[str, tuple[str, ...]] | None) -> list[str]:
    """Each value of each setting in which one result departs from the published experiment."""
    return [f"{name} is {value}" for name, its in (departures or {}).items() for value in its]


def _label(results: pd.DataFrame) -> str:
    """The comparability label of results if some of them depart."""
    return "partly not comparable" if is_partly(results) else "not comparable"


def _too_few(runs: int) -> str:
    return f"{counted(runs, 'run')}; a test needs {MINIMUM_RUNS}"


def _departures(results: pd.DataFrame) -> list[dict[str, tuple[str, ...]] | None]:
    return results.loc[results["published_mean"].notna(), "departures"].tolist()


def _apart(results: pd.DataFrame, but: str = "") -> list[str]:
    """Each setting that departs, with all its values, and in how many results if not in all."""
    judged = [found for found in _departures(results) if found is not None]
    values = beside.together(judged)
    values.pop(but, None)
    said = []
    for name in sorted(values, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        number = sum(name in found for found in judged)
        some = "" if number == len(judged) else f" ({number} of {len(judged)} results)"
        *others, last = sorted(values[name], key=_size)
        listed = f"{', '.join(others)} or {last}" if others else last
        said.append(f"{name} is {listed}{some}")
    return said


def _size(value: str) -> tuple[bool, float]:
    """Sorts numbers by size, then words in the order given."""
    try:
        return False, float(value)
    except ValueError:
        return True, 0
