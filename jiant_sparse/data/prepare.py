"""From a task in the data directory to the three files that a cell trains and scores on."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from jiant_sparse.data.store import phase_paths, read_phases, to_text
from jiant_sparse.data.tasks import PHASES, Task
from jiant_sparse.errors import InputError

# Part of the name of every derived folder. Raise it when the same settings give other bytes.
DERIVATION = 1


@dataclass(frozen=True)
class TaskData:
    """The files of a task that a cell uses. Each mapping has the keys train, val and test.

    paths: absolute; val and test may be one file. sha256: of the file's bytes, in hex. examples:
    number of rows. published: whether the rows of train and val together, however they are divided,
    and the rows of test are the ones of Fu et al.
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
    """Check the task's three files and derive the files of a split from them.

    split: one of split.KINDS; "random" draws by `split_seed`. "dev_as_test" uses the test file as
    val, too, and trains on the rows of train and val.
    drop_train: fraction of the training rows, in [0, 1), to leave out at random by `seed`.
    write: False only computes what the derived files would be.

    Derived files lie in cache_dir/<task>/<hash of sources and settings>, where plain jiant can read
    them, too. Files that are not derived, such as test, keep their own path.

    Raises InputError with the problems of all three files, or for a wrong setting.
    """
    check_split(split, task)
    check_fraction(drop_train)
    given = phase_paths(data_dir, task)
    paths = {phase: Path(os.path.realpath(path)) for phase, path in given.items()}
    rows = _read(paths, task)
    digests = {phase: files.sha256(path) for phase, path in paths.items()}
    settings: dict[str, Any] = {"split": split}
    derived: dict[str, list[dict]] = {}
    pool = rows["train"] + rows["val"]
    published: dict[Part, bool] = {
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
        rows["val"], paths["val"], digests["val"] = rows["test"], paths["test"], digests["test"]
    for phase, phase_rows in derived.items():
        rows[phase], paths[phase] = phase_rows, folder / f"{phase}.jsonl"
        text = to_text(phase_rows)
        digests[phase] = hashlib.sha256(text.encode()).hexdigest()
        if write:
            _write_once(paths[phase], text, digests[phase])
    examples = {phase: len(rows[phase]) for phase in PHASES}
    return TaskData(task, paths, digests, examples, published)


def _read(paths: dict[str, Path], task: Task) -> dict[str, list[dict]]:
    folder = paths["train"].parent
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: there is no such folder for task {task.name}; make it with "
            "`jiant-sparse data fetch` or `jiant-sparse data synthesize`, or correct data_dir"
        )
    rows, problems = read_phases(paths, task)
    if problems:
        raise InputError(*problems)
    return rows


def _folder_name(task: Task, digests: dict[str, str], settings: dict[str, Any]) -> str:
    """settings: only the ones that decide the derived bytes, so that cells share equal files."""
    # With the task's name, because a random split draws by it.
    parts = [DERIVATION, task.name, digests["train"], digests["val"], settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _write_once(path: Path, text: str, digest: str) -> None:
    """Make `path` hold `text`, whose SHA-256 is `digest`.

    Leaves a file with the right bytes alone, because another cell may be reading it. Needs no lock:
    a second process writes the same bytes, and atomically.
    """
    if not path.exists() or files.sha256(path) != digest:
        files.write_text(path, text)
