"""The dev set: which rows of a task's original training set are kept for choosing a checkpoint.

Fu et al. cut the original training set in two and use the original dev set for testing. Their
own cut is known by membership, not by seed, and is shipped as published_dev_split.json: for each
of their seven tasks the `idx` of the rows in the dev set. Akbar-Tajari and Pilehvar train on the
whole training set and have the original dev set for both.
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

# Those that divide train.jsonl and val.jsonl, taken together, anew.
DIVIDING = ("published", "random")
# "files" takes the three files as they are; "dev_as_test" takes train and val, together, as train
# and test as dev too.
KINDS = (*DIVIDING, "files", "dev_as_test")


@functools.cache
def published_dev_split() -> dict[str, tuple[int, ...]]:
    """Sorted idx of the authors' dev rows, by task."""
    path = resources.files("jiant_sparse.data") / "published_dev_split.json"
    lists = json.loads(path.read_text(encoding="utf-8"))
    return {name: tuple(sorted(indices)) for name, indices in lists.items()}


def default_split(task: Task) -> str:
    """The authors' division for their own seven tasks, else the files as they are."""
    is_theirs = task.name == task.like and task.name in published_dev_split()
    return "published" if is_theirs else "files"


def check_split(kind: str, task: Task) -> None:
    """Raises InputError if `kind` is no way of splitting, or none that `task` has."""
    if kind not in KINDS:
        raise InputError(f"split is {kind!r}; {suggest(kind, KINDS)}")
    if kind == "published" and task.like not in published_dev_split():
        others = ", ".join(other for other in KINDS if other != kind)
        raise InputError(
            f"task {task.name}: split is published, but the authors split only "
            f"{', '.join(published_dev_split())}; allowed here are {others}"
        )


def check_dividing(kind: str, ends: str) -> None:
    """Raises InputError for a kind that divides nothing, where new files are to be written.

    ends: what stands in the error before the kinds that do.
    """
    if kind in KINDS and kind not in DIVIDING:
        raise InputError(
            f"split is {kind!r}, which a configuration may say of any data; {ends} "
            f"{' or '.join(DIVIDING)}"
        )


def split_rows(
    rows: Sequence[dict], kind: str, *, task: Task, seed: int
) -> tuple[list[dict], list[dict]]:
    """(train, dev), a partition of `rows`.

    rows: the whole original training set, in any order: membership and the order of the output
    depend on idx alone. Only a pool whose idx are missing or not unique (a file numbered anew
    after it was split, say) is taken in its own order.
    kind: "published" (the authors' membership, by idx; `seed` is not used) or "random" (9 *
    floor(n / 10) rows to train, the rest to dev: the size rule of the published files).

    Raises InputError if `kind` is neither, if the pool is not the one that the authors split, or
    if it is too small for 10 rows.
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
    """`rows` by rising idx; in their own order if these are missing or not unique."""
    return sorted(rows, key=lambda row: row["idx"]) if _unique_indices(rows) else list(rows)


def drop(rows: Sequence[dict], fraction: float, seed: int) -> list[dict]:
    """`rows` without floor(fraction * n) random ones, in the order given.

    Table 2 of Fu et al. trains on sets that each lack a random 10 %. Which rows go depends on
    idx and not on the order, as in `split_rows`.
    fraction: in [0, 1).

    Raises InputError if `fraction` is not in its range.
    """
    check_fraction(fraction)
    # As the decimal that the user wrote: 0.29 * 100 is 28.999... in floats.
    count = math.floor(Fraction(str(fraction)) * len(rows))
    positions = list(range(len(rows)))
    if _unique_indices(rows):
        positions.sort(key=lambda position: rows[position]["idx"])
    generator = random.Random(seeds.derive(seed, "drop"))
    dropped = set(generator.sample(positions, count))
    return [row for position, row in enumerate(rows) if position not in dropped]


def check_fraction(fraction: float) -> None:
    """Raises InputError unless 0 <= fraction < 1."""
    is_number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if not is_number or not 0 <= fraction < 1:
        raise InputError(f"drop_train is {fraction!r}; it must be a number in [0, 1)")


def _published(rows: Sequence[dict], task: Task) -> tuple[list[dict], list[dict]]:
    wanted = published_dev_split()[task.like]
    where = f"task {task.name}: split is published"
    numbers = [row.get("idx") for row in rows]
    problems = []
    without = numbers.count(None)
    if without:
        problems.append(
            f"{where}, but {without} of {len(rows)} rows have no idx, "
            f"the first is row {numbers.index(None) + 1} of train and val together"
        )
    counts = Counter(number for number in numbers if number is not None)
    twice = [number for number, count in counts.items() if count > 1]
    if twice:
        problems.append(
            f"{where}, but {len(twice)} idx occur more than once in train and val together, "
            f"the smallest is {min(twice)}"
        )
    absent = [number for number in wanted if number not in counts]
    if absent:
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
