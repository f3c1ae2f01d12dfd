"""Reading a benchmark's directory: its records, its manifest, and what could not be used."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.report import scan
from jiant_sparse.report.scan import Skipped
from jiant_sparse.schema import manifest as plan
from jiant_sparse.schema import record as schema
from jiant_sparse.schema.manifest import Manifest
from jiant_sparse.schema.record import Record


@dataclass(frozen=True)
class Collection:
    """Everything that a report is made of. `manifest` is None if the grid has written none; `lost`
    names the cells whose delta is not there."""

    benchmark: str
    directory: Path
    manifest: Manifest | None
    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    lost: tuple[str, ...] = ()


def collect(directory: Path) -> Collection:
    """The records below `directory`, in the order of their paths, each file read once.

    A record that cannot be read, whose numbers are impossible, or whose cell is not the one that
    its place on disk names, is skipped and listed; so is a directory that cannot be read.

    Raises InputError if `directory` is missing, holds no usable record or has a broken manifest.
    """
    if not os.path.isdir(directory):
        raise InputError(f"{directory}: is not a directory; expected <output>/<benchmark>")
    manifest = Manifest.read(directory) if (directory / plan.FILE_NAME).exists() else None
    placed, skipped = _read_all(directory, manifest)
    names = Counter(record.cell.benchmark for _, record in placed)
    # Sorted first, so that two equally frequent names do not depend on the order of the files.
    common = max(sorted(names), key=names.__getitem__, default="")
    benchmark = manifest.benchmark if manifest else common
    records, lost = [], []
    for path, record in placed:
        if record.cell.benchmark == benchmark:
            records.append(record)
            place = path.removesuffix(f"/{schema.FILE_NAME}")
            if schema.lost_delta(directory / place, record):
                lost.append(place)
        else:
            got = f"cell.benchmark is {record.cell.benchmark!r}; this benchmark is {benchmark!r}"
            skipped.append(Skipped(path, scan.shortened(got)))
    if not records:
        raise InputError(*_nothing_here(directory, skipped))
    return Collection(
        benchmark,
        directory,
        manifest,
        tuple(records),
        tuple(sorted(skipped, key=lambda item: item.path)),
        tuple(lost),
    )


def _read_all(
    directory: Path, manifest: Manifest | None
) -> tuple[list[tuple[str, Record]], list[Skipped]]:
    paths, skipped = scan.find(directory, manifest.tasks if manifest else ())
    placed = []
    for path in paths:
        name, record = scan.named(path, directory), scan.read(path)
        if isinstance(record, tuple):
            skipped.append(Skipped(name, record))
            continue
        cell = record.cell
        expected = f"{cell.task}/{cell.method}/seed-{cell.seed}/{schema.FILE_NAME}"
        if path.relative_to(directory).as_posix() == expected:
            placed.append((name, record))
        else:
            skipped.append(
                Skipped(name, scan.shortened(f"holds the cell whose place is {expected}"))
            )
    return placed, skipped


def _nothing_here(directory: Path, skipped: list[Skipped]) -> list[str]:
    patterns = (f"{'*/' * level}{plan.FILE_NAME}" for level in (1, 2, 3))
    below = sorted(path.parent for pattern in patterns for path in directory.glob(pattern))
    if below:
        return [
            f"{directory}: is no benchmark's directory; give one of {', '.join(map(str, below))}"
        ]
    lines = [f"{directory / item.path}: {p}" for item in skipped for p in item.problems]
    more = [f"{directory}: and {len(lines) - 10} more"] if len(lines) > 10 else []
    expected = f"<task>/<method>/seed-<k>/{schema.FILE_NAME}"
    return [f"{directory}: no usable {schema.FILE_NAME}; expected {expected}", *lines[:10], *more]
