"""Divide train and dev of existing data anew, into a new data directory."""

from collections.abc import Sequence
from pathlib import Path

from jiant_sparse.data.split import check_dividing, split_rows
from jiant_sparse.data.store import phase_paths, publish, read_phases, to_text, write_manifest
from jiant_sparse.data.tasks import Task
from jiant_sparse.errors import InputError


def resplit(
    source_dir: Path, data_dir: Path, tasks: Sequence[Task], *, split: str, seed: int
) -> None:
    """Write `tasks` of `source_dir` into `data_dir` with another dev set and the same test set.

    split: "published" (the authors' dev set) or "random" (drawn by `seed`).

    Raises InputError with the problems of a task's files, before anything is written.
    """
    made = {}
    for task in tasks:
        check_dividing(split, task, "it must be")
        rows, problems = read_phases(phase_paths(source_dir, task), task)
        if problems:
            raise InputError(*problems)
        train, val = split_rows([*rows["train"], *rows["val"]], split, task=task, seed=seed)
        made[task] = {"train": to_text(train), "val": to_text(val), "test": to_text(rows["test"])}
    for task, phases in made.items():
        publish(data_dir, task, phases)
    write_manifest(data_dir, tasks)
