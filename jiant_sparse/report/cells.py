"""Tasks, methods and cells of a benchmark as frames; `frame` says which columns they have."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import published
from jiant_sparse.report.collect import Collection
from jiant_sparse.schema.record import Cost, Params, Primary, Record

COUNTS = tuple(Params.model_fields)
COSTS = tuple(Cost.model_fields)
SHARES = ("tuned", "drawn", "selected", "changed")
# The numbers of a cell whose means stand in the results.
MEANS = COUNTS + tuple(f"{share}_percent" for share in SHARES) + COSTS
MEANS += ("stop_seconds", "best_seconds")
# The methods of the papers, in their order: key -> title.
KNOWN = published.METHODS | published.STOCHASTIC_METHODS


def table(
    rows: Sequence[Mapping[str, Any]], floats: Iterable[str] = (), integers: Iterable[str] = ()
) -> pd.DataFrame:
    """Rows as a frame: floats with NaN, integers with NA, all else as it is, None included."""
    types = dict.fromkeys(floats, "float64") | dict.fromkeys(integers, "Int64")
    return pd.DataFrame(rows, dtype=object).astype(types)


def tasks(collection: Collection) -> pd.DataFrame:
    """A row for each task."""
    likes = _names(collection, "task", "like")
    planned = collection.manifest.tasks if collection.manifest else []
    primaries: dict[str, list[Primary]] = {record.cell.task: [] for record in collection.records}
    for record in collection.records:
        primaries[record.cell.task] += [record.primary] if record.primary else []
    rows = []
    for label in _ordered(planned, {*primaries}, [*TASKS], likes):
        like = likes.get(label, label)
        known = TASKS.get(like)
        # A variant is not the paper's task, whatever its rows.
        published_title = known.title if known and label == like else None
        metrics = Counter(primary.name for primary in primaries.get(label, []))
        majorities = {primary.majority for primary in primaries.get(label, [])} - {None}
        usual = metrics.most_common(1)[0][0] if metrics else known.metric if known else None
        # Records that disagree tell nothing.
        majority = majorities.pop() if len(majorities) == 1 else None
        titles = {"title": published_title or label, "published_title": published_title}
        row = {"task": label, "like": like if known else None, **titles}
        rows.append({**row, "metric": usual, "majority": in_percent(majority)})
    return table(rows, ["majority"])


def methods(collection: Collection) -> pd.DataFrame:
    """A row for each method; a method without records has its label as its key, if known."""
    keys = _names(collection, "method", "name")
    planned = collection.manifest.methods if collection.manifest else []
    present = {record.cell.method for record in collection.records}
    rows = []
    for label in _ordered(planned, present, [*KNOWN], keys):
        key = keys.get(label, label if label in KNOWN else None)
        rows.append({"method": label, "key": key, "title": KNOWN.get(key or "", label)})
    return table(rows)


def _names(collection: Collection, part: str, field: str) -> dict[str, str]:
    """The text in `settings[part][field]` by the label of that part; the first record decides."""
    return {
        getattr(record.cell, part): name
        for record in reversed(collection.records)
        if (name := setting(record, part, field)) is not None
    }


def setting(record: Record, part: str, field: str) -> str | None:
    """The text in `settings[part][field]`; None if there is none."""
    settings = record.settings.get(part)
    value = settings.get(field) if isinstance(settings, Mapping) else None
    return value if isinstance(value, str) else None


def _ordered(
    planned: Sequence[str], present: set[str], known: Sequence[str], names: Mapping[str, str]
) -> list[str]:
    """The planned labels, then the other present ones by the place of their name in `known`."""
    places = {name: place for place, name in enumerate(known)}
    rest = present - set(planned)
    place = {label: places.get(names.get(label, label), len(known)) for label in rest}
    return [*planned, *sorted(rest, key=lambda label: (place[label], label))]


def cells(collection: Collection, tasks: pd.DataFrame, methods: pd.DataFrame) -> pd.DataFrame:
    """A row for each record, by task, method and seed."""
    keys = dict(zip(methods["method"], methods["key"], strict=True))
    places = [{label: i for i, label in enumerate(part)} for part in (tasks["task"], keys)]
    records = sorted(
        collection.records,
        key=lambda r: (places[0][r.cell.task], places[1][r.cell.method], r.cell.seed),
    )
    rows = [{"key": keys[record.cell.method], **_cell(record)} for record in records]
    found = table(rows, ["dev", "test", "train", *MEANS], ["best_step", "steps"])
    return found.astype({"chosen_on_test": bool})


def _cell(record: Record) -> dict[str, Any]:
    primary, params, cost = record.primary, record.params, record.cost
    train = record.metrics.get("train", {}).get(primary.name) if primary else None
    counts = {name: getattr(params, name, None) for name in COUNTS}
    shares = {f"{name}_percent": _share(params, name) for name in SHARES}
    training, best, steps = cost.train_seconds, record.best_step, record.steps
    stop = to_best = None
    if training is not None and cost.select_seconds is not None:
        stop = cost.select_seconds + training
        if best is not None and steps:
            to_best = cost.select_seconds + training * best / steps
    return {
        "task": record.cell.task,
        "method": record.cell.method,
        "seed": record.cell.seed,
        "status": record.status,
        "error": record.error,
        "metric": primary.name if primary else None,
        "dev": in_percent(primary.dev if primary else None),
        "test": test_percent(record),
        "train": in_percent(train),
        "chosen_on_test": record.settings.get("split") == published.STOCHASTIC_SPLIT,
        **counts,
        **shares,
        **dict(cost),
        "stop_seconds": stop,
        "best_seconds": to_best,
        "best_step": best,
        "steps": steps,
        "device": record.provenance.device,
        "record": record,
    }


def in_percent(fraction: float | None) -> float | None:
    """A fraction in percent; None if it is unknown."""
    return None if fraction is None else 100 * fraction


def _share(params: Params | None, count: str) -> float | None:
    number = getattr(params, count, None)
    if params is None or not params.eligible or number is None:
        return None
    return 100 * number / params.eligible


def test_percent(record: Record) -> float | None:
    """The primary test metric of a cell that ended well, in percent."""
    if record.status != "ok" or record.primary is None:
        return None
    return in_percent(record.primary.test)
