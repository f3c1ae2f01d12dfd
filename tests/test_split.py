import hashlib
import random
from types import NoneType
from typing import get_args

import pytest

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
    said = {"hypothesis": "h", "label": "neutral"}
    rows = [{"idx": index, "premise": f"row {index}", **said} for index in range(size)]
    random.Random(seed).shuffle(rows)
    return rows


def indices(rows):
    return [row["idx"] for row in rows]


def test_the_shipped_lists_are_the_authors_dev_sets():
    lists = published_dev_split()
    assert list(lists) == list(PUBLISHED_SIZES)
    for name, (total, dev, digest) in PUBLISHED_SIZES.items():
        joined = ",".join(map(str, sorted(lists[name])))
        assert hashlib.sha256(joined.encode()).hexdigest()[:16] == digest
        assert len(set(lists[name])) == dev == total - 9 * (total // 10)


def test_published_takes_the_listed_rows_in_index_order(as_published):
    as_published(TASKS["cb"], pool(250))
    train, dev = split_rows(pool(250), "published", task=TASKS["cb"], seed=0)
    assert indices(dev) == list(published_dev_split()["cb"])
    assert indices(train) == sorted(set(range(250)) - set(indices(dev)))
    again = split_rows(pool(250, seed=5), "published", task=TASKS["cb"], seed=9)
    assert again == (train, dev)


def test_published_is_for_variants_with_the_same_rows(as_published):
    task = variant("cb_again", like="cb")
    with pytest.raises(InputError) as caught:
        split_rows(pool(250), "published", task=task, seed=0)
    assert str(caught.value) == (
        "task cb_again: split is published, but the 250 rows of train and val together are not "
        "those that the authors divided: idx, texts or labels differ; use split random or files "
        "for other data"
    )
    as_published(task, pool(250))
    assert len(split_rows(pool(250), "published", task=task, seed=0)[1]) == 25


@pytest.mark.parametrize("name", TASKS)
def test_the_default_is_published_for_the_papers_tasks_alone(name):
    assert default_split(TASKS[name]) == ("published" if name in PUBLISHED_SIZES else "files")
    assert default_split(variant("mine", like=name)) == "files"
    assert default_split(variant(name, like=name, metric=TASKS[name].metrics[-1])) == (
        default_split(TASKS[name])
    )


def test_published_refuses_another_pool():
    with pytest.raises(InputError) as caught:
        split_rows(pool(200), "published", task=TASKS["cb"], seed=0)
    assert str(caught.value) == (
        "task cb: split is published, but 3 of the 25 idx of the authors' dev set are in neither "
        "train nor val, the first is 217; use split random or files for other data"
    )


def test_published_refuses_missing_and_repeated_indices():
    rows = [*pool(250), {"idx": 7}, {"idx": 4}, {"text": "none"}]
    with pytest.raises(InputError) as caught:
        split_rows(rows, "published", task=TASKS["cb"], seed=0)
    assert caught.value.problems == (
        "task cb: split is published, but 1 of 253 rows have no idx, the first is row 253 of "
        "train and val together",
        "task cb: split is published, but 2 idx occur more than once in train and val together, "
        "the smallest is 4",
    )


def test_published_refuses_a_task_that_the_authors_did_not_split():
    with pytest.raises(InputError) as caught:
        split_rows(pool(20), "published", task=TASKS["sst"], seed=0)
    assert str(caught.value) == (
        "task sst: split is published, but the authors split only cola, stsb, mrpc, rte, cb, "
        "copa, wsc; allowed here are random, files, dev_as_test"
    )


def test_unknown_kinds():
    with pytest.raises(InputError, match="split is 'publishd'; did you mean published[?] known"):
        split_rows(pool(20), "publishd", task=TASKS["cb"], seed=0)
    with pytest.raises(InputError, match="dev_as_tst'; did you mean dev_as_test[?] known: publ"):
        check_split("dev_as_tst", TASKS["cb"])
    for kind in ("files", "dev_as_test"):
        with pytest.raises(InputError) as caught:
            split_rows(pool(20), kind, task=TASKS["cb"], seed=0)
        assert str(caught.value) == (
            f"split is '{kind}'; only published and random divide a pool of rows"
        )


def test_a_configuration_takes_the_same_kinds():
    kinds, none = get_args(Setup.model_fields["split"].annotation)
    assert (get_args(kinds), none) == (KINDS, NoneType)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_may_have_its_test_set_for_dev(name):
    check_split("dev_as_test", TASKS[name])
    check_split("dev_as_test", variant("again", like=name))


def test_the_order_is_that_of_idx_or_where_it_says_nothing_of_the_rows():
    assert indices(in_index_order(pool(30))) == list(range(30))
    for rows in ([{"idx": 1}, {"idx": 1}, {"idx": 0}], [{"idx": 1}, {}, {"idx": 0}]):
        assert in_index_order(rows) == rows


@pytest.mark.parametrize("size", [10, 19, 20, 554])
def test_random_has_the_published_sizes_and_is_a_partition(size):
    train, dev = split_rows(pool(size), "random", task=TASKS["rte"], seed=3)
    assert len(train) == 9 * (size // 10)
    assert sorted(indices(train) + indices(dev)) == list(range(size))
    assert indices(train) == sorted(indices(train))
    assert indices(dev) == sorted(indices(dev))


def test_random_depends_on_the_seed_and_not_on_the_order():
    first = split_rows(pool(100, seed=1), "random", task=TASKS["rte"], seed=3)
    assert first == split_rows(pool(100, seed=2), "random", task=TASKS["rte"], seed=3)
    assert first != split_rows(pool(100, seed=1), "random", task=TASKS["rte"], seed=4)


def test_random_without_unique_indices_goes_by_position():
    rows = [{"idx": 0, "text": str(position)} for position in range(40)]
    train, dev = split_rows(rows, "random", task=TASKS["sst"], seed=0)
    assert len(train) == 36
    assert train == [row for row in rows if row in train]
    same = [{"idx": index, "text": str(index)} for index in range(40)]
    by_index = split_rows(same, "random", task=TASKS["sst"], seed=0)[1]
    assert [row["text"] for row in by_index] == [row["text"] for row in dev]


def test_random_needs_ten_rows():
    with pytest.raises(InputError, match="got 9 rows in train and val together; at least 10"):
        split_rows(pool(9), "random", task=TASKS["rte"], seed=0)


@pytest.mark.parametrize(
    ("fraction", "size", "dropped"), [(0.0, 9, 0), (0.1, 225, 22), (0.29, 100, 29), (0.5, 1, 0)]
)
def test_drop_leaves_out_the_floor(fraction, size, dropped):
    rows = pool(size)
    kept = drop(rows, fraction, seed=1)
    assert len(kept) == size - dropped
    assert kept == [row for row in rows if row in kept]


def test_which_rows_are_dropped_does_not_depend_on_their_order():
    first = {row["idx"] for row in drop(pool(100, seed=1), 0.1, seed=7)}
    assert first == {row["idx"] for row in drop(pool(100, seed=2), 0.1, seed=7)}
    assert first != {row["idx"] for row in drop(pool(100, seed=1), 0.1, seed=8)}


@pytest.mark.parametrize("fraction", [1, 1.5, -0.1, float("nan"), True, "0.1"])
def test_drop_refuses_other_fractions(fraction):
    with pytest.raises(InputError, match=r"drop_train is .*; it must be a number in \[0, 1\)"):
        drop(pool(10), fraction, seed=0)
