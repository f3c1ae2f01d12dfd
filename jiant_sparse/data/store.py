"""Task files on disk: where they lie, how rows become bytes, and how a task's folder appears whole.

`fetch` and `synthesize` publish folders and record them in the manifest; `prepare` writes derived
files; `verify` compares with the manifest.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jiant_sparse import files
from jiant_sparse.data.tasks import PHASES, Task
from jiant_sparse.errors import InputError

# The format of `sha256sum`, so that `sha256sum -c sha256sums.txt` reads it too.
MANIFEST = "sha256sums.txt"
LARGEST_BYTES = 10_000_000
"""Of the manifest."""


def phase_path(data_dir: Path, task: Task, phase: str) -> Path:
    """Where the rows of `phase` ("train", "val" or "test") lie."""
    return Path(data_dir) / task.name / f"{phase}.jsonl"


def to_text(rows: Iterable[dict]) -> str:
    """The rows as JSONL: ASCII only and keys sorted, so equal rows are equal bytes.

    ASCII because jiant opens some of the files in the locale's encoding.
    """
    return "".join(
        json.dumps(row, ensure_ascii=True, sort_keys=True, allow_nan=False) + "\n" for row in rows
    )


def conflicts(data_dir: Path, task: Task, phases: Mapping[str, str]) -> list[str]:
    """One line per file of the task's folder that keeps `phases` (text by phase) from being put
    there; empty if the folder is absent, empty or holds the same bytes already."""
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
    """Write the task's folder, whole or not at all; nothing is done if it holds the same bytes.

    phases: file text by phase.

    Raises InputError if the folder holds anything else.
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
        # A folder inside, because mkdtemp's own is readable by its owner only.
        (staging / task.name).mkdir()
        for phase, text in phases.items():
            files.write_text(staging / task.name / f"{phase}.jsonl", text)
        os.replace(staging / task.name, folder)
    except OSError as error:
        # Another process may have put the same folder there in the meantime.
        found = conflicts(data_dir, task, phases)
        if found or not folder.exists():
            raise InputError(*found or [f"{folder}: cannot be written ({error})"]) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_manifest(data_dir: Path, tasks: Sequence[Task]) -> None:
    """Record the SHA-256 of the files of `tasks` in the manifest of `data_dir`.

    Entries of other tasks stay as they are, so that fetching one task does not bless an edited
    file of another.

    Raises InputError if the manifest that is there cannot be read.
    """
    entries = read_manifest(data_dir)
    for task in tasks:
        for phase in PHASES:
            path = phase_path(data_dir, task, phase)
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
