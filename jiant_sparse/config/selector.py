"""Selects hyper-parameters by mean dev score, from the records of a benchmark that sweeps them."""

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
    """A value to be selected: `key` of the method block `label`, called `origin` in the file."""

    label: str
    origin: str
    key: str

    @property
    def place(self) -> str:
        return f"methods.{self.origin}.{self.key}"


@dataclass(frozen=True)
class Selection:
    """A benchmark that sweeps values. path: as people write it. variants: by method label."""

    path: Path
    benchmark: Benchmark
    variants: Mapping[str, Variant]

    def candidates(self, reference: Reference) -> dict[str, Any]:
        """Return the candidates of a reference by swept label, in the order of the file.

        Raises InputError if the file has no such method or does not sweep the key.
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
class Selected:
    """The selected value for each task, with lines for people, and the records behind it."""

    values: Mapping[str, Any]
    lines: tuple[str, ...] = ()
    evidence: tuple[Record, ...] = ()


class Selector(Protocol):
    """Selects the value of a reference for each task; raises InputError if it cannot."""

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Selected: ...


@dataclass
class Position:
    """Selects the candidate at a position, or the last one, for all tasks; looks at no record.

    most: number of candidates of the longest sweep so far.
    """

    number: int
    most: int = 1

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Selected:
        values = [*selection.candidates(reference).values()]
        self.most = max(self.most, len(values))
        return Selected(dict.fromkeys(tasks, values[min(self.number, len(values) - 1)]))


@dataclass(frozen=True)
class DevScores:
    """Selects the highest mean dev score over the seeds; of equal scores the first in the file.

    An undefined score is the worst, and so is that of a run that diverged: it would diverge again.
    given: options of the command that makes the records.
    """

    output_dir: Path
    given: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, reference: Reference, selection: Selection, tasks: Collection[str]
    ) -> Selected:
        """Raises InputError that counts the missing records and names the command to run."""
        candidates = selection.candidates(reference)
        scored: dict[str, dict[str, list[Record]]] = {}
        states: dict[str, Counter[str]] = {}
        for cell in selection.benchmark.cells:
            if cell.key.task in tasks and cell.key.method in candidates:
                state, found = self._look(cell)
                states.setdefault(cell.key.task, Counter())[state] += 1
                if found is not None:
                    by_label = scored.setdefault(cell.key.task, {})
                    by_label.setdefault(cell.key.method, []).append(found)
        if any(counts.keys() - {"ok"} for counts in states.values()):
            raise InputError(self._unready(selection, states))
        values, parts = {}, []
        for task in tasks:
            means = {label: statistics.fmean(map(_dev, r)) for label, r in scored[task].items()}
            best = max(means, key=means.__getitem__)
            values[task] = candidates[best]
            score = "undefined" if means[best] == -math.inf else f"{100 * means[best]:.1f}"
            parts.append(f"{task} {text(values[task])} (dev {score})")
        records = [r for task in tasks for found in scored[task].values() for r in found]
        size = _size(selection, candidates, len(records) / (len(tasks) * len(candidates)))
        diverged = sum(found.status == "failed" for found in records)
        size += f", {diverged} diverged" if diverged else ""
        line = f"{reference.place}: {', '.join(parts)} from {selection.benchmark.name}, {size}"
        return Selected(values, (line,), tuple(records))

    def _look(self, cell: Cell) -> tuple[str, Record | None]:
        """Return the state of a cell's record in words, and the record if it counts."""
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
        """Say what is missing, in groups of tasks that lack the same, and how to get it."""
        lacking: dict[str, list[str]] = {}
        for task, counts in states.items():
            bad = ", ".join(f"{counts[state]} {state}" for state in counts if state != "ok")
            if bad:
                lacking.setdefault(f"{bad} of {counts.total()} cells", []).append(task)
        told = "; ".join(f"{', '.join(tasks)}: {what}" for what, tasks in lacking.items())
        command = ["jiant-sparse", "grid", selection.path, "--output-dir", self.output_dir]
        for key, value in self.given.items():
            command += [f"--{key.replace('_', '-')}", value]
        seen = {state for counts in states.values() for state in counts}
        command += ["--retry-failed"] if "failed" in seen else []
        advice = f"run: {shlex.join(map(str, command))}"
        if seen & {"unreadable", "made with other settings"}:
            advice = f"remove the records that cannot be used, then {advice}"
        return f"{selection.benchmark.name} cannot choose yet: {told}; {advice}"


def _diverged(found: Record) -> bool:
    return (found.error or "").startswith(f"{NotFinite.__name__}: ")


def _dev(found: Record) -> float:
    score = found.primary.dev if found.primary else None
    return -math.inf if score is None else score


def _size(selection: Selection, labels: Collection[str], seeds: float) -> str:
    """How many records the selection rests on for each task: `7 values x 1 seed`."""
    several = any(len(selection.variants[label].values) > 1 for label in labels)
    noun = "combinations" if several else "values"
    return f"{len(labels)} {noun} x {seeds:g} seed{'' if seeds == 1 else 's'}"
