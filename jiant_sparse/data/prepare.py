"""From a task in the data directory to the three files that a cell trains and scores on."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from jiant_sparse import files
from jiant_sparse.data.authors import Part, are_published
from jiant_sparse.data.split import (
    DIVIDING,
    check_fraction,
    check_split,
    drop,
    in_index_order,
    split_rows,
)
from jiant_sparse.data.store import phase_path, to_text
from jiant_sparse.data.tasks import PHASES, Task, read_rows
from jiant_sparse.errors import InputError

# Part of the name of every derived folder; raise it when the same settings give other bytes.
DERIVATION = 1


@dataclass(frozen=True)
class TaskData:
    """The files of a task that a cell uses. Each mapping has the keys train, val and test.

    paths: absolute; val and test may be one file. sha256: of the file's bytes, in hex. examples:
    number of rows. published: whether the rows of train and val together, and those of test, are
    the ones of Fu et al., however they were divided.
    """

    task: Task
    paths: dict[str, Path]
    sha256: dict[str, str]
    examples: dict[str, int]
    published: dict[Part, bool]


def prepare(
    task: Task,
    data_dir: Path,
    cache_dir: Path,
    *,
    split: str = "files",
    split_seed: int = 0,
    drop_train: float = 0.0,
    seed: int = 0,
    write: bool = True,
) -> TaskData:
    """Check the task's three files and derive from them what was asked for.

    split: see split.KINDS; "random" goes by `split_seed`. "dev_as_test" gives the test file for
    val too, and trains on the rows of both other files.
    drop_train: fraction of the training rows, in [0, 1), left out at random by `seed`.
    write: False only says what the derived files will be.

    Derived files lie below cache_dir/<task>/<hash of the sources and settings>, so that plain
    jiant can be given the same ones; what is not derived, such as test, keeps its own path.

    Raises InputError with all problems of all three files, or for a bad setting.
    """
    check_split(split, task)
    check_fraction(drop_train)
    paths = {phase: Path(os.path.realpath(phase_path(data_dir, task, phase))) for phase in PHASES}
    rows = _read_all(task, paths)
    digests = {phase: files.sha256(path) for phase, path in paths.items()}
    derived, settings = {}, {"split": split}
    pool = rows["train"] + rows["val"]
    published = {
        "train_val": are_published(pool, task, "train_val"),
        "test": are_published(rows["test"], task, "test"),
    }
    if split in DIVIDING:
        derived["train"], derived["val"] = split_rows(pool, split, task=task, seed=split_seed)
    elif split == "dev_as_test":
        derived["train"] = in_index_order(pool)
    if split == "random":
        settings["split_seed"] = split_seed
    if drop_train:
        derived["train"] = drop(derived.get("train", rows["train"]), drop_train, seed)
        settings |= {"drop_train": drop_train, "seed": seed}
    folder = Path(cache_dir).resolve() / task.name / _folder_name(task, digests, settings)
    if split == "dev_as_test":
        for of_phase in (rows, paths, digests):
            of_phase["val"] = of_phase["test"]
    for phase, phase_rows in derived.items():
        rows[phase], paths[phase] = phase_rows, folder / f"{phase}.jsonl"
        text = to_text(phase_rows)
        digests[phase] = hashlib.sha256(text.encode()).hexdigest()
        if write:
            _write_once(paths[phase], text, digests[phase])
    examples = {phase: len(rows[phase]) for phase in PHASES}
    return TaskData(task, paths, digests, examples, published)


def _read_all(task: Task, paths: dict[str, Path]) -> dict[str, list[dict]]:
    folder = paths["train"].parent
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: there is no such folder for task {task.name}; make it with "
            "`jiant-sparse data fetch` or `jiant-sparse data synthesize`, or correct data_dir"
        )
    rows, problems = {}, []
    for phase, path in paths.items():
        try:
            rows[phase] = read_rows(path, task)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    return rows


def _folder_name(task: Task, digests: dict[str, str], settings: dict) -> str:
    """settings: only those that the derived bytes depend on, so that equal files are shared."""
    # The task's name counts because a random split draws by it.
    parts = [DERIVATION, task.name, digests["train"], digests["val"], settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _write_once(path: Path, text: str, digest: str) -> None:
    """Leave `text` at `path`; digest: its SHA-256.

    A second process writes the same bytes and replaces the file atomically, so no lock is needed.
    A file with the right bytes is left alone: another cell may be reading it.
    """
    if not path.exists() or files.sha256(path) != digest:
        files.write_text(path, text)
