"""Which rows are taken for the authors', and which are not."""

import random
from pathlib import Path

import pytest

from jiant_sparse.data.authors import are_published, digest, published_rows
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.synthetic import synthesize
from jiant_sparse.data.tasks import PHASES, TASKS, read_rows, variant

# Where `jiant-sparse data fetch` and the README put the real files.
REAL = Path(__file__).parent.parent / "data" / "tasks"
SEVEN = tuple(published_dev_split())


def rows_of(directory, name):
    """(train and val, test)."""
    train, val, test = (read_rows(directory / name / f"{p}.jsonl", TASKS[name]) for p in PHASES)
    return train + val, test


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    synthesize(path, [TASKS[name] for name in SEVEN], sizes={"train": 40, "val": 10, "test": 12})
    return path


@pytest.mark.parametrize("name", SEVEN)
def test_digests_of_the_real_files(name):
    if not (REAL / name).is_dir():
        pytest.skip("no real data")
    pool, test = rows_of(REAL, name)
    found = {"train_val": digest(pool, TASKS[name]), "test": digest(test, TASKS[name])}
    assert published_rows()[name] == found


def test_shipped_digests():
    found = published_rows()
    assert tuple(found) == SEVEN
    digests = [value for parts in found.values() for value in parts.values()]
    assert len({*digests}) == 14 and {len(value) for value in digests} == {64}
    rows = [{"idx": 0, "text": "a", "label": "0"}]
    assert not are_published(rows, TASKS["sst"], "train_val")


@pytest.mark.parametrize("name", SEVEN)
def test_any_order_and_name(synthetic, as_published, name):
    pool, test = rows_of(synthetic, name)
    pool = [row | {"idx": number} for number, row in enumerate(pool)]
    assert not are_published(pool, TASKS[name], "train_val")
    as_published(TASKS[name], pool, test)
    random.Random(0).shuffle(pool)
    again = variant("again", like=name)
    assert are_published(pool, TASKS[name], "train_val") and are_published(pool, again, "train_val")
    assert are_published(test, TASKS[name], "test")
    assert not are_published(test, TASKS[name], "train_val")
    assert not are_published(pool[1:], TASKS[name], "train_val")
    assert not are_published([*pool, pool[0]], TASKS[name], "train_val")


CB = [
    {"idx": i, "premise": f"A  b\n{i}.", "hypothesis": "café", "label": label, "more": i}
    for i, label in enumerate(("neutral", "entailment", "contradiction", "neutral"))
]
NAMES = {"neutral": "contradiction", "entailment": "neutral", "contradiction": "entailment"}


@pytest.mark.parametrize(
    ("rows", "same"),
    [
        ([row | {"premise": f" A b {row['idx']}. "} for row in CB], True),
        ([row | {"hypothesis": "cafe\u0301"} for row in CB], True),
        ([row | {"label": NAMES[row["label"]]} for row in CB], True),
        ([row | {"more": 0} for row in CB], True),
        ([row | {"premise": row["premise"].lower()} for row in CB], False),
        ([row | {"premise": row["premise"][:-1]} for row in CB], False),
        ([row | {"idx": row["idx"] + 1} for row in CB], False),
        ([row | {"label": "neutral"} for row in CB], False),
        ([*CB[:-1], CB[-1] | {"label": "entailment"}], False),
        ([{key: value for key, value in row.items() if key != "idx"} for row in CB], False),
        ([row | {"idx": 0} for row in CB], False),
    ],
)
def test_same_rows(rows, same):
    assert (digest(rows, TASKS["cb"]) == digest(CB, TASKS["cb"])) is same


def test_spans_choices_and_scores():
    spans = {"span1_index": 0, "span1_text": "A", "span2_index": 1, "span2_text": "b"}
    wsc = [{"idx": 0, "text": "A b", "target": spans, "label": True}]
    moved = [wsc[0] | {"target": spans | {"span2_index": 0}}]
    assert digest(wsc, TASKS["wsc"]) != digest(moved, TASKS["wsc"])
    more = [wsc[0] | {"target": spans | {"note": 1}}]
    assert digest(wsc, TASKS["wsc"]) == digest(more, TASKS["wsc"])
    copa = {"idx": 0, "premise": "a", "choice1": "b", "choice2": "c", "label": 0}
    cause, effect = ([copa | {"question": word}] for word in ("cause", "effect"))
    assert digest(cause, TASKS["copa"]) != digest(effect, TASKS["copa"])
    pair = {"idx": 0, "text_a": "a", "text_b": "b"}
    score, hub, other = ([pair | {"label": x}] for x in (3.643, 3.6429998874664307, 3.644))
    assert digest(score, TASKS["stsb"]) == digest(hub, TASKS["stsb"])
    assert digest(score, TASKS["stsb"]) != digest(other, TASKS["stsb"])
