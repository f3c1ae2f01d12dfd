"""What the report says in words: names of metrics, footnotes, comparability and warnings."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report.numbers import percent
from jiant_sparse.report.summary import Group, Row, Summary, Task, share_percent

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
SOURCE = "Fu et al. 2023"
SETTING = "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds"
WSC = (
    "WSC: always answering with the majority class scores 63.46 on the real test set; every "
    "published value is below that."
)


def metric(task: Task) -> str:
    """The short name of a column's metric."""
    return SHORT.get(task.metric or "", task.metric or "metric unknown")


def footnotes(summary: Summary) -> list[str]:
    """What a reader must know about the metrics of this benchmark's columns."""
    notes = [f"{task.title}: {LONG[task.metric]}." for task in summary.tasks if task.metric in LONG]
    likes = {task.like for task in summary.tasks}
    if any(task.like == "cb" and task.metric == "acc" for task in summary.tasks):
        notes.append("CB: accuracy, as in the paper.")
    return [*notes, WSC] if "wsc" in likes else notes


def tables(groups: Iterable[Group]) -> str:
    """The published tables that stand beside these groups, as "Table 1"."""
    numbers = sorted({group.published.table for group in groups if group.published})
    return " and ".join(f"Table {number}" for number in numbers)


def comparability(summary: Summary) -> tuple[bool, str]:
    """Whether all results may be held against the published values, and why not."""
    groups = [group for group in summary.groups if group.published]
    judged = [group for group in groups if group.departures is not None]
    apart = [group for group in judged if group.departures]
    if not groups:
        return False, "nothing is published for these methods and tasks"
    if not judged:
        return False, "not comparable: there is no result to compare"
    if not apart:
        return True, "comparable: same model, split and training as published"
    reasons = Counter(reason for group in apart for reason in group.departures or ())
    said = ", ".join(
        reason if number == len(judged) else f"{reason} ({number} of {len(judged)} results)"
        for reason, number in reasons.items()
    )
    return False, f"not comparable: {said}"


def warnings(summary: Summary) -> list[str]:
    """Everything that makes a number of the report less than it seems."""
    found = []
    if summary.missing is None:
        found.append("There is no benchmark.json: which cells are missing is unknown.")
    if summary.unplanned:
        found.append(f"{summary.unplanned} recorded cells are not in benchmark.json; they count.")
    for group in summary.groups:
        found += _of_group(group)
    for task in summary.tasks:
        found += _of_task(task, [g for g in summary.groups if g.task is task])
    for row in summary.rows:
        found += _of_row(row)
    return found


def _of_group(group: Group) -> list[str]:
    where, found = f"{group.task.label} / {group.method}", []
    if group.undefined:
        seeds = seeds_of([record.cell.seed for record in group.undefined])
        found.append(f"{where}: no test value in {seeds}; not counted.")
    kinds = {
        json.dumps({k: v for k, v in record.settings.items() if k != "seed"}, sort_keys=True)
        for record in group.ok
    }
    if len(kinds) > 1:
        found.append(f"{where}: the seeds were run with {len(kinds)} different settings.")
    return found


def _of_row(row: Row) -> list[str]:
    """A method that changed weights which it did not select."""
    over = [r for r in row.ok if r.params and r.params.changed > r.params.selected]
    if not over:
        return []
    tasks = ", ".join(dict.fromkeys(record.cell.task for record in over))
    changed, selected = (percent(share_percent(over, name)) for name in ("changed", "selected"))
    shares = f"{changed} % of the weights changed, but {selected} % were selected"
    return [f"{row.label}: {shares} ({tasks})."]


def _of_task(task: Task, groups: list[Group]) -> list[str]:
    names = {r.primary.name for group in groups for r in group.ok if r.primary}
    if len(names) > 1:
        return [f"{task.label}: the cells report different metrics: {', '.join(sorted(names))}."]
    expected = TASKS[task.like].metric if task.like else None
    if names and expected and names != {expected}:
        return [f"{task.label}: the metric is {names.pop()}, that of {task.like} is {expected}."]
    return []


def seeds_of(seeds: Sequence[int]) -> str:
    """ "seed 3" or "seeds 0-4, 7": runs of seeds as ranges."""
    runs: list[list[int]] = []
    for seed in sorted(seeds):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    said = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(said)}"


def gaps(group: Group) -> str:
    """What keeps a group from being complete: "1 failed, 2 missing"; empty if nothing does."""
    counts = (
        (len(group.failed), "failed"),
        (len(group.missing or ()), "missing"),
        (len(group.undefined), "without value"),
    )
    return ", ".join(f"{number} {word}" for number, word in counts if number)


def status(summary: Summary) -> str:
    """The benchmark's counts in one line."""
    ok = len(summary.records) - summary.failed
    missing = "missing unknown" if summary.missing is None else f"{summary.missing} missing"
    broken = f", {len(summary.skipped)} unusable" if summary.skipped else ""
    return f"{ok} ok, {summary.failed} failed, {missing}{broken}"


def seeds(summary: Summary) -> int | None:
    """The number of seeds that most results have; None without results."""
    numbers = Counter(group.score.n for group in summary.groups if group.score.n)
    return max(numbers, key=lambda n: (numbers[n], n), default=None)
