"""The dev set: rows of a task's original training set that choose the checkpoint.

Fu et al. divide the original training set in two and test on the original dev set. Their division
is known by membership, not by seed: published_dev_split.json lists the `idx` of the dev rows for
each of their seven tasks. Akbar-Tajari and Pilehvar train on the whole training set and use the
original dev set as both dev and test.
"""

import functools
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from importlib import resources

from jiant_sparse import seeds
from jiant_sparse.data.authors import are_published
from jiant_sparse.data.tasks import Task
from jiant_sparse.errors import InputError, suggest

# These divide the rows of train.jsonl and val.jsonl anew.
DIVIDING = ("published", "random")
# "files" uses the three files as they are; "dev_as_test" trains on the rows of train and val and
# uses test as dev, too.
KINDS = (*DIVIDING, "files", "dev_as_test")


@functools.cache
def published_dev_split() -> dict[str, tuple[int, ...]]:
    """Sorted idx of the authors' dev rows, by task."""
    path = resources.files("jiant_sparse.data") / "published_dev_split.json"
    lists = json.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(sorted(indices)) for name, indices in lists.items()}


def default_split(task: Task) -> str:
    """ "published" for the authors' own seven tasks, else "files"."""
    is_theirs = task.name == task.like and task.name in published_dev_split()
    return "published" if is_theirs else "files"


def check_split(kind: str, task: Task) -> None:
    """Raise InputError if `kind` is unknown, or not possible for `task`."""
    if kind not in KINDS:
        raise InputError(f"split is {kind!r}; {suggest(kind, KINDS)}")
    if kind == "published" and task.like not in published_dev_split():
        others = ", ".join(other for other in KINDS if other != kind)
        raise InputError(
            f"task {task.name}: split is published, but the authors split only "
            f"{', '.join(published_dev_split())}; allowed here are {others}"
        )


def check_dividing(kind: str, task: Task, ends: str) -> None:
    """Raise InputError unless `kind` divides the rows of `task`, where new files will be written.

    ends: text of the error before the allowed kinds.
    """
    check_split(kind, task)
    if kind not in DIVIDING:
        raise InputError(
            f"split is {kind!r}, which a configuration may say of any data; {ends} "
            f"{' or '.join(DIVIDING)}"
        )


def split_rows(
    rows: Sequence[dict], kind: str, *, task: Task, seed: int
) -> tuple[list[dict], list[dict]]:
    """(train, dev), a partition of `rows`.

    rows: the whole original training set, in any order: membership and order of the output depend
    on idx alone. Only rows whose idx are missing or not unique (numbered anew after a split, say)
    are taken in their own order.
    kind: "published" (the authors' membership, by idx, without `seed`) or "random" (9 * floor(n /
    10) rows to train, the rest to dev: the size rule of the published files).

    Raises InputError for another kind, for "published" of other rows than the authors', and for
    "random" of fewer than 10 rows.
    """
    check_split(kind, task)
    if kind not in DIVIDING:
        raise InputError(f"split is {kind!r}; only {' and '.join(DIVIDING)} divide a pool of rows")
    if kind == "published":
        return _published(rows, task)
    rows = in_index_order(rows)
    train_size = 9 * (len(rows) // 10)
    if train_size == 0:
        raise InputError(
            f"task {task.name}: split is random, got {len(rows)} rows in train and val together; "
            "at least 10 are needed"
        )
    generator = random.Random(seeds.derive(seed, "split", task.name))
    chosen = set(generator.sample(range(len(rows)), train_size))
    train = [row for position, row in enumerate(rows) if position in chosen]
    dev = [row for position, row in enumerate(rows) if position not in chosen]
    return train, dev


def in_index_order(rows: Sequence[dict]) -> list[dict]:
    """`rows` in the order of idx; in their own order if an idx is missing or not unique."""
    return sorted(rows, key=lambda row: row["idx"]) if _unique_indices(rows) else list(rows)


def drop(rows: Sequence[dict], fraction: float, seed: int) -> list[dict]:
    """Leave out floor(fraction * n) random rows; the rest keeps its order.

    Table 2 of Fu et al. trains on sets that each lack a random 10 %. The choice depends on idx and
    not on the order, as in `split_rows`. Raises InputError unless `fraction` is in [0, 1).
    """
    check_fraction(fraction)
    # Exact for the decimal that the user wrote: 0.29 * 100 is 28.999... in floats.
    count = math.floor(Fraction(str(fraction)) * len(rows))
    positions = list(range(len(rows)))
    if _unique_indices(rows):
        positions.sort(key=lambda position: rows[position]["idx"])
    generator = random.Random(seeds.derive(seed, "drop"))
    dropped = set(generator.sample(positions, count))
    return [row for position, row in enumerate(rows) if position not in dropped]


def check_fraction(fraction: float) -> None:
    """Raise InputError unless 0 <= fraction < 1."""
    is_number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if not is_number or not 0 <= fraction < 1:
        raise InputError(f"drop_train is {fraction!r}; it must be a number in [0, 1)")


def _published(rows: Sequence[dict], task: Task) -> tuple[list[dict], list[dict]]:
    wanted = published_dev_split()[task.like]
    where = f"task {task.name}: split is published"
    numbers = [row.get("idx") for row in rows]
    counts = Counter(number for number in numbers if number is not None)
    problems = []
    if None in numbers:
        problems.append(
            f"{where}, but {numbers.count(None)} of {len(rows)} rows have no idx, "
            f"the first is row {numbers.index(None) + 1} of train and val together"
        )
    if repeated := [number for number, count in counts.items() if count > 1]:
        problems.append(
            f"{where}, but {len(repeated)} idx occur more than once in train and val together, "
            f"the smallest is {min(repeated)}"
        )
    if absent := [number for number in wanted if number not in counts]:
        problems.append(
            f"{where}, but {len(absent)} of the {len(wanted)} idx of the authors' dev set are in "
            f"neither train nor val, the first is {absent[0]}; use split random or files for "
            "other data"
        )
    if not problems and not are_published(rows, task, "train_val"):
        problems.append(
            f"{where}, but the {len(rows)} rows of train and val together are not those that the "
            "authors divided: idx, texts or labels differ; use split random or files for other data"
        )
    if problems:
        raise InputError(*problems)
    members = set(wanted)
    rows = in_index_order(rows)
    train = [row for row in rows if row["idx"] not in members]
    return train, [row for row in rows if row["idx"] in members]


def _unique_indices(rows: Sequence[dict]) -> bool:
    numbers = {row.get("idx") for row in rows}
    return len(numbers) == len(rows) and None not in numbers
