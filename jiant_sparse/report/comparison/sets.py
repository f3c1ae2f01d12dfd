"""Several result sets side by side: what each is called, and what differs between their runs."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jiant_sparse.report import words
from jiant_sparse.report.numbers import DASH, printable
from jiant_sparse.report.page import views
from jiant_sparse.report.readings import reading_of
from jiant_sparse.report.summary import Summary
from jiant_sparse.schema.record import Record

LONGEST_LABEL = 48
# Values of one thing in one set that are named, and the length of each.
MOST, LONGEST = 4, 120
# Labels, not settings: what a set holds is shown by the tables.
_LABELS = ("seed", "task", "method")


@dataclass(frozen=True)
class Set:
    """A benchmark under a name that no other set of the comparison has."""

    label: str
    summary: Summary


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all sets, and what it is in each, in their order."""

    name: str
    values: tuple[str, ...]


def label(summaries: Sequence[Summary]) -> tuple[Set, ...]:
    """The sets under the names of their benchmarks; those of one name by commit, by device or by
    what differs in their paths, whichever comes first to tell them all apart."""
    names = [_short(printable(summary.benchmark)) for summary in summaries]
    for name in {name for name in names if names.count(name) > 1}:
        places = [i for i, other in enumerate(names) if other == name]
        suffixes = _apart([summaries[i] for i in places])
        for i, suffix in zip(places, suffixes, strict=True):
            names[i] = f"{name} ({_short(suffix)})"
    twice = {name for name in names if names.count(name) > 1}
    labels = [f"{name} [{i}]" if name in twice else name for i, name in enumerate(names, 1)]
    return tuple(Set(*pair) for pair in zip(labels, summaries, strict=True))


def _apart(summaries: Sequence[Summary]) -> list[str]:
    kinds: tuple[Callable[[Record], str | None], ...] = (
        lambda record: record.provenance.commit and record.provenance.commit[:9],
        lambda record: record.provenance.device,
    )
    for kind in kinds:
        said = [{kind(record) for record in summary.records} for summary in summaries]
        only = [values.copy().pop() for values in said if len(values) == 1]
        if None not in only and len(set(only)) == len(summaries):
            return [printable(str(value)) for value in only]
    paths = [summary.directory.resolve().parts for summary in summaries]
    start = _shared(paths)
    end = _shared([path[start:][::-1] for path in paths])
    middles = ["/".join(path[start : len(path) - end]) for path in paths]
    shown = middles if all(middles) else [str(summary.directory) for summary in summaries]
    return [printable(path) for path in shown]


def _shared(paths: Sequence[Sequence[str]]) -> int:
    """The number of leading parts that all paths have in common."""
    same = [len(set(parts)) == 1 for parts in zip(*paths, strict=False)]
    return same.index(False) if False in same else len(same)


def differences(sets: Sequence[Set]) -> tuple[Difference, ...]:
    """What is not the same in all sets, by the records of their cells. Empty for one set.

    What only one set records is a difference, unless it is of a task or method that another does
    not have at all.
    """
    if len(sets) < 2:
        return ()
    told = [_told(item.summary) for item in sets]
    subjects = [{subject for subject, _ in facts} for facts in told]
    found = []
    for key in dict.fromkeys(key for facts in told for key in facts):
        row = [
            facts.get(key, Counter()) if key[0] in known else None
            for facts, known in zip(told, subjects, strict=True)
        ]
        if len({frozenset(values) for values in row if values is not None}) > 1:
            found.append(Difference(key[1], tuple(map(_listed, row))))
    return tuple(found)


# What a fact is about, a task or a method or "" for all, and its name.
_Key = tuple[str, str]


def _told(summary: Summary) -> dict[_Key, Counter[str]]:
    """The values of each fact in the records, with how many have each."""
    found: dict[_Key, Counter[str]] = {("", "cells"): Counter([words.status(summary)])}
    for record in summary.records:
        for key, value in _facts(record):
            found.setdefault(key, Counter())[value] += 1
    return found


def _facts(record: Record) -> Iterator[tuple[_Key, str]]:
    task, method = f"task {record.cell.task}", f"method {record.cell.method}"
    for name, value in record.settings.items():
        if name not in _LABELS:
            for path, leaf in _flat(name, value):
                yield ("", path), _shown(leaf, "none")
    yield (method, f"reading of {record.cell.method}"), reading_of(record).word
    for subject, part in ((method, "method"), (task, "task")):
        for path, leaf in _flat(subject, record.settings.get(part)):
            yield (subject, path), _shown(leaf, "none")
    origin = record.provenance
    yield ("", "commit"), views.commit(origin.commit, origin.dirty)
    for name, value in (("ran on", origin.device), ("threads used", origin.threads)):
        yield ("", name), _shown(value, "unknown")
    yield ("", "pooler"), origin.pooler or "never loaded"
    for package, version in sorted(origin.versions.items()):
        yield ("", f"version of {package}"), version
    for name, digest in sorted(record.inputs.items()):
        of_model = name.startswith("model")
        where = "" if of_model else f" of {record.cell.task}"
        yield ("" if of_model else task, f"file {name}{where}"), digest[:12]


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in a tree of mappings."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        yield from _flat(f"{name}.{key}", item)


def _listed(values: Counter[str] | None) -> str:
    """The values, the most frequent first, with their counts if there are several; a dash where
    there is nothing to record."""
    if values is None:
        return DASH
    if not values:
        return "not recorded"
    order = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    if len(order) == 1:
        return _short(order[0][0], LONGEST)
    shown = [
        f"{_short(value, LONGEST)} ({number} {'cell' if number == 1 else 'cells'})"
        for value, number in order[:MOST]
    ]
    more = [f"and {len(order) - MOST} more"] if len(order) > MOST else []
    return ", ".join([*shown, *more])


def _shown(value: Any, absent: str) -> str:
    if value is None:
        return absent
    return printable(value if isinstance(value, str) else json.dumps(value, sort_keys=True))


def _short(text: str, longest: int = LONGEST_LABEL) -> str:
    return text if len(text) <= longest else f"{text[: longest - 3]}..."
