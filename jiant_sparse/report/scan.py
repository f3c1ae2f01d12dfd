"""Finding and reading the records below a directory, whatever else lies there."""

import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.schema import record as schema
from jiant_sparse.schema.record import Record

# A record with an evaluation at each of 100,000 steps has half of it.
LARGEST_BYTES = 10_000_000
# <task>/<method>/seed-<k>
CELL_LEVEL = 3
# What the product itself keeps among the results, by the level at which it lies.
_OWN = {1: ("report", ".features"), CELL_LEVEL + 1: ("checkpoint", "jiant")}
_TOLD, _LONGEST = 5, 200


@dataclass(frozen=True)
class Skipped:
    """What could not be used; `path` is relative to the benchmark, as text that can be written."""

    path: str
    problems: tuple[str, ...]


def find(directory: Path, tasks: Collection[str] = ()) -> tuple[list[Path], list[Skipped]]:
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
                        skipped.append(Skipped(named(path, directory), (problem,)))
                    elif entry.is_dir(follow_symlinks=level <= CELL_LEVEL):
                        left.append((path, level + 1))
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
            skipped.append(Skipped(named(folder, directory), (problem,)))
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


def read(path: Path) -> Record | tuple[str, ...]:
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
        return (_of_version(path),) if version else shortened(*problems)


def named(path: Path, directory: Path) -> str:
    """`path` relative to `directory`, with what is not UTF-8 escaped and its middle left out."""
    text = os.fsencode(path.relative_to(directory).as_posix())
    shown = text.decode("utf-8", "backslashreplace")
    half = _LONGEST // 2
    return shown if len(shown) <= _LONGEST else f"{shown[:half]} ... {shown[-half:]}"


def _of_version(path: Path) -> str:
    got = json.loads(path.read_bytes())["schema_version"]
    known = " or ".join(map(str, schema.READ_VERSIONS))
    if type(got) is int and got > schema.SCHEMA_VERSION:
        return f"schema_version is {got}; this jiant-sparse reads {known}; a newer one is needed"
    return f"schema_version is {json.dumps(got)[:_LONGEST]}; it must be {known}"


def shortened(*problems: str) -> tuple[str, ...]:
    """The first few, none longer than a few lines: any may quote the file."""
    shown = [p if len(p) <= _LONGEST else f"{p[:_LONGEST]} ..." for p in problems[:_TOLD]]
    more = len(problems) - _TOLD
    return (*shown, f"and {more} more") if more > 0 else tuple(shown)
