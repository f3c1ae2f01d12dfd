"""Everything that a report knows: tidy frames, built once from the records of a benchmark.

Scores and shares are in percent. An unknown number is NaN (or NA in an integer column), an unknown
object is None. Tasks and methods stand in the manifest's order; labels that the manifest does not
name follow in the order of the task table and of the papers.

`tasks`, a row for each task:
    task        its label in the benchmark
    like        the known task of which it is a variant, or itself; None if unknown
    title       its heading
    published_title  the name that the paper gives it; None for a variant
    metric      the primary metric of most of its records, as jiant names it
    majority    test score of always giving the most frequent answer

`methods`, a row for each method:
    method      its label in the benchmark
    key         its name in the package; None if unknown
    title       the name that its paper gives it, else its label

`cells`, a row for each record, by task, method and seed:
    task, method, key, seed
    status      "ok" or "failed"
    error       why the cell failed
    metric      name of the primary metric
    dev, test, train  the primary metric; `test` only of a cell that ended well
    chosen_on_test    whether the reported set also chose the best step
    eligible, selected, added, head, trainable, changed, moved_per_step  counts of weights
    tuned_percent, drawn_percent, selected_percent, changed_percent  shares of the eligible
                weights: tuned, drawn in any step (per-step methods alone), selected, and different
                from the base at the end
    train_seconds, eval_seconds, select_seconds, step_milliseconds_median, peak_memory_bytes,
    delta_bytes  costs
    stop_seconds  time to choose the weights and to run all steps
    best_seconds  estimated time to the best step, all steps taken as equally long
    best_step, steps
    device      what the cell ran on
    record      the whole Record, for rare things

`results`, a row for each task and method, task by task; `n` and what follows is over the cells
that ended well:
    task, title, published_title, majority, method, key
    records     all its records, by seed (tuple of Record)
    n           number of test values
    values, seeds     the test values and the seeds that gave them (tuples)
    mean, std   of the test values; the deviation is the population's, unknown below two values
    rank, std_rank    in the task: 1 for the largest mean, the smallest deviation; ties share it
    best        whether its rank is 1 and another method has a rank
    missing_seeds     planned seeds without a record (tuple); None without a manifest
    missing, failed, undefined  numbers of planned cells without a record, of failed cells, and of
                cells that ended well without a test value; `missing` is NA without a manifest
    complete    whether every planned cell has a test value
    published_mean, published_std, published_table  the paper's value and its table's number
    difference  mean - published_mean
    departures  settings that differ from the published experiment: {setting: (value, ...)}, values
                as text; empty if none does, None without a result
    word        "compatible", "higher" or "lower" by Welch's test, "not comparable", "too few runs"
                or "no spread"; None if nothing is published or there is no result
    t, df, p    Welch's test of mean - published_mean, two-sided, p not corrected
    is_average  False
    per_step    whether a cell tuned other weights at each step
    and the means over cells of every count, share and cost of `cells`, under the same names

`averages`, a row for each method, is AVG: the columns of `results`, with
    task, title "AVG"; is_average True
    published_title   "AVG" if the tasks are the paper's, else None
    n, values, seeds, records, missing_seeds  are not there
    mean, std   mean of the tasks' means, and of their deviations; over all tasks or unknown
    with_value, tasks  number of tasks that have a mean, and of all tasks
    missing, failed, undefined  sums over the tasks
    the other means over all cells of the method
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from jiant_sparse.report import beside, cells, published
from jiant_sparse.report.cells import MEANS, test_percent
from jiant_sparse.report.collect import Collection, Skipped, collect
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.schema.record import Record


@dataclass(frozen=True, eq=False)
class Frame:
    """One benchmark. The module says which columns the frames have.

    skipped: what could not be used. missing: number of planned cells without a record, None
    without a manifest. unplanned: number of records that the manifest does not name. lost: places
    of the records whose delta is missing.
    """

    benchmark: str
    directory: Path
    tasks: pd.DataFrame
    methods: pd.DataFrame
    cells: pd.DataFrame
    results: pd.DataFrame
    averages: pd.DataFrame
    skipped: tuple[Skipped, ...]
    missing: int | None
    unplanned: int
    lost: tuple[str, ...]

    @property
    def ok(self) -> pd.DataFrame:
        """The cells that ended well."""
        return self.cells[self.cells["status"] == "ok"]

    @property
    def failed(self) -> int:
        """The number of failed cells."""
        return len(self.cells) - len(self.ok)

    @property
    def scores(self) -> pd.DataFrame:
        """The results, then the averages."""
        return pd.concat([self.results, self.averages], ignore_index=True)

    @property
    def by_method(self) -> pd.DataFrame:
        """The same, method by method: its tasks, then its AVG."""
        places = {label: i for i, label in enumerate(self.methods["method"])}
        return self.scores.sort_values("method", key=lambda its: its.map(places), kind="stable")

    def of(self, method: str) -> pd.DataFrame:
        """The results of the method labelled `method`, in the order of the tasks."""
        return self.results[self.results["method"] == method]

    def keyed(self, key: str) -> str | None:
        """The label that stands for a method's key: of several, the one that equals the key."""
        labels = self.methods.loc[self.methods["key"] == key, "method"].tolist()
        return labels[0] if len(labels) == 1 else next((one for one in labels if one == key), None)


def load(directory: Path) -> Frame:
    """Build the frames of the benchmark in `directory`. Raises InputError as `collect`."""
    return arrange(collect(directory))


def arrange(collection: Collection) -> Frame:
    """Build the frames of a collection."""
    tasks, methods = cells.tasks(collection), cells.methods(collection)
    absent, unplanned = _against_plan(collection)
    measured = cells.cells(collection, tasks, methods)
    by_pair: dict[tuple[str, str], list[Record]] = {}
    for record in measured["record"]:
        by_pair.setdefault((record.cell.task, record.cell.method), []).append(record)
    usual = beside.usual_table(collection.records)
    rows = []
    for task in tasks.to_dict("records"):
        for method in methods.to_dict("records"):
            pair = (task["task"], method["method"])
            missing = None if absent is None else tuple(absent.get(pair, ()))
            rows.append(_result(task, method, by_pair.get(pair, []), missing, usual))
    averages = [_average(rows[i :: len(methods)]) for i in range(len(methods))]
    ok = measured[measured["status"] == "ok"]
    return Frame(
        benchmark=collection.benchmark,
        directory=collection.directory,
        tasks=tasks,
        methods=methods,
        cells=measured,
        results=_finished(rows, ok, ["task", "method"]),
        averages=_finished(averages, ok, ["method"]),
        skipped=collection.skipped,
        missing=None if absent is None else sum(map(len, absent.values())),
        unplanned=unplanned,
        lost=collection.lost,
    )


def _against_plan(
    collection: Collection,
) -> tuple[dict[tuple[str, str], list[int]] | None, int]:
    """The planned seeds without a record, by task and method; the number of unplanned records."""
    if collection.manifest is None:
        return None, 0
    planned = {(c.task, c.method, c.seed) for c in collection.manifest.cells}
    present = {(r.cell.task, r.cell.method, r.cell.seed) for r in collection.records}
    absent: dict[tuple[str, str], list[int]] = {}
    for task, method, seed in sorted(planned - present):
        absent.setdefault((task, method), []).append(seed)
    return absent, len(present - planned)


def _result(
    task: Mapping[str, Any],
    method: Mapping[str, Any],
    records: Sequence[Record],
    missing: tuple[int, ...] | None,
    usual: int,
) -> dict[str, Any]:
    """One row of the results. usual: the published table to show where there are no records."""
    scored = {r.cell.seed: v for r in records if (v := test_percent(r)) is not None}
    ok = [record for record in records if record.status == "ok"]
    n, mean, std = spread([*scored.values()])
    key, telling = method["key"], beside.telling(records)
    table = published.table_of(telling[0].settings) if telling else usual
    row: dict[str, Any] = {
        **{name: task[name] for name in ("task", "title", "published_title", "majority")},
        "method": method["method"],
        "key": key,
        "records": tuple(records),
        "n": n,
        "values": tuple(scored.values()),
        "seeds": tuple(scored),
        "mean": mean,
        "std": std,
        "missing_seeds": missing,
        "missing": None if missing is None else len(missing),
        "failed": len(records) - len(ok),
        "undefined": len(ok) - n,
        "departures": beside.departures(task, key, records),
    }
    row |= beside.value(row, published.value(key, task["published_title"], table))
    return {**row, **beside.compatibility(row, [row])}


def spread(values: Sequence[float]) -> tuple[int, float | None, float | None]:
    """Number, mean and population deviation of values; None for what has too few of them.

    >>> spread([1.0, 3.0])
    (2, 2.0, 1.0)
    """
    mean = statistics.fmean(values) if values else None
    return len(values), mean, statistics.pstdev(values) if len(values) > 1 else None


def _average(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The AVG of a method, from its results on all tasks."""
    first = parts[0]
    row: dict[str, Any] = {"task": AVERAGE, "title": AVERAGE}
    row |= {"method": first["method"], "key": first["key"]}
    for name in ("mean", "std", "majority"):
        values = [part[name] for part in parts]
        row[name] = None if any(map(pd.isna, values)) else statistics.fmean(values)
    for name in ("missing", "failed", "undefined"):
        row[name] = None if first[name] is None else sum(part[name] for part in parts)
    row |= {"with_value": sum(part["mean"] is not None for part in parts), "tasks": len(parts)}
    row["departures"] = beside.together(part["departures"] for part in parts)
    tables = {part["published_table"] for part in parts} - {None}
    whole = published.are_all_tasks(part["published_title"] for part in parts)
    row["published_title"] = title = AVERAGE if whole else None
    value = published.value(first["key"], title, tables.pop()) if len(tables) == 1 else None
    row |= beside.value(row, value)
    return {**row, **beside.compatibility(row, parts)}


def _finished(rows: Sequence[Mapping[str, Any]], ok: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Results or averages with ranks in each task and the means over the cells of each row."""
    floats = ["mean", "std", "majority", "published_mean", "published_std", "difference"]
    integers = ["missing", "failed", "undefined", "published_table"]
    integers += [name for name in ("n", "with_value", "tasks") if name in rows[0]]
    found = cells.table(rows, [*floats, "t", "df", "p"], integers)
    # Rounded first: two sums of equal real value may differ in their last bit.
    for name, value, ascending in (("rank", "mean", False), ("std_rank", "std", True)):
        values = found[value].round(9).groupby(found["task"])
        found[name] = values.rank(method="min", ascending=ascending).astype("Int64")
    ranked = found.groupby("task")["rank"].transform("count")
    found["best"] = (found["rank"].fillna(0) == 1) & (ranked > 1)
    found["is_average"] = by == ["method"]
    gaps = found["missing"].fillna(0) + found["failed"] + found["undefined"]
    found["complete"] = (gaps == 0).astype(bool)
    means = ok.groupby(by)[[*MEANS]].mean()
    found = found.join(means, on=by)
    found["per_step"] = found["moved_per_step"].notna()
    return found
