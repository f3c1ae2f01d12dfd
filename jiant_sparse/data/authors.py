"""Whether a task's rows are the ones that Fu et al. trained and tested on, by their digest.

published_rows.json holds two digests for each of their seven tasks: of train and val together,
which their split divides, and of test.
"""

import functools
import hashlib
import json
import unicodedata
from collections.abc import Sequence
from importlib import resources
from typing import Literal

from jiant_sparse.data.table import SPAN_FIELDS
from jiant_sparse.data.tasks import Task

Part = Literal["train_val", "test"]


@functools.cache
def published_rows() -> dict[str, dict[Part, str]]:
    """The digests of the authors' rows: task -> part -> SHA-256 in hex."""
    path = resources.files("jiant_sparse.data") / "published_rows.json"
    return json.loads(path.read_text(encoding="utf-8"))


def are_published(rows: Sequence[dict], task: Task, part: Part) -> bool:
    """Whether `rows`, in any order, are the authors' rows of `task.like`."""
    known = published_rows().get(task.like, {}).get(part)
    return known is not None and digest(rows, task) == known


def digest(rows: Sequence[dict], task: Task) -> str | None:
    """SHA-256 over the rows in the order of idx; None if an idx is missing or not unique.

    Covers idx, texts, choices, spans and labels. Texts count in Unicode's form NFC with one space
    for each run of white space; classes by the order in which they appear, because the authors' CB
    and the hub name them differently; numbers to three decimals, because the hub's have 32 bits.
    """
    by_idx = {row.get("idx"): row for row in rows}
    if len(by_idx) < len(rows) or None in by_idx:
        return None
    classes: dict[object, int] = {}
    lines = []
    for idx, row in sorted(by_idx.items()):
        label = row["label"]
        if task.label_range is None:
            label = classes.setdefault(label, len(classes))
        lines.append([idx, *map(_plain, content(row, task)), round(label, 3)])
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()


def content(row: dict, task: Task) -> tuple:
    """A row's texts, choices and spans."""
    names = [*task.texts, *(name for name, _ in task.choices)]
    spans = SPAN_FIELDS if task.has_spans else ()
    return (*(row[name] for name in names), *(row["target"][name] for name in spans))


def _plain(value: str | int) -> str | int:
    return (
        " ".join(unicodedata.normalize("NFC", value).split()) if isinstance(value, str) else value
    )
