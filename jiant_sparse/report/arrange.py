"""From loose records to the summary: which columns and rows there are, and what stands in each."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import published, stochastic
from jiant_sparse.report.collect import Collection
from jiant_sparse.report.summary import (
    Average,
    Group,
    Row,
    Spread,
    Summary,
    Task,
    largest_first,
    smallest_first,
    test_percent,
)
from jiant_sparse.schema.record import Record

Pair = tuple[str, str]
# The methods of the papers, in their order.
KNOWN = tuple(dict.fromkeys([*published.METHODS, *stochastic.METHODS]))


def summarise(collection: Collection) -> Summary:
    """The report's numbers. Tasks and methods stand in the manifest's order; those that it does
    not name follow in the order of the task table and of the papers."""
    records = collection.records
    by_pair: dict[Pair, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.cell.seed):
        by_pair.setdefault((record.cell.task, record.cell.method), []).append(record)
    absent, unplanned = _against_plan(collection)
    tasks, methods = _tasks(collection), _methods(collection)
    usual = _usual_table(records)
    columns = [_column(task, methods, by_pair, absent, usual) for task in tasks]
    lines = [tuple(column[i] for column in columns) for i in range(len(methods))]
    return Summary(
        collection.benchmark,
        collection.directory,
        tuple(tasks),
        tuple(_rows(tasks, methods, lines)),
        records,
        collection.skipped,
        None if absent is None else sum(map(len, absent.values())),
        unplanned,
        collection.lost,
    )


def _against_plan(collection: Collection) -> tuple[dict[Pair, list[int]] | None, int]:
    """The planned seeds without a record, by task and method, and the number of extra records."""
    if collection.manifest is None:
        return None, 0
    planned = {(c.task, c.method, c.seed) for c in collection.manifest.cells}
    present = {(r.cell.task, r.cell.method, r.cell.seed) for r in collection.records}
    absent: dict[Pair, list[int]] = {}
    for task, method, seed in sorted(planned - present):
        absent.setdefault((task, method), []).append(seed)
    return absent, len(present - planned)


def _tasks(collection: Collection) -> list[Task]:
    manifest, records = collection.manifest, collection.records
    likes = _names(records, "task", "like", lambda record: record.cell.task)
    by_task: dict[str, list[Record]] = {}
    for record in records:
        by_task.setdefault(record.cell.task, []).append(record)
    labels = _ordered(
        manifest.tasks if manifest else (),
        {record.cell.task for record in records},
        [*TASKS],
        lambda label: likes.get(label, label),
    )
    tasks = []
    for label in labels:
        like = likes.get(label, label)
        known = TASKS.get(like)
        title = known.title if known and label == like else label
        its = by_task.get(label, [])
        metric = _metric(its) or (known.metric if known else None)
        # A variant is not the paper's task, whatever its rows.
        published_title = known.title if known and label == like else None
        tasks.append(
            Task(label, like if known else None, title, published_title, metric, _majority(its))
        )
    return tasks


def _metric(records: Sequence[Record]) -> str | None:
    names = Counter(record.primary.name for record in records if record.primary)
    return names.most_common(1)[0][0] if names else None


def _majority(records: Sequence[Record]) -> float | None:
    """In percent; None unless all records that know it agree."""
    said = {r.primary.majority for r in records if r.primary and r.primary.majority is not None}
    return 100 * said.pop() if len(said) == 1 else None


def _methods(collection: Collection) -> list[tuple[str, str | None]]:
    """(label, key) of the rows; the key of a method without any record is its label if known."""
    manifest, records = collection.manifest, collection.records
    keys = _names(records, "method", "name", lambda record: record.cell.method)
    labels = _ordered(
        manifest.methods if manifest else (),
        {record.cell.method for record in records},
        KNOWN,
        lambda label: keys.get(label, label),
    )
    return [(label, keys.get(label, label if label in KNOWN else None)) for label in labels]


def _names(
    records: Iterable[Record], part: str, field: str, label: Callable[[Record], str]
) -> dict[str, str]:
    """Label -> what `settings[part][field]` says it is."""
    names: dict[str, str] = {}
    for record in records:
        settings = record.settings.get(part)
        name = settings.get(field) if isinstance(settings, Mapping) else None
        if isinstance(name, str):
            names.setdefault(label(record), name)
    return names


def _ordered(
    planned: Sequence[str],
    present: Iterable[str],
    known: Sequence[str],
    name: Callable[[str], str],
) -> list[str]:
    places = {key: place for place, key in enumerate(known)}
    rest = sorted(
        set(present) - set(planned), key=lambda label: (places.get(name(label), len(known)), label)
    )
    return [*planned, *rest]


def _column(
    task: Task,
    methods: Sequence[tuple[str, str | None]],
    by_pair: Mapping[Pair, list[Record]],
    absent: Mapping[Pair, list[int]] | None,
    usual: int,
) -> list[Group]:
    """One task's groups, ranked against each other. `usual`: the published table beside which
    groups without records stand."""
    scores = []
    for label, _ in methods:
        values = [test_percent(record) for record in by_pair.get((task.label, label), ())]
        scores.append(Spread.of([value for value in values if value is not None]))
    places = largest_first([score.mean for score in scores])
    calm = smallest_first([score.std for score in scores])
    column = []
    for (label, key), score, rank, std_rank in zip(methods, scores, places, calm, strict=True):
        records = by_pair.get((task.label, label), [])
        missing = None if absent is None else tuple(absent.get((task.label, label), ()))
        counted = _telling(records)
        table = published.table_of(counted[0].settings) if counted else usual
        value = published.value(key, task.published_title, table)
        apart = _departures(task, key, records)
        group = Group(task, label, tuple(records), missing, score, rank, std_rank, value, apart)
        column.append(group)
    return column


def _usual_table(records: Sequence[Record]) -> int:
    """The published table whose share of left out data most records have; 1 if none has any."""
    known = [record.settings for record in _telling(records)]
    tables = Counter(published.table_of(one) for one in known if published.has_table(one))
    return max(tables, key=lambda table: (tables[table], -table), default=1)


def _telling(records: Sequence[Record]) -> Sequence[Record]:
    """The records whose settings speak for all: those with a test value; all if none has one."""
    return [record for record in records if test_percent(record) is not None] or records


def _departures(task: Task, key: str | None, records: Sequence[Record]) -> tuple[str, ...] | None:
    """Everything that keeps a group's results from the published ones; None without results."""
    found: dict[str, None] = {}
    results = [record for record in records if test_percent(record) is not None]
    for record in results:
        apart = published.departures(record.settings, key) | published.other_data(record.data)
        found.update({f"{name} is {published.shown(value)}": None for name, value in apart.items()})
        if task.like and record.primary and record.primary.name != TASKS[task.like].metric:
            found[f"metric is {record.primary.name}"] = None
    if len({published.table_of(record.settings) for record in results}) > 1:
        drops = {published.shown(record.settings.get("drop_train")) for record in results}
        found.pop(f"drop_train is {published.shown(None)}", None)
        found[f"drop_train is {' and '.join(sorted(drops))}"] = None
    return tuple(found) if results else None


def _rows(
    tasks: Sequence[Task],
    methods: Sequence[tuple[str, str | None]],
    lines: Sequence[tuple[Group, ...]],
) -> list[Row]:
    averages = [_average(tasks, key, line) for (_, key), line in zip(methods, lines, strict=True)]
    places = largest_first([mean for mean, _, _ in averages])
    calm = smallest_first([std for _, std, _ in averages])
    rows = []
    for (label, key), line, (mean, std, value), rank, std_rank in zip(
        methods, lines, averages, places, calm, strict=True
    ):
        with_value = sum(group.score.mean is not None for group in line)
        average = Average(mean, std, rank, std_rank, with_value, len(tasks), value)
        rows.append(Row(label, key, line, average))
    return rows


def _average(tasks: Sequence[Task], key: str | None, line: Sequence[Group]) -> Any:
    """Mean of means, mean of deviations, and the paper's AVG if these are the paper's tasks."""
    means = [group.score.mean for group in line]
    stds = [group.score.std for group in line]
    tables = {group.published.table for group in line if group.published}
    value = None
    whole = published.are_all_tasks(task.published_title for task in tasks)
    if whole and len(tables) == 1:
        value = published.value(key, published.AVERAGE, tables.pop())
    return (
        None if None in means else Spread.of(means).mean,
        None if None in means or None in stds else Spread.of(stds).mean,
        value,
    )
