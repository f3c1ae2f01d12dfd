"""Download the real tasks from the Hugging Face hub into jiant's layout.

The hub's "train" is split into train and val; its "validation", which has labels, becomes test.
Fields and labels are the ones that jiant's own download writes, except for CB: jiant 2.2.0 names
the hub's classes in the order of its own list, which calls contradiction entailment, and so on.
Here every class keeps its name. Accuracy and mean F1 do not depend on it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jiant_sparse.data.split import check_dividing, split_rows
from jiant_sparse.data.store import publish, to_text, write_manifest
from jiant_sparse.data.table import SPAN_FIELDS
from jiant_sparse.data.tasks import Task, row_problems
from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def fetch(data_dir: Path, tasks: Sequence[Task], *, split: str, seed: int) -> None:
    """Download `tasks`, write their train, val and test files and record them in the manifest.

    split: "published" (the authors' dev set) or "random" (drawn by `seed`). Each task's folder
    appears atomically; files with the same bytes are left alone.

    Raises InputError for a wrong split, if the hub cannot be reached or has unexpected fields, or
    if other files are in the way.
    """
    problems: list[str] = []
    for task in tasks:
        try:
            check_dividing(split, task, "a download can be split")
        except InputError as error:
            problems += error.problems
    if problems:
        # The problem may be the same for every task.
        raise InputError(*dict.fromkeys(problems))
    for task in tasks:
        loaded = _load(task)
        train, val = split_rows(_rows(loaded, "train", task), split, task=task, seed=seed)
        phases = {"train": train, "val": val, "test": _rows(loaded, "validation", task)}
        publish(data_dir, task, {phase: to_text(rows) for phase, rows in phases.items()})
        # After each task, so that it stays recorded if the next task fails.
        write_manifest(data_dir, [task])


def _load(task: Task) -> "DatasetDict":
    hub = task.hub
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError("downloading needs the package datasets: pip install datasets") from None
    try:
        return load_dataset(hub.path, hub.config)
    # The errors of the libraries below share no base class.
    except Exception as error:
        raise InputError(
            f"task {task.name}: {hub.path} ({hub.config}) cannot be loaded from the Hugging Face "
            f"hub: {type(error).__name__}: {_first_line(error)}; check the network and "
            "HF_HUB_OFFLINE, copy the three files into the data directory by hand, or use "
            "`jiant-sparse data synthesize`"
        ) from error


def _rows(loaded: "DatasetDict", hub_split: str, task: Task) -> list[dict]:
    where = f"task {task.name}: {task.hub.path} ({task.hub.config}) {hub_split}"
    if hub_split not in loaded:
        raise InputError(f"{where}: there is no such split; got {', '.join(loaded)}")
    table = loaded[hub_split]
    needed = [*_hub_fields(task), "label", "idx"]
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise InputError(
            f"{where}: the fields {', '.join(missing)} are missing; "
            f"got {', '.join(table.column_names)}"
        )
    rows = _converted(table, task, _label_by_class(table, task, where))
    problems = [
        f"{where} row {number}: {problem}"
        for number, row in enumerate(rows)
        for problem in row_problems(row, task)
    ]
    if problems:
        raise InputError(*problems[:20])
    return rows


def _hub_fields(task: Task) -> Iterable[str]:
    yield from (theirs for theirs, _ in task.hub.renamed)
    if task.has_spans:
        yield from SPAN_FIELDS


def _label_by_class(table: "Dataset", task: Task, where: str) -> dict[int, object] | None:
    """Class number on the hub -> our label; None if the hub's label is kept.

    Goes by the class's name: the hub may number its classes in another order.
    """
    if not task.hub.labels:
        return None
    names = getattr(table.features["label"], "names", None)
    ours = dict(task.hub.labels)
    if names is None or set(names) != set(ours):
        raise InputError(f"{where}: the label classes are {names}; expected {', '.join(ours)}")
    return {number: ours[name] for number, name in enumerate(names)}


def _converted(table: "Dataset", task: Task, labels: dict[int, object] | None) -> list[dict]:
    rows = []
    for theirs in table:
        row = {ours: theirs[name] for name, ours in task.hub.renamed}
        if task.has_spans:
            row["target"] = {name: theirs[name] for name in SPAN_FIELDS}
        # An unlabelled row has class -1; None is then refused as a label.
        row["label"] = theirs["label"] if labels is None else labels.get(theirs["label"])
        row["idx"] = theirs["idx"]
        rows.append(row)
    return rows


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0]
