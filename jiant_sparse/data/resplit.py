"""Existing data, its train and dev divided anew, in a new data directory."""

from collections.abc import Sequence
from pathlib import Path

from jiant_sparse.data.split import check_dividing, check_split, split_rows
from jiant_sparse.data.store import phase_path, publish, to_text, write_manifest
from jiant_sparse.data.tasks import PHASES, Task, read_rows


def resplit(
    source_dir: Path, data_dir: Path, tasks: Sequence[Task], *, split: str, seed: int
) -> None:
    """Write `tasks` of `source_dir` into `data_dir` with another dev set; test stays as it is.

    split: "published" (the authors' dev set) or "random" (drawn by `seed`).

    Raises InputError with the problems of all files, before anything is written.
    """
    check_dividing(split, "it must be")
    made = {}
    for task in tasks:
        check_split(split, task)
        train, val, test = (read_rows(phase_path(source_dir, task, name), task) for name in PHASES)
        train, val = split_rows([*train, *val], split, task=task, seed=seed)
        made[task] = {"train": to_text(train), "val": to_text(val), "test": to_text(test)}
    for task, phases in made.items():
        publish(data_dir, task, phases)
    write_manifest(data_dir, tasks)
