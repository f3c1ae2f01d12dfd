"""Reading a benchmark's directory: its records, its manifest, and what could not be used."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.benchmark import manifest as plan
from jiant_sparse.benchmark import record as schema
from jiant_sparse.benchmark.manifest import Manifest
from jiant_sparse.benchmark.record import Record
from jiant_sparse.errors import InputError


@dataclass(frozen=True)
class Skipped:
    """A `record.json` that is broken or belongs elsewhere; `path` is relative to the benchmark."""

    path: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Collection:
    """Everything that a report is made of. `manifest` is None if the grid has written none."""

    benchmark: str
    manifest: Manifest | None
    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]


def collect(directory: Path) -> Collection:
    """The records below `directory`, in the order of their paths, each file read once.

    A record that cannot be read, or whose cell is not the one that its place on disk names, is
    skipped and listed.

    Raises InputError if `directory` is missing, holds no usable record or has a broken manifest.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: is not a directory; expected <output>/<benchmark>")
    manifest = Manifest.read(directory) if (directory / plan.FILE_NAME).exists() else None
    placed, skipped = _read_all(directory)
    names = Counter(record.cell.benchmark for _, record in placed)
    # Sorted first, so that two equally frequent names do not depend on the order of the files.
    common = max(sorted(names), key=names.__getitem__, default="")
    benchmark = manifest.benchmark if manifest else common
    records = []
    for path, record in placed:
        if record.cell.benchmark == benchmark:
            records.append(record)
        else:
            got = f"cell.benchmark is {record.cell.benchmark!r}; this benchmark is {benchmark!r}"
            skipped.append(Skipped(path, (got,)))
    if not records:
        raise InputError(*_nothing_here(directory, skipped))
    return Collection(
        benchmark, manifest, tuple(records), tuple(sorted(skipped, key=lambda item: item.path))
    )


def _read_all(directory: Path) -> tuple[list[tuple[str, Record]], list[Skipped]]:
    placed, skipped = [], []
    for path in _files(directory):
        relative = path.relative_to(directory).as_posix()
        try:
            record = schema.read(path)
        except InputError as error:
            problems = tuple(p.removeprefix(f"{path}: ") for p in error.problems)
            skipped.append(Skipped(relative, problems))
            continue
        except OSError as error:
            skipped.append(Skipped(relative, (f"cannot be read: {error.strerror}",)))
            continue
        cell = record.cell
        expected = f"{cell.task}/{cell.method}/seed-{cell.seed}/{schema.FILE_NAME}"
        if relative == expected:
            placed.append((relative, record))
        else:
            skipped.append(Skipped(relative, (f"holds the cell whose place is {expected}",)))
    return placed, skipped


def _files(directory: Path) -> list[Path]:
    return sorted(
        Path(folder, schema.FILE_NAME)
        for folder, _, names in os.walk(directory)
        if schema.FILE_NAME in names
    )


def _nothing_here(directory: Path, skipped: list[Skipped]) -> list[str]:
    below = sorted(path.parent for path in directory.rglob(plan.FILE_NAME))
    if below:
        return [
            f"{directory}: is no benchmark's directory; give one of {', '.join(map(str, below))}"
        ]
    lines = [f"{directory / item.path}: {p}" for item in skipped for p in item.problems]
    more = [f"{directory}: and {len(lines) - 10} more"] if len(lines) > 10 else []
    expected = f"<task>/<method>/seed-<k>/{schema.FILE_NAME}"
    return [f"{directory}: no usable {schema.FILE_NAME}; expected {expected}", *lines[:10], *more]
