"""Which rows choose the checkpoint, and which are left out."""

import hashlib
import random
from types import NoneType
from typing import get_args

import pytest
from support.refusals import refusal
from support.rows import cb

from jiant_sparse.data.split import (
    KINDS,
    check_split,
    default_split,
    drop,
    in_index_order,
    published_dev_split,
    split_rows,
)
from jiant_sparse.data.tasks import TASKS, variant
from jiant_sparse.errors import InputError
from jiant_sparse.schema.cell import Setup

PUBLISHED_SIZES = {
    "cola": (8551, 856, "c567de0a5d9c7618"),
    "stsb": (5749, 583, "6d858d80e1a81f38"),
    "mrpc": (3668, 374, "0a07cd61348ec866"),
    "rte": (2490, 249, "1be519b64206c6db"),
    "cb": (250, 25, "8cd9f5e5a5797f64"),
    "copa": (400, 40, "28298b53158cc2b0"),
    "wsc": (554, 59, "76fda5a3f6a9f016"),
}


def pool(size, *, seed=0):
    rows = [cb(index) for index in range(size)]
    random.Random(seed).shuffle(rows)
    return rows


def indices(rows):
    return [row["idx"] for row in rows]


def split(rows, kind, task="cb", seed=0):
    return split_rows(rows, kind, task=TASKS[task] if isinstance(task, str) else task, seed=seed)


def test_shipped_lists():
    lists = published_dev_split()
    assert list(lists) == list(PUBLISHED_SIZES)
    for name, (total, dev, digest) in PUBLISHED_SIZES.items():
        joined = ",".join(map(str, sorted(lists[name])))
        assert hashlib.sha256(joined.encode()).hexdigest()[:16] == digest
        assert len(set(lists[name])) == dev == total - 9 * (total // 10)


def test_published(as_published):
    task = variant("cb_again", like="cb")
    assert refusal(split, pool(250), "published", task) == (
        "task cb_again: split is published, but the 250 rows of train and val together are not "
        "those that the authors divided: idx, texts or labels differ; use split random or files "
        "for other data"
    )
    as_published(task, pool(250))
    train, dev = split(pool(250), "published")
    assert indices(dev) == list(published_dev_split()["cb"])
    assert indices(train) == sorted(set(range(250)) - set(indices(dev)))
    assert split(pool(250, seed=5), "published", task, seed=9) == (train, dev)


PUBLISHED = "split is published, but"
ABSENT = (
    f"task cb: {PUBLISHED} 3 of the 25 idx of the authors' dev set are in neither train nor val, "
    "the first is 217; use split random or files for other data"
)
NO_INDEX = (
    f"task cb: {PUBLISHED} 1 of 253 rows have no idx, the first is row 253 of train and val "
    "together"
)
TWICE = (
    f"task cb: {PUBLISHED} 2 idx occur more than once in train and val together, the smallest is 4"
)
UNSPLIT = (
    f"task sst: {PUBLISHED} the authors split only cola, stsb, mrpc, rte, cb, copa, wsc; allowed "
    "here are random, files, dev_as_test"
)
UNKNOWN = "did you mean published? known: published, random, files, dev_as_test"
DIVIDES = "only published and random divide a pool of rows"
FEW = "task rte: split is random, got 9 rows in train and val together; at least 10 are needed"


@pytest.mark.parametrize(
    ("rows", "kind", "task", "expected"),
    [
        (pool(200), "published", "cb", [ABSENT]),
        ([*pool(250), {"idx": 7}, {"idx": 4}, {"text": ""}], "published", "cb", [NO_INDEX, TWICE]),
        (pool(20), "published", "sst", [UNSPLIT]),
        (pool(20), "publishd", "cb", [f"split is 'publishd'; {UNKNOWN}"]),
        (pool(20), "files", "cb", [f"split is 'files'; {DIVIDES}"]),
        (pool(20), "dev_as_test", "cb", [f"split is 'dev_as_test'; {DIVIDES}"]),
        (pool(9), "random", "rte", [FEW]),
    ],
)
def test_refusals(rows, kind, task, expected):
    assert refusal(split, rows, kind, task).splitlines() == expected


@pytest.mark.parametrize("name", TASKS)
def test_kinds_by_task(name):
    assert default_split(TASKS[name]) == ("published" if name in PUBLISHED_SIZES else "files")
    assert default_split(variant("mine", like=name)) == "files"
    other_metric = variant(name, like=name, metric=TASKS[name].metrics[-1])
    assert default_split(other_metric) == default_split(TASKS[name])
    check_split("dev_as_test", TASKS[name])
    check_split("dev_as_test", variant("again", like=name))


def test_kinds_of_a_configuration():
    kinds, none = get_args(Setup.model_fields["split"].annotation)
    assert (get_args(kinds), none) == (KINDS, NoneType)


def test_index_order():
    assert indices(in_index_order(pool(30))) == list(range(30))
    for rows in ([{"idx": 1}, {"idx": 1}, {"idx": 0}], [{"idx": 1}, {}, {"idx": 0}]):
        assert in_index_order(rows) == rows


@pytest.mark.parametrize("size", [10, 19, 20, 554])
def test_random_is_a_partition_of_the_published_sizes(size):
    train, dev = split(pool(size), "random", "rte", seed=3)
    assert len(train) == 9 * (size // 10)
    assert sorted(indices(train) + indices(dev)) == list(range(size))
    assert indices(train) == sorted(indices(train))
    assert indices(dev) == sorted(indices(dev))


def test_random_and_drop_depend_on_seed_and_idx():
    def drawn(seed, order):
        rows = pool(100, seed=order)
        kept = drop(rows, 0.1, seed=seed)
        assert kept == [row for row in rows if row in kept]
        return split(rows, "random", "rte", seed=seed), {row["idx"] for row in kept}

    assert drawn(3, order=1) == drawn(3, order=2)
    assert all(one != other for one, other in zip(drawn(3, 1), drawn(4, 1), strict=True))
    # Without unique idx, on the position.
    rows = [{"idx": 0, "text": str(position)} for position in range(40)]
    train, dev = split(rows, "random", "sst")
    assert len(train) == 36 and train == [row for row in rows if row in train]
    same = [row | {"idx": index} for index, row in enumerate(rows)]
    assert [row["text"] for row in split(same, "random", "sst")[1]] == [row["text"] for row in dev]


@pytest.mark.parametrize(
    ("fraction", "size", "dropped"), [(0.0, 9, 0), (0.1, 225, 22), (0.29, 100, 29), (0.5, 1, 0)]
)
def test_drop_rounds_down(fraction, size, dropped):
    assert len(drop(pool(size), fraction, seed=1)) == size - dropped


@pytest.mark.parametrize("fraction", [1, 1.5, -0.1, float("nan"), True, "0.1"])
def test_wrong_fractions(fraction):
    with pytest.raises(InputError, match=r"drop_train is .*; it must be a number in \[0, 1\)"):
        drop(pool(10), fraction, seed=0)
