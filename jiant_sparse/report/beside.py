"""The published value beside a result: what keeps them apart, and Welch's test where nothing does.

The test is two-sided at LEVEL; its p is not corrected for the number of results in a report.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
    if not results:
        return None
    expected = TASKS[task["like"]].metric if task["like"] else None
    found = []
    for record in results:
        apart = published.departures(record.settings, key) | published.other_data(record.data)
        if expected and record.primary and record.primary.name != expected:
            apart["metric"] = record.primary.name
        found.append({name: (published.shown(value),) for name, value in apart.items()})
    every = together(found)
    if len({published.table_of(record.settings) for record in results}) > 1:
        drops = {published.shown(record.settings.get("drop_train")) for record in results}
        every.pop("drop_train", None)
        every["drop_train"] = (" and ".join(sorted(drops)),)
    return every


def together(
    departures: Iterable[Mapping[str, tuple[str, ...]] | None],
) -> dict[str, tuple[str, ...]]:
    """All settings that depart in any of these, each value once."""
    found: dict[str, dict[str, None]] = {}
    for one in departures:
        for name, values in (one or {}).items():
            found.setdefault(name, {}).update(dict.fromkeys(values))
    return {name: tuple(values) for name, values in found.items()}


def value(row: Mapping[str, Any], value: Value | None) -> dict[str, Any]:
    if value is None:
        return dict.fromkeys(("published_mean", "published_std", "published_table", "difference"))
    return {
        "published_mean": value.mean,
        "published_std": value.std,
        "published_table": value.table,
        "difference": None if row["mean"] is None else row["mean"] - value.mean,
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
