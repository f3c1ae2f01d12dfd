"""What the report says in words: names of metrics, footnotes, comparability and warnings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report.numbers import fixed, percent
from jiant_sparse.report.summary import Group, Row, Summary, Task, by_step, share_percent
from jiant_sparse.schema.record import DELTA, Record

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
# Lines of one kind of gap or warning below a printed table, and characters of an error's line.
MOST = 20
LONGEST = 200
# Settings that come first when those of another experiment are listed, and how many a short list
# names.
FIRST = ("model", "data", "split")
MOST_NAMED = 2
SOURCE = "Fu et al. 2023"
SETTING = "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds"
WSC = (
    "WSC: the majority class alone scores 63.46 on the real test set; every published value is "
    "lower."
)


def metric(task: Task) -> str:
    """The short name of a column's metric."""
    return SHORT.get(task.metric or "", task.metric or "metric unknown")


def footnotes(summary: Summary) -> list[str]:
    """What a reader must know about the metrics of this benchmark's columns."""
    said = [f"{task.title}: {LONG[task.metric]}." for task in summary.tasks if task.metric in LONG]
    if any(task.published_title == "CB" and task.metric == "acc" for task in summary.tasks):
        said.append("CB: accuracy, as in the paper.")
    notes = [" ".join(said)] if said else []
    return [*notes, WSC] if any(task.published_title == "WSC" for task in summary.tasks) else notes


def tables(groups: Iterable[Group]) -> str:
    """The published tables that stand beside these groups, as "Table 1"."""
    numbers = sorted({group.published.table for group in groups if group.published})
    return " and ".join(f"Table {number}" for number in numbers)


def comparability(summary: Summary) -> tuple[bool, str]:
    """Whether all results may be held against the published values, and why not."""
    groups = [group for group in summary.groups if group.published]
    if not groups:
        return False, "nothing is published for these methods and tasks"
    if all(group.departures is None for group in groups):
        return False, "not comparable: there is no result to compare"
    apart = _apart(groups)
    if not apart:
        return True, "comparable: same model, data, split and training as published"
    return False, f"{_word(groups)}: {', '.join(apart)}"


def apart_briefly(summary: Summary) -> str:
    """The first settings in which a result departs from the published experiment, and how many
    more there are: "model is X, split is files and 9 more settings"; empty if none does."""
    apart = _apart([group for group in summary.groups if group.published])
    named, more = apart[:MOST_NAMED], len(apart) - MOST_NAMED
    if more > 0:
        return f"{', '.join(named)} and {more} more setting{'' if more == 1 else 's'}"
    return " and ".join(named)


def comparability_briefly(summary: Summary) -> str:
    """As `comparability` says it, but with the first settings alone."""
    apart = apart_briefly(summary)
    groups = (group for group in summary.groups if group.published)
    return f"{_word(groups)}: {apart}" if apart else comparability(summary)[1]


def _word(groups: Iterable[Group]) -> str:
    """What results are of which some depart from the published experiment."""
    # Without a result it is unknown whether a group departs: None.
    partly = any(group.departures == () for group in groups)
    return "partly not comparable" if partly else "not comparable"


def _apart(groups: Iterable[Group]) -> list[str]:
    """Each setting that is not the published one, with all its values: "q is 0.9 or 0.95"; and in
    how many of the results, unless it is in all."""
    judged = [group.departures for group in groups if group.departures is not None]
    values: dict[str, dict[str, None]] = {}
    numbers: Counter[str] = Counter()
    for departures in judged:
        parts = [reason.partition(" is ") for reason in departures]
        for name, _, value in parts:
            values.setdefault(name, {})[value] = None
        numbers.update({name for name, _, _ in parts})
    first = [name for name in FIRST if name in values]
    said = []
    for name in [*first, *(name for name in values if name not in FIRST)]:
        number = numbers[name]
        some = "" if number == len(judged) else f" ({number} of {len(judged)} results)"
        said.append(f"{name} is {_either(values[name])}{some}")
    return said


def _either(values: Iterable[str]) -> str:
    """ "20, 40 or unknown": numbers by size, then words in the order given."""
    *others, last = sorted(values, key=_size)
    return f"{', '.join(others)} or {last}" if others else last


def _size(value: str) -> tuple[bool, float]:
    try:
        return False, float(value)
    except ValueError:
        return True, 0


def warnings(summary: Summary) -> list[str]:
    """Everything that makes a number of the report less than it seems."""
    found = []
    if summary.missing is None:
        found.append("There is no benchmark.json: which cells are missing is unknown.")
    if summary.unplanned:
        found.append(f"{summary.unplanned} recorded cells are not in benchmark.json; they count.")
    if summary.lost:
        found.append(
            f"{len(summary.lost)} of {len(summary.records)} records have no {DELTA} beside them, "
            f"or another: their scores count, but cannot be recomputed; such as {summary.lost[0]}."
        )
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
    kinds: list[dict[str, Any]] = []
    for record in group.ok:
        shared = {key: value for key, value in record.settings.items() if key != "seed"}
        if shared not in kinds:
            kinds.append(shared)
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
    ever = "ever " if by_step(over) else ""
    shares = f"{changed} % of the weights changed, but {selected} % were {ever}selected"
    return [f"{row.label}: {shares} ({tasks})."]


def _of_task(task: Task, groups: list[Group]) -> list[str]:
    names = {r.primary.name for group in groups for r in group.ok if r.primary}
    if len(names) > 1:
        return [f"{task.label}: the cells report different metrics: {', '.join(sorted(names))}."]
    expected = TASKS[task.like].metric if task.like else None
    # What a configuration asks for is no mistake; the column's head names it.
    asked = {_asked(record) for group in groups for record in group.ok}
    if names and expected and names != {expected} and names != asked:
        return [f"{task.label}: the metric is {names.pop()}, that of {task.like} is {expected}."]
    return []


def _asked(record: Record) -> str | None:
    task = record.settings.get("task")
    metric = task.get("metric") if isinstance(task, Mapping) else None
    return metric if isinstance(metric, str) else None


def below_majority(summary: Summary) -> list[str]:
    """For each task with a known score of the most frequent answer, how many methods lie below."""
    notes = []
    for i, task in enumerate(summary.tasks):
        means = [row.groups[i].score.mean for row in summary.rows]
        known = [mean for mean in means if mean is not None]
        if task.majority is None or not known:
            continue
        below = sum(mean < task.majority for mean in known)
        if below:
            verb = "lie" if below > 1 else "lies"
            score = fixed(task.majority, 2)
            notes.append(
                f"{task.title}: {below} of the {len(known)} means {verb} below {score}, which "
                "always giving the most frequent answer scores."
            )
    return notes


def not_counted(summary: Summary) -> str:
    """For a table that stands alone: that something is amiss, and where it is said in full."""
    number = len(warnings(summary))
    if not (number or summary.failed or summary.missing or summary.skipped):
        return ""
    more = f"; {number} {'warning' if number == 1 else 'warnings'}" if number else ""
    return f"Cells: {status(summary)}{more}. The page says which and why."


def remarks(summary: Summary) -> list[str]:
    """Every gap with its reason, then the warnings; of each kind MOST, then a count."""
    failed, missing = [], []
    for group in summary.groups:
        where = f"{group.task.label} / {group.method}"
        for record in group.failed:
            error = _first_line(record.error or "no message recorded")
            failed.append(f"failed: {where} seed {record.cell.seed}: {error}")
        if group.missing:
            missing.append(f"missing: {where} {seeds_of(group.missing)}")
    unusable = [
        f"unusable: {item.path}: {_first_line('; '.join(item.problems))}"
        for item in summary.skipped
    ]
    lines = []
    for part in (failed, missing, unusable, warnings(summary)):
        more = len(part) - MOST
        lines += part[:MOST] + ([f"... and {more} more; index.html has all."] if more > 0 else [])
    return lines


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= LONGEST else line[:LONGEST] + "…"


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
