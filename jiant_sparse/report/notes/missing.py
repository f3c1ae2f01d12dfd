"""What is missing or doubtful: the counts of cells, warnings, and every gap with its reason."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report.cells import setting
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import percent
from jiant_sparse.schema.record import DELTA

# Remarks of one kind below a printed table; characters of the line that quotes an error.
MOST_REMARKS, LONGEST = 20, 200


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
    found += [warning for task in frame.tasks.itertuples() for warning in _of_task(frame, task)]
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


def _of_task(frame: Frame, task: Any) -> Iterator[str]:
    cells = frame.ok[(frame.ok["task"] == task.task)]
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
        changed, selected = (
            percent(over[f"{name}_percent"].mean()) for name in ("changed", "selected")
        )
        shares = f"{changed} % of the weights changed"
        tasks = ", ".join(over["task"].unique())
        yield f"{method}: {shares}, but {selected} % were {ever}selected ({tasks})."


def status(frame: Frame) -> str:
    """The benchmark's counts in one line."""
    missing = "missing unknown" if frame.missing is None else f"{frame.missing} missing"
    broken = f", {len(frame.skipped)} unusable" if frame.skipped else ""
    return f"{len(frame.ok)} ok, {frame.failed} failed, {missing}{broken}"


def not_counted(frame: Frame) -> str:
    """For a table that stands alone: that something is amiss, and where it is said in full."""
    number = len(warnings(frame))
    if not (number or frame.failed or frame.missing or frame.skipped):
        return ""
    more = f"; {number} {'warning' if number == 1 else 'warnings'}" if number else ""
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
    numbers = Counter(int(n) for n in frame.results["n"] if n)
    return max(numbers, key=lambda n: (numbers[n], n), default=None)
