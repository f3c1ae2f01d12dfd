"""Task files on disk: their paths, rows as bytes, folders that appear whole, the manifest."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jiant_sparse import files
from jiant_sparse.data.tasks import PHASES, Task, read_rows
from jiant_sparse.errors import InputError

# The format of `sha256sum`: `sha256sum -c sha256sums.txt` reads it, too.
MANIFEST = "sha256sums.txt"
LARGEST_BYTES = 10_000_000
"""Size limit of the manifest."""


def phase_path(data_dir: Path, task: Task, phase: str) -> Path:
    """Path of the rows of `phase` ("train", "val" or "test")."""
    return Path(data_dir) / task.name / f"{phase}.jsonl"


def phase_paths(data_dir: Path, task: Task) -> dict[str, Path]:
    """Paths of all phases."""
    return {phase: phase_path(data_dir, task, phase) for phase in PHASES}


def read_phases(paths: Mapping[str, Path], task: Task) -> tuple[dict[str, list[dict]], list[str]]:
    """(rows by phase of the readable files, problems of the other files)."""
    rows: dict[str, list[dict]] = {}
    problems: list[str] = []
    for phase, path in paths.items():
        try:
            rows[phase] = read_rows(path, task)
        except InputError as error:
            problems += error.problems
    return rows, problems


def to_text(rows: Iterable[dict]) -> str:
    """The rows as JSONL, in ASCII and with sorted keys, so that equal rows are equal bytes.

    ASCII, because jiant opens some files in the locale's encoding.

    >>> to_text([{"text": "café", "label": "1"}])
    '{"label": "1", "text": "caf\\\\u00e9"}\\n'
    """
    return "".join(
        json.dumps(row, ensure_ascii=True, sort_keys=True, allow_nan=False) + "\n" for row in rows
    )


def conflicts(data_dir: Path, task: Task, phases: Mapping[str, str]) -> list[str]:
    """A line for each file in the task's folder that `phases` (text by phase) would replace.

    Empty if the folder is absent, empty, or holds the same bytes already.
    """
    folder = Path(data_dir) / task.name
    if not folder.exists():
        return []
    if not folder.is_dir():
        return [f"{folder}: is a file; the folder of task {task.name} belongs there"]
    if not any(folder.iterdir()):
        return []
    advice = "remove the folder or give another data directory"
    found = []
    for phase, text in phases.items():
        path = phase_path(data_dir, task, phase)
        if not path.is_file():
            found.append(f"{path}: is missing although {folder} holds other files; {advice}")
        elif files.sha256(path) != hashlib.sha256(text.encode()).hexdigest():
            found.append(f"{path}: holds other rows than those to be written; {advice}")
    return found


def publish(data_dir: Path, task: Task, phases: Mapping[str, str]) -> None:
    """Write the task's folder atomically. A folder with the same bytes is left alone.

    phases: file text by phase. Raises InputError if the folder holds anything else.
    """
    found = conflicts(data_dir, task, phases)
    if found:
        raise InputError(*found)
    folder = Path(data_dir) / task.name
    if phase_path(data_dir, task, PHASES[0]).exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{task.name}."))
    try:
        # A folder inside, because only its owner can read mkdtemp's own.
        (staging / task.name).mkdir()
        for phase, text in phases.items():
            files.write_text(staging / task.name / f"{phase}.jsonl", text)
        os.replace(staging / task.name, folder)
    except OSError as error:
        # Another process may have written the same folder in the meantime.
        found = conflicts(data_dir, task, phases)
        if found or not folder.exists():
            raise InputError(*found or [f"{folder}: cannot be written ({error})"]) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(data_dir: Path, tasks: Sequence[Task]) -> None:
    """Record the SHA-256 of the files of `tasks` in the manifest of `data_dir`.

    Entries of other tasks stay, so that fetching one task does not approve another's edited file.
    Raises InputError if the present manifest cannot be read.
    """
    entries = read_manifest(data_dir)
    for task in tasks:
        for phase, path in phase_paths(data_dir, task).items():
            entries[f"{task.name}/{phase}.jsonl"] = files.sha256(path)
    lines = [f"{digest}  {name}\n" for name, digest in sorted(entries.items())]
    files.write_text(Path(data_dir) / MANIFEST, "".join(lines))


def read_manifest(data_dir: Path) -> dict[str, str]:
    """SHA-256 by "task/phase.jsonl"; empty if `data_dir` has no manifest.

    Raises InputError with every line that is not "<64 hex digits>  <name>".
    """
    path = Path(data_dir) / MANIFEST
    if not os.path.lexists(path):
        return {}
    entries, problems = {}, []
    text = files.read_input(path, LARGEST_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line)
        if match:
            entries[match[2]] = match[1]
        else:
            problems.append(
                f"{path}:{number}: got {line[:60]!r}; expected 64 hex digits, two spaces, a name"
            )
    if problems:
        raise InputError(*problems)
    return entries
