"""What the page shows of tasks, groups and cells: the summary's records, arranged for reading."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from jiant_sparse.report.numbers import count, fixed, seconds, size
from jiant_sparse.report.page import drawing
from jiant_sparse.report.page.drawing import Scale
from jiant_sparse.report.summary import Group, Summary, Task, test_percent
from jiant_sparse.schema.record import Machine, Record

# Above this, the histories of single cells would make the page too heavy to open.
MOST_HISTORIES = 2000

# (name, text) pairs under a heading.
Facts = list[tuple[str, str]]


@dataclass(frozen=True)
class CellView:
    """One cell on demand. `parts`: headings and the facts below them."""

    place: str
    record: Record
    spark: Markup
    plot: Markup
    parts: list[tuple[str, Facts]]


@dataclass(frozen=True)
class GroupView:
    """One method on one task: `shared` is what all its cells have in common."""

    place: str
    group: Group
    strip: Markup
    shared: list[tuple[str, Facts]]
    cells: tuple[CellView, ...]


@dataclass(frozen=True)
class TaskView:
    """One task's groups, drawn on common scales, in percent (test) and fractions (dev)."""

    place: str
    task: Task
    groups: tuple[GroupView, ...]
    test_span: Scale | None


def tasks(summary: Summary) -> list[TaskView]:
    """Every task of the benchmark; histories are left out of a benchmark too large for them."""
    histories = len(summary.records) <= MOST_HISTORIES
    return [_task(summary, i, histories=histories) for i in range(len(summary.tasks))]


def place(*labels: str) -> str:
    """Where a part of the page is: the path of its directory, fit for an id and an address."""
    return "/".join(quote(label, safe="") for label in labels)


def _task(summary: Summary, index: int, *, histories: bool) -> TaskView:
    task = summary.tasks[index]
    groups = [row.groups[index] for row in summary.rows]
    records = [record for group in groups for record in group.records]
    test_span = drawing.scale([test_percent(record) for record in records])
    test_span = drawing.stretched(test_span, task.majority)
    dev_span = None
    if histories:
        dev_span = drawing.scale([value for record in records for _, value in record.history])
    views = tuple(_group(group, test_span=test_span, dev_span=dev_span) for group in groups)
    # With the slash, no task can be named as one of the page's own sections is.
    return TaskView(place(task.label) + "/", task, views, test_span)


def _group(group: Group, *, test_span: Scale | None, dev_span: Scale | None) -> GroupView:
    records = group.records
    kinds = {
        "Settings": [_flat(_without_seed(record.settings)) for record in records],
        "SHA-256 of the files": [_flat(record.inputs) for record in records],
        "Versions": [_flat(record.provenance.versions) for record in records],
    }
    shared: list[tuple[str, Facts]] = []
    own: list[list[tuple[str, Facts]]] = [[] for _ in records]
    for title, mappings in kinds.items():
        common, rests = separate(mappings)
        shared += [(title, common)] if common else []
        for parts, rest in zip(own, rests, strict=True):
            parts += [(f"{title} of this cell", rest)] if rest else []
    cells = tuple(
        _cell(record, own=parts, span=dev_span) for record, parts in zip(records, own, strict=True)
    )
    drawn = drawing.strip(
        group.values, group.score.mean, span=test_span, majority=group.task.majority
    )
    return GroupView(place(group.task.label, group.method) + "/", group, drawn, shared, cells)


def _cell(record: Record, *, own: list[tuple[str, Facts]], span: Scale | None) -> CellView:
    cell = record.cell
    parts = [
        ("Scores, %", scores(record)),
        ("Weights", _weights(record)),
        ("Cost", _costs(record)),
        ("Run", _run(record)),
        *own,
    ]
    return CellView(
        place(cell.task, cell.method, f"seed-{cell.seed}"),
        record,
        drawing.sparkline(record.history, record.best_step, span=span),
        drawing.plot(record.history, record.best_step, span=span),
        [(title, facts) for title, facts in parts if facts],
    )


def scores(record: Record) -> Facts:
    """Every metric on test, dev and train, in percent; the primary one first."""
    primary = record.primary.name if record.primary else None
    phases = [(phase, record.metrics.get(phase, {})) for phase in ("test", "dev", "train")]
    names = dict.fromkeys(name for _, metrics in phases for name in metrics)
    ordered = sorted(names, key=lambda name: name != primary)
    return [
        (f"{phase} {name}", fixed(None if value is None else 100 * value, 2))
        for name in ordered
        for phase, metrics in phases
        if (value := metrics.get(name)) is not None or name in metrics
    ]


def _weights(record: Record) -> Facts:
    if record.params is None:
        return []
    names = ("eligible", "selected", "added", "changed", "head", "trainable")
    facts = [(name, count(getattr(record.params, name))) for name in names]
    moved = record.params.moved_per_step
    return facts if moved is None else [*facts, ("moved per step", count(moved))]


def _costs(record: Record) -> Facts:
    cost = record.cost
    facts = [
        ("choosing weights", cost.select_seconds, seconds),
        ("training", cost.train_seconds, seconds),
        ("scoring", cost.eval_seconds, seconds),
        ("median step", cost.step_milliseconds_median, lambda value: f"{value:.1f} ms"),
        ("peak memory", cost.peak_memory_bytes, size),
        ("delta on disk", cost.delta_bytes, size),
    ]
    return [(name, shown(value)) for name, value, shown in facts if value is not None]


def _run(record: Record) -> Facts:
    origin = record.provenance
    stop = "" if record.stopped_by is None else f", stopped by {record.stopped_by}"
    facts = [] if record.steps is None else [("steps", f"{count(record.steps)}{stop}")]
    facts += [
        ("from", origin.started),
        ("to", origin.finished),
        ("commit", commit(origin.commit, origin.dirty)),
        ("device", device(origin)),
        ("pooler", origin.pooler or "never loaded"),
        ("examples left out", dropped(origin.dropped_examples)),
        ("nondeterministic", ", ".join(origin.nondeterministic) or "none"),
    ]
    for number, machine in enumerate(origin.earlier, 1):
        facts.append((f"earlier machine {number}", _machine(machine)))
    facts.append(("settings hash", record.settings_hash))
    return facts


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    said = f"{device(machine)}; commit {commit(machine.commit, machine.dirty)}"
    return f"{said}; {versions}" if versions else said


def device(machine: Machine) -> str:
    """What a run ran on, with its threads."""
    threads = "" if machine.threads is None else f", {machine.threads} threads"
    return f"{machine.device or 'unknown'}{threads.replace(' 1 threads', ' 1 thread')}"


def commit(name: str | None, dirty: bool | None) -> str:
    """A commit's first characters, and whether the tree was as committed."""
    if name is None:
        return "unknown"
    state = {True: " with uncommitted changes", False: "", None: ", state unknown"}[dirty]
    return f"{name[:12]}{state}"


def dropped(examples: Mapping[str, int]) -> str:
    """The examples that did not fit, by phase."""
    said = ", ".join(f"{number} of {phase}" for phase, number in examples.items() if number)
    return said or "none"


def separate(mappings: Sequence[Mapping[tuple[str, ...], Any]]) -> tuple[Facts, list[Facts]]:
    """What all mappings hold alike, and what each holds beside that; a lone one shares all."""
    # As text: to Python, 1, 1.0 and True are equal.
    texts = [{key: repr(value) for key, value in mapping.items()} for mapping in mappings]
    first = texts[0] if texts else {}
    alike = {key for key, text in first.items() if all(t.get(key) == text for t in texts)}
    common = [
        _fact(key, value) for key, value in (mappings[0] if texts else {}).items() if key in alike
    ]
    rests = [[_fact(k, v) for k, v in mapping.items() if k not in alike] for mapping in mappings]
    return common, rests


def _fact(key: tuple[str, ...], value: Any) -> tuple[str, str]:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "none" if value is None else text
    return ".".join(key), text


def _flat(mapping: Mapping[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Nested mappings as one, its keys the paths."""
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, (*above, key)))
        else:
            flat[*above, key] = value
    return flat


def _without_seed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "seed"}


def mean_cost(records: Iterable[Record], name: str) -> float | None:
    """The mean of one cost over the cells that measured it."""
    known = [cost for r in records if (cost := getattr(r.cost, name)) is not None]
    return sum(known) / len(known) if known else None


def phase_percent(record: Record, phase: str) -> float | None:
    """The primary metric on dev, test or train, in percent."""
    if record.primary is None:
        return None
    values = {"dev": record.primary.dev, "test": record.primary.test}
    value = values.get(phase, record.metrics.get(phase, {}).get(record.primary.name))
    return None if value is None else 100 * value
