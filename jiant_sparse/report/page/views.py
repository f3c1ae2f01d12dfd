"""What the page shows of tasks, groups of cells and cells: data for its templates."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from jiant_sparse.report import notes
from jiant_sparse.report.cells import in_percent
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import DASH, count, fixed, seconds, size
from jiant_sparse.report.page.plots import Span, span
from jiant_sparse.report.readings import reading_of, titles
from jiant_sparse.schema.record import Machine, Record, flatten
from jiant_sparse.units import counted

# Packages that move numbers most; the head of the page names these alone.
MAIN_PACKAGES = ("jiant-sparse", "torch", "transformers", "jiant")
# Values of one fact that the head of the page names.
MOST_VALUES = 3

# (name, text) pairs.
Facts = list[tuple[str, str]]
# Facts below their headings.
Parts = list[tuple[str, Facts]]


class TaskView(NamedTuple):
    """A task: its row of the frame, and for each method the row of its result and of its cells.

    Scores of all methods are drawn on the scale `tests`, histories of dev scores on `devs`.
    """

    task: Any
    results: list[tuple[Any, list[Any]]]
    tests: Span | None
    devs: Span | None


def tasks(frame: Frame) -> list[TaskView]:
    """A view for each task of the benchmark."""
    cells: dict[tuple[str, str], list[Any]] = {}
    for cell in frame.cells.itertuples():
        cells.setdefault((cell.task, cell.method), []).append(cell)
    views = []
    for task in frame.tasks.itertuples():
        rows = frame.results[frame.results["task"] == task.task].itertuples()
        results = [(row, cells.get((row.task, row.method), [])) for row in rows]
        its = [cell for _, found in results for cell in found]
        devs = (in_percent(value) for cell in its for _, value in cell.record.history)
        tests = span((cell.test for cell in its), task.majority)
        views.append(TaskView(task, results, tests, span(devs)))
    return views


def place(*labels: str) -> str:
    """Where a part of the page is: the path of its directory, fit for an id and an address.

    >>> place("rte", "a/b", "seed-0")
    'rte/a%2Fb/seed-0'
    """
    return "/".join(quote(label, safe="") for label in labels)


def separate(records: Sequence[Record]) -> tuple[Parts, list[Parts]]:
    """The settings, file digests and versions that all records share, and what each has beside."""
    kinds = {
        "Settings": [
            flatten({key: value for key, value in record.settings.items() if key != "seed"})
            for record in records
        ],
        "SHA-256 of the files": [record.inputs for record in records],
        "Versions": [record.provenance.versions for record in records],
    }
    shared: Parts = []
    own: list[Parts] = [[] for _ in records]
    for title, mappings in kinds.items():
        # As text: to Python, 1, 1.0 and True are equal.
        facts = [{name: _text(value) for name, value in one.items()} for one in mappings]
        common = set.intersection(*(set(one.items()) for one in facts)) if facts else set()
        if common:
            shared.append((title, [fact for fact in facts[0].items() if fact in common]))
        for parts, one in zip(own, facts, strict=True):
            if rest := [fact for fact in one.items() if fact not in common]:
                parts.append((f"{title} of this cell", rest))
    return shared, own


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell_facts(record: Record) -> Parts:
    """What is known of one cell, beside what `separate` tells."""
    parts = {
        "Scores, %": _scores(record),
        "Weights": _weights(record),
        "Cost": _costs(record),
        "Run": _run(record),
    }
    return [(title, facts) for title, facts in parts.items() if facts]


def _scores(record: Record) -> Facts:
    """Every metric on test, dev and train, in percent; the primary metric first."""
    primary = record.primary.name if record.primary else None
    phases = [phase for phase in ("test", "dev", "train") if phase in record.metrics]
    names = dict.fromkeys(name for phase in phases for name in record.metrics[phase])
    return [
        (f"{phase} {name}", fixed(in_percent(record.metrics[phase][name]), 2))
        for name in sorted(names, key=lambda name: name != primary)
        for phase in phases
        if name in record.metrics[phase]
    ]


def _weights(record: Record) -> Facts:
    names = ("eligible", "selected", "added", "changed", "head", "trainable", "moved_per_step")
    counts = {name.replace("_", " "): getattr(record.params, name, None) for name in names}
    return [(name, count(number)) for name, number in counts.items() if number is not None]


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
    return [
        *([] if record.steps is None else [("steps", f"{count(record.steps)}{stop}")]),
        ("from", origin.started),
        ("to", origin.finished),
        ("commit", commit(origin.commit, origin.dirty)),
        ("device", _device(origin)),
        ("pooler", origin.pooler or "never loaded"),
        ("examples left out", _dropped(record)),
        ("nondeterministic", ", ".join(origin.nondeterministic) or "none"),
        *((f"earlier machine {n}", _machine(one)) for n, one in enumerate(origin.earlier, 1)),
        ("settings hash", record.settings_hash),
    ]


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    said = f"{_device(machine)}; commit {commit(machine.commit, machine.dirty)}"
    return f"{said}; {versions}" if versions else said


def _device(machine: Machine) -> str:
    """What a run ran on, with its threads."""
    threads = "" if machine.threads is None else f", {counted(machine.threads, 'thread')}"
    return f"{machine.device or 'unknown'}{threads}"


def commit(name: str | None, dirty: bool | None) -> str:
    """A commit's first characters, and whether the tree was as committed.

    >>> commit("0123456789abcdef", True)
    '0123456789ab with uncommitted changes'
    """
    if name is None:
        return "unknown"
    state = {True: " with uncommitted changes", False: "", None: ", state unknown"}[dirty]
    return f"{name[:12]}{state}"


def _dropped(record: Record) -> str:
    """The examples that did not fit, by phase."""
    examples = record.provenance.dropped_examples.items()
    return ", ".join(f"{number} of {phase}" for phase, number in examples if number) or "none"


def head(frame: Frame) -> Facts:
    """The head of the page: number of runs, seeds, model, device, commit, versions and reading."""
    facts = origins(frame)
    present = [name for name in MAIN_PACKAGES if name in facts]
    versions = ", ".join(f"{name} {_short(facts[name])}" for name in present)
    words = [reading_of(record).word for record in frame.cells["record"]]
    # Nothing around the word says which paper is meant.
    readings = _counted("Fu et al. 2023" if word == "paper" else word for word in words)
    return [
        ("n", _runs(frame)),
        ("seeds", notes.seeds_of(sorted(set(frame.cells["seed"]))).partition(" ")[2]),
        *((name, _short(facts[name])) for name in ("model", "split", "device", "commit")),
        ("versions", versions or "unknown"),
        ("reading", _short(readings)),
    ]


def origins(frame: Frame) -> dict[str, list[str]]:
    """The whole provenance; each fact with all its values and how many cells have each."""
    records: list[Record] = [*frame.cells["record"]]
    packages = sorted({name for record in records for name in record.provenance.versions})
    facts: dict[str, list[str]] = {}
    for record in records:
        origin = record.provenance
        moves = len(origin.earlier)
        its = {
            "model": record.settings.get("model"),
            "split": record.settings.get("split"),
            "device": origin.device,
            "threads": origin.threads,
            "pooler": origin.pooler or "never loaded",
            "commit": commit(origin.commit, origin.dirty),
            **{name: origin.versions.get(name) for name in packages},
            "examples left out": _dropped(record),
            "nondeterministic": ", ".join(origin.nondeterministic) or "none",
            "moved on the way": counted(moves, "time") if moves else "never",
        }
        for name, value in its.items():
            facts.setdefault(name, []).append("unknown" if value is None else str(value))
    told = {name: _counted(values) for name, values in facts.items()}
    return told | {"run": [_period(records)]}


def readings(frame: Frame) -> list[tuple[str, list[str], list[str]]]:
    """For each method with a cell: label and title, readings, and the fields that say so."""
    found = []
    by_method = frame.cells.groupby("method")["record"]
    for label in filter(by_method.groups.__contains__, frame.methods["method"]):
        records = by_method.get_group(label)
        its = [reading_of(record) for record in records]
        differences = dict.fromkeys(one for reading in its for one in reading.differences)
        name = ": ".join([label, *titles(records)])
        found.append((name, _counted(reading.word for reading in its), [*differences]))
    return found


def _runs(frame: Frame) -> str:
    usual = notes.usual_n(frame)
    if usual is None:
        return "0: no cell has a test value"
    apart = int((frame.results["n"] != usual).sum())
    each = f"{usual} for each method and task"
    return f"{each}, but for {apart} of {len(frame.results)}" if apart else each


def _short(values: Sequence[str]) -> str:
    more = f"; and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
    return "; ".join(values[:MOST_VALUES]) + more


def _counted(values: Iterable[str]) -> list[str]:
    """Each value, with the number of its cells if there are several."""
    counts = Counter(values).most_common()
    if len(counts) == 1:
        return [counts[0][0]]
    return [f"{value} ({counted(number, 'cell')})" for value, number in counts]


def _period(records: Iterable[Record]) -> str:
    """When the first run started and the last one ended; a time that is none is left out."""
    times = pd.DataFrame([(r.provenance.started, r.provenance.finished) for r in records])
    known = times.apply(pd.to_datetime, utc=True, errors="coerce", format="ISO8601")
    first, last = known[0].min(), known[1].max()
    if pd.isna(first) or pd.isna(last):
        return DASH
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
