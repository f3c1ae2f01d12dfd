"""Reading a benchmark's directory, whatever lies in it: records, manifest, and what is unusable."""

import json
import os
import stat
from collections import Counter
from collections.abc import Collection as Container
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.schema import manifest as plan
from jiant_sparse.schema import record as schema
from jiant_sparse.schema.manifest import Manifest
from jiant_sparse.schema.record import Record

# A record with an evaluation at each of 100,000 steps has half of it.
LARGEST_BYTES = 10_000_000
# <task>/<method>/seed-<k>
CELL_LEVEL = 3
# What the product itself keeps among the results, by the level at which it lies.
_OWN = {1: ("report", ".features"), CELL_LEVEL + 1: ("checkpoint", "jiant")}
# Problems of one file, characters of a problem or a path, and problems of a directory.
_TOLD, _LONGEST, _MOST = 5, 200, 10


@dataclass(frozen=True)
class Skipped:
    """What could not be used; `path` is relative to the benchmark, as text that can be written."""

    path: str
    problems: tuple[str, ...]


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
            skipped.append(Skipped(path, _shortened(got)))
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
    paths, skipped = _find(directory, manifest.tasks if manifest else ())
    placed = []
    for path in paths:
        name, record = _named(path, directory), _read(path)
        if isinstance(record, tuple):
            skipped.append(Skipped(name, record))
            continue
        cell = record.cell
        expected = f"{cell.task}/{cell.method}/seed-{cell.seed}/{schema.FILE_NAME}"
        if path.relative_to(directory).as_posix() == expected:
            placed.append((name, record))
        else:
            problem = _shortened(f"holds the cell whose place is {expected}")
            skipped.append(Skipped(name, problem))
    return placed, skipped


def _find(directory: Path, tasks: Container[str]) -> tuple[list[Path], list[Skipped]]:
    """Every `record.json` below `directory`, in the order of the paths, and what is unreadable.

    Links to directories are followed down to the level of a cell, but never upwards. The report
    itself, checkpoints and cached features are not looked into, unless one of `tasks` is so named.
    """
    found: list[Path] = []
    skipped: list[Skipped] = []
    left = [(directory, 1)]
    while left:
        folder, level = left.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = folder / entry.name
                    if entry.name == schema.FILE_NAME and not entry.is_dir(follow_symlinks=False):
                        found.append(path)
                    elif entry.name in _OWN.get(level, ()) and entry.name not in tasks:
                        continue
                    elif problem := _obstacle(entry, folder, level):
                        skipped.append(Skipped(_named(path, directory), (problem,)))
                    elif entry.is_dir(follow_symlinks=level <= CELL_LEVEL):
                        left.append((path, level + 1))
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            skipped.append(Skipped(_named(folder, directory), (problem,)))
    return sorted(found, key=lambda path: path.parts), skipped


def _obstacle(entry: os.DirEntry[str], folder: Path, level: int) -> str | None:
    """Why a link that would be followed is not."""
    if not entry.is_symlink() or level > CELL_LEVEL:
        return None
    try:
        if entry.is_dir() and folder.resolve().is_relative_to(os.path.realpath(entry.path)):
            return "is a link to a directory that it lies in; not followed"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None


def _read(path: Path) -> Record | tuple[str, ...]:
    """The record in the file `path`, or why it cannot be used."""
    try:
        about = path.stat()
    except OSError as error:
        return (f"cannot be read: {error.strerror}",)
    if not stat.S_ISREG(about.st_mode):
        return ("is not a file",)
    if about.st_size > LARGEST_BYTES:
        return (f"has {about.st_size} bytes; a record has at most {LARGEST_BYTES}",)
    try:
        return schema.read(path)
    except InputError as error:
        problems = tuple(problem.removeprefix(f"{path}: ") for problem in error.problems)
        version = any(problem.startswith("schema_version: ") for problem in problems)
        return (_of_version(path),) if version else _shortened(*problems)


def _of_version(path: Path) -> str:
    got = json.loads(path.read_bytes())["schema_version"]
    known = " or ".join(map(str, schema.READ_VERSIONS))
    if type(got) is int and got > schema.SCHEMA_VERSION:
        return f"schema_version is {got}; this jiant-sparse reads {known}; a newer one is needed"
    return f"schema_version is {json.dumps(got)[:_LONGEST]}; it must be {known}"


def _named(path: Path, directory: Path) -> str:
    """`path` relative to `directory`, with what is not UTF-8 escaped and its middle left out."""
    text = os.fsencode(path.relative_to(directory).as_posix())
    shown = text.decode("utf-8", "backslashreplace")
    half = _LONGEST // 2
    return shown if len(shown) <= _LONGEST else f"{shown[:half]} ... {shown[-half:]}"


def _shortened(*problems: str) -> tuple[str, ...]:
    """The first few, none longer than a few lines: any may quote the file."""
    shown = [p if len(p) <= _LONGEST else f"{p[:_LONGEST]} ..." for p in problems[:_TOLD]]
    more = len(problems) - _TOLD
    return (*shown, f"and {more} more") if more > 0 else tuple(shown)


def _nothing_here(directory: Path, skipped: list[Skipped]) -> list[str]:
    patterns = (f"{'*/' * level}{plan.FILE_NAME}" for level in (1, 2, 3))
    below = sorted(path.parent for pattern in patterns for path in directory.glob(pattern))
    if below:
        return [
            f"{directory}: is no benchmark's directory; give one of {', '.join(map(str, below))}"
        ]
    lines = [f"{directory / item.path}: {p}" for item in skipped for p in item.problems]
    more = [f"{directory}: and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    expected = f"<task>/<method>/seed-<k>/{schema.FILE_NAME}"
    return [
        f"{directory}: no usable {schema.FILE_NAME}; expected {expected}",
        *lines[:_MOST],
        *more,
    ]
