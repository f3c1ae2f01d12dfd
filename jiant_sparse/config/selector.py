"""Who chooses among the values that a selection benchmark has swept: its records, or nobody yet."""

import math
import shlex
import statistics
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from jiant_sparse.config.sweep import Variant, text
from jiant_sparse.errors import InputError, NotFinite, suggest
from jiant_sparse.schema import record
from jiant_sparse.schema.cell import Benchmark, Cell
from jiant_sparse.schema.record import Record


@dataclass(frozen=True)
class Reference:
    """A value to be chosen: `key` of the method block `label`, which was `origin` in the file."""

    label: str
    origin: str
    key: str

    @property
    def place(self) -> str:
        return f"methods.{self.origin}.{self.key}"


@dataclass(frozen=True)
class Selection:
    """A benchmark that chooses. path: as people write it. variants: of each method label."""

    path: Path
    benchmark: Benchmark
    variants: Mapping[str, Variant]

    def candidates(self, reference: Reference) -> dict[str, Any]:
        """Swept label -> value of the reference's key, in the order of the file.

        Raises InputError if the file has no such label or does not sweep the key.
        """
        origins = dict.fromkeys(variant.origin for variant in self.variants.values())
        if reference.origin not in origins:
            hint = suggest(reference.origin, origins)
            raise InputError(f"{self.path} has no method {reference.origin!r}; {hint}")
        swept = {k: v.values for k, v in self.variants.items() if v.origin == reference.origin}
        found = {label: v[reference.key] for label, v in swept.items() if reference.key in v}
        if not found:
            keys = dict.fromkeys(key for values in swept.values() for key in values)
            hint = suggest(reference.key, keys) if keys else "it has no sweep"
            what = f"methods.{reference.origin} of {self.path} does not sweep {reference.key}"
            raise InputError(f"{what}; {hint}")
        return found


@dataclass(frozen=True)
class Choice:
    """task -> value, what to tell people, and the records it rests on."""

    values: Mapping[str, Any]
    lines: tuple[str, ...] = ()
    evidence: tuple[Record, ...] = ()


class Judge(Protocol):
    """Chooses a reference's value for each of the tasks; raises InputError if it cannot."""

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Choice: ...


@dataclass
class Position:
    """Looks at no record: the candidate of this number for all tasks, or the last one.

    most: candidates of the longest sweep seen so far.
    """

    number: int
    most: int = 1

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Choice:
        values = [*selection.candidates(reference).values()]
        self.most = max(self.most, len(values))
        return Choice(dict.fromkeys(tasks, values[min(self.number, len(values) - 1)]))


@dataclass(frozen=True)
class Records:
    """The highest mean dev score over the seeds; of equal ones the first in the file.

    A score that is undefined is the worst, and so is a run that diverged, which it would again.
    given: options of the command that made the records.
    """

    output_dir: Path
    given: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Choice:
        """Raises InputError that counts what is missing, and says how to get it."""
        candidates = selection.candidates(reference)
        groups: dict[str, dict[str, list[Record]]] = {}
        states: dict[str, Counter[str]] = {}
        for cell in selection.benchmark.cells:
            if cell.key.task in tasks and cell.key.method in candidates:
                state, found = self._look(cell)
                states.setdefault(cell.key.task, Counter())[state] += 1
                if found is not None:
                    group = groups.setdefault(cell.key.task, {})
                    group.setdefault(cell.key.method, []).append(found)
        if any(counts.keys() - {"ok"} for counts in states.values()):
            raise InputError(self._unready(selection, states))
        values, parts = {}, []
        for task in tasks:
            label, score = _best(groups[task])
            values[task] = candidates[label]
            told = "undefined" if score == -math.inf else f"{100 * score:.1f}"
            parts.append(f"{task} {text(values[task])} (dev {told})")
        records = [r for task in tasks for group in groups[task].values() for r in group]
        size = _size(selection, candidates, records, len(tasks))
        diverged = sum(found.status == "failed" for found in records)
        size += f", {diverged} diverged" if diverged else ""
        line = f"{reference.place}: {', '.join(parts)} from {selection.benchmark.name}, {size}"
        return Choice(values, (line,), tuple(records))

    def _look(self, cell: Cell) -> tuple[str, Record | None]:
        path = cell.key.directory(self.output_dir) / record.FILE_NAME
        if not path.exists():
            return "missing", None
        try:
            found = record.read(path, cell.key)
        except InputError:
            return "unreadable", None
        if found.settings_hash != cell.settings_hash:
            return "made with other settings", None
        if record.unscored(found, record.MOST_DROPPED) and not cell.train.allow_dropped:
            return "short of rows", None
        return ("ok", found) if found.status == "ok" or _diverged(found) else ("failed", None)

    def _unready(self, selection: Selection, states: Mapping[str, Counter[str]]) -> str:
        """What is not there, tasks that lack the same together, and how to get it."""
        alike: dict[str, list[str]] = {}
        for task, counts in states.items():
            bad = ", ".join(f"{counts[state]} {state}" for state in counts if state != "ok")
            if bad:
                alike.setdefault(f"{bad} of {counts.total()} cells", []).append(task)
        lacking = "; ".join(f"{', '.join(tasks)}: {what}" for what, tasks in alike.items())
        command = ["jiant-sparse", "grid", selection.path, "--output-dir", self.output_dir]
        for key, value in self.given.items():
            command += [f"--{key.replace('_', '-')}", value]
        seen = {state for counts in states.values() for state in counts}
        command += ["--retry-failed"] if "failed" in seen else []
        advice = f"run: {shlex.join(map(str, command))}"
        if seen & {"unreadable", "made with other settings"}:
            advice = f"remove the records that cannot be used, then {advice}"
        return f"{selection.benchmark.name} cannot choose yet: {lacking}; {advice}"


def _best(groups: Mapping[str, list[Record]]) -> tuple[str, float]:
    """(label, mean dev score) of the best group; the first of equal ones."""
    means = {label: statistics.fmean(map(_dev, group)) for label, group in groups.items()}
    best = max(means, key=means.__getitem__)
    return best, means[best]


def _diverged(found: Record) -> bool:
    return (found.error or "").startswith(f"{NotFinite.__name__}: ")


def _dev(found: Record) -> float:
    score = found.primary.dev if found.primary else None
    return -math.inf if score is None else score


def _size(
    selection: Selection, candidates: Mapping[str, Any], records: Collection[Record], tasks: int
) -> str:
    """How much the choice rests on: `7 values x 1 seed`."""
    several = any(len(selection.variants[label].values) > 1 for label in candidates)
    noun = "combinations" if several else "values"
    seeds = len(records) / (tasks * len(candidates))
    return f"{len(candidates)} {noun} x {seeds:g} seed{'' if seeds == 1 else 's'}"
