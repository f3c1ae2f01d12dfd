"""The published value beside a result: what keeps them apart, and Welch's test where nothing does.

The test is two-sided at LEVEL; its p is not corrected for the number of results in a report.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import published
from jiant_sparse.report.cells import test_percent
from jiant_sparse.report.published import RUNS, Value
from jiant_sparse.report.statistics import LEVEL, MINIMUM_RUNS, Sample, welch_contrast
from jiant_sparse.schema.record import Record


def usual_table(records: Sequence[Record]) -> int:
    """The published table whose share of left out data most records have; 1 if none has any."""
    known = [record.settings for record in telling(records)]
    tables = Counter(published.table_of(one) for one in known if published.has_table(one))
    return max(tables, key=lambda table: (tables[table], -table), default=1)


def telling(records: Sequence[Record]) -> Sequence[Record]:
    """The records whose settings speak for all: those with a test value; all if none has one."""
    return [record for record in records if test_percent(record) is not None] or records


def departures(
    task: Mapping[str, Any], key: str | None, records: Sequence[Record]
) -> dict[str, tuple[str, ...]] | None:
    """What keeps results from the published ones, each setting with all its values as text."""
    results = [record for record in records if test_percent(record) is not None]
    found: dict[str, dict[str, None]] = {}
    for record in results:
        apart = published.departures(record.settings, key) | published.other_data(record.data)
        expected = TASKS[task["like"]].metric if task["like"] else None
        if expected and record.primary and record.primary.name != expected:
            apart["metric"] = record.primary.name
        for name, value in apart.items():
            found.setdefault(name, {})[published.shown(value)] = None
    if len({published.table_of(record.settings) for record in results}) > 1:
        drops = {published.shown(record.settings.get("drop_train")) for record in results}
        found.pop("drop_train", None)
        found["drop_train"] = {" and ".join(sorted(drops)): None}
    return {name: tuple(values) for name, values in found.items()} if results else None


def value(row: Mapping[str, Any], value: Value | None) -> dict[str, Any]:
    known = value is not None and row["mean"] is not None
    return {
        "published_mean": value.mean if value else None,
        "published_std": value.std if value else None,
        "published_table": value.table if value else None,
        "difference": row["mean"] - value.mean if value and known else None,
    }


def compatibility(row: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether the mean of `row`, over the tasks of `parts`, could be the published one.

    The variance of a mean of task means is the sum of theirs over the square of their number.
    """
    nothing = {"word": None, "t": None, "df": None, "p": None}
    if row["difference"] is None:
        return nothing
    if row["departures"]:
        return nothing | {"word": "not comparable"}
    if any(part["n"] < MINIMUM_RUNS for part in parts):
        return nothing | {"word": "too few runs"}
    share, samples = 1 / len(parts), []
    for part in parts:
        theirs = Sample.published(part["published_mean"], part["published_std"], RUNS)
        samples += [(share, Sample.of(part["values"])), (-share, theirs)]
    test = welch_contrast(samples)
    if test is None:
        return nothing | {"word": "no spread"}
    word = "compatible" if test.p >= LEVEL else "higher" if test.t > 0 else "lower"
    return {"word": word, "t": test.t, "df": test.df, "p": test.p}
