"""Result sets side by side: what each is called, and what differs between their runs."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from jiant_sparse.report import notes
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import DASH, printable
from jiant_sparse.report.page import views
from jiant_sparse.report.readings import reading_of
from jiant_sparse.schema.record import Record, flatten
from jiant_sparse.units import counted

# Characters of a label, and of a value.
LONGEST_LABEL, LONGEST = 48, 120
# The values of one setting in one set that are named.
MOST = 4
# Settings that only say which cell it is: the tables show them.
_LABELS = ("seed", "task", "method")


class ResultSet(NamedTuple):
    """A benchmark under a name that no other set of the comparison has."""

    label: str
    frame: Frame


class Difference(NamedTuple):
    """Something that is not the same in all sets, and what it is in each of them, in order."""

    name: str
    values: tuple[str, ...]


def label(frames: Sequence[Frame]) -> tuple[ResultSet, ...]:
    """Name the sets after their benchmarks. Sets of one name are told apart by commit, by device
    or by what differs in their paths, whichever comes first to do so."""
    names = [_short(printable(frame.benchmark)) for frame in frames]
    for name in {name for name in names if names.count(name) > 1}:
        places = [i for i, other in enumerate(names) if other == name]
        suffixes = _suffixes([frames[i] for i in places])
        for i, suffix in zip(places, suffixes, strict=True):
            names[i] = f"{name} ({_short(suffix)})"
    twice = {name for name in names if names.count(name) > 1}
    labels = [f"{name} [{i}]" if name in twice else name for i, name in enumerate(names, 1)]
    return tuple(map(ResultSet, labels, frames))


def _suffixes(frames: Sequence[Frame]) -> list[str]:
    kinds: tuple[Callable[[Record], str | None], ...] = (
        lambda record: record.provenance.commit and record.provenance.commit[:9],
        lambda record: record.provenance.device,
    )
    for kind in kinds:
        values = [{*map(kind, frame.cells["record"])} for frame in frames]
        only = [found.pop() for found in values if len(found) == 1]
        if None not in only and len({*only}) == len(frames):
            return [printable(str(value)) for value in only]
    paths = [frame.directory.resolve().parts for frame in frames]
    start = _shared(paths)
    end = _shared([path[start:][::-1] for path in paths])
    middles = ["/".join(path[start : len(path) - end]) for path in paths]
    shown = middles if all(middles) else [str(frame.directory) for frame in frames]
    return [printable(path) for path in shown]


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """The number of leading parts that all paths have in common."""
    same = [len(set(parts)) == 1 for parts in zip(*paths, strict=False)]
    return same.index(False) if False in same else len(same)


def differences(sets: Sequence[ResultSet]) -> tuple[Difference, ...]:
    """What is not the same in all sets, by the records of their cells. Empty for one set.

    What only one set records is a difference, unless it is about a task or method that another
    set does not have at all.
    """
    told = [_told(item.frame) for item in sets]
    subjects = [{subject for subject, _ in facts} for facts in told]
    found = []
    for subject, name in dict.fromkeys(key for facts in told for key in facts):
        values = [
            facts.get((subject, name), Counter()) if subject in known else None
            for facts, known in zip(told, subjects, strict=True)
        ]
        if len({frozenset(counts) for counts in values if counts is not None}) > 1:
            found.append(Difference(name, tuple(map(_listed, values))))
    return tuple(found)


# What a fact is about (a task, a method, or "" for everything) and its name.
_Key = tuple[str, str]


def _told(frame: Frame) -> dict[_Key, Counter[str]]:
    """The values of each fact in the records, with the number of cells that have each."""
    found: dict[_Key, Counter[str]] = {("", "cells"): Counter([notes.status(frame)])}
    for record in frame.cells.sort_values(["task", "method"], kind="stable")["record"]:
        for key, value in _facts(record):
            found.setdefault(key, Counter())[value] += 1
    return found


def _facts(record: Record) -> Iterator[tuple[_Key, str]]:
    settings, origin = record.settings, record.provenance
    task, method = f"task {record.cell.task}", f"method {record.cell.method}"
    ran = {
        "commit": views.commit(origin.commit, origin.dirty),
        "ran on": "unknown" if origin.device is None else origin.device,
        "threads used": "unknown" if origin.threads is None else origin.threads,
        "pooler": origin.pooler or "never loaded",
        **{f"version of {name}": version for name, version in sorted(origin.versions.items())},
    }
    reading = {f"reading of {record.cell.method}": reading_of(record).word}
    for subject, facts in (
        ("", {name: value for name, value in settings.items() if name not in _LABELS}),
        (method, {**reading, method: settings.get("method")}),
        (task, {task: settings.get("task")}),
        ("", ran),
    ):
        for name, value in flatten(facts).items():
            yield (subject, name), _shown(value)
    for name, digest in sorted(record.inputs.items()):
        if name.startswith("model"):
            yield ("", f"file {name}"), digest[:12]
        else:
            yield (task, f"file {name} of {record.cell.task}"), digest[:12]


def _listed(values: Counter[str] | None) -> str:
    """The values of a fact, the most frequent first, with their counts if there are several values.

    values: None, shown as a dash, if the set does not have what the fact is about.
    """
    if values is None:
        return DASH
    if not values:
        return "not recorded"
    order = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    if len(order) == 1:
        return _short(order[0][0], LONGEST)
    shown = [f"{_short(value, LONGEST)} ({counted(n, 'cell')})" for value, n in order[:MOST]]
    more = [f"and {len(order) - MOST} more"] if len(order) > MOST else []
    return ", ".join([*shown, *more])


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return printable(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _short(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
