"""jiant's rows and batches: true labels, nothing lost unseen, padding without effect."""

import json

import numpy as np
import pytest
import torch

from jiant_sparse.errors import InputError
from jiant_sparse.host import compat, features, model

TASKS = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc", "sst", "qnli"]


@pytest.fixture(autouse=True)
def jiant_as_we_run_it():
    with compat.shims():
        yield


def build(task, data_dir, model_dir):
    paths = {phase: data_dir / task / f"{phase}.jsonl" for phase in ("train", "val", "test")}
    jiant_task = features.make_task(task, paths)
    torch.manual_seed(0)
    jiant_model = model.build(model.resolve(str(model_dir)), jiant_task, "pooler").eval()
    return jiant_task, jiant_model, paths


def load(task, jiant_model, path, length=64):
    return features.load_phase(task, path, jiant_model.tokenizer, jiant_model.encoder, length)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("encoder", ["bert_dir", "roberta_dir"])
def test_trimming_changes_no_logits(task, encoder, data_dir, request, monkeypatch):
    # As jiant pads without smart_truncate: every row to the longest length allowed.
    monkeypatch.setattr(features.preprocessing, "smart_truncate", lambda rows, n: (rows, n))
    jiant_task, jiant_model, paths = build(task, data_dir, request.getfixturevalue(encoder))
    rows = load(jiant_task, jiant_model, paths["train"]).rows
    padded, _ = jiant_task.collate_fn(rows[:6])
    trimmed = features.trim(padded)
    assert trimmed.input_ids.shape[-1] < padded.input_ids.shape[-1] == 64
    assert int(trimmed.input_mask.sum()) == int(padded.input_mask.sum())
    with torch.no_grad():
        logits = [jiant_model(batch, jiant_task)["logits"] for batch in (padded, trimmed)]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_test_labels_are_the_true_ones(task, data_dir, bert_dir):
    jiant_task, jiant_model, paths = build(task, data_dir, bert_dir)
    labels = load(jiant_task, jiant_model, paths["test"]).labels
    rows = [json.loads(line) for line in paths["test"].read_text().splitlines()]
    expected = [row["label"] for row in rows]
    if task != "stsb":
        names = getattr(jiant_task, "LABELS", [0, 1])
        expected = [list(names).index(label) for label in expected]
    np.testing.assert_array_equal(np.asarray(labels).ravel(), expected)
    assert len(set(map(float, expected))) > 1


def wsc_file(path, length, span2):
    """One sentence of `length` words with spans at word 0 and at word `span2`, and a short one."""
    words = ["king"] * length
    rows = [
        {
            "idx": index,
            "text": " ".join(text),
            "label": bool(index),
            "target": {
                "span1_index": 0, "span1_text": "king", "span2_index": at, "span2_text": "king",
            },
        }
        for index, (text, at) in enumerate([(words, span2), (["king"] * 5, 3)])
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_wsc_is_cut_to_length_and_examples_that_lose_a_span_are_counted(
    tmp_path, data_dir, bert_dir
):
    task, jiant_model, _ = build("wsc", data_dir, bert_dir)
    path = tmp_path / "wsc.jsonl"
    wsc_file(path, length=40, span2=20)
    phase = load(task, jiant_model, path, 32)
    assert (len(phase.rows), phase.dropped, len(phase.labels)) == (2, 0, 2)
    assert phase.rows[0]["data_row"].spans.tolist() == [[1, 1], [21, 21]]
    wsc_file(path, length=40, span2=30)
    phase = load(task, jiant_model, path, 32)
    assert (len(phase.rows), phase.dropped) == (1, 1)
    assert [int(label) for label in phase.labels] == [1]
    wsc_file(path, length=40, span2=29)
    assert load(task, jiant_model, path, 32).dropped == 0


def test_an_example_that_jiant_cannot_read_is_named(tmp_path, data_dir, bert_dir, monkeypatch):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    monkeypatch.setattr(jiant_model.tokenizer, "tokenize", lambda text: 1 / 0)
    with pytest.raises(InputError, match="val-[0-9]+: jiant cannot make features of it: Zero"):
        load(task, jiant_model, paths["val"])


def orders(**options) -> list[list[int]]:
    epochs = features.Epochs(None, list(range(10)), 4, **options)
    return [epochs.order(epoch).tolist() for epoch in range(3)]


def test_epochs_are_permutations_that_depend_on_seed_and_epoch_alone():
    first = orders(seed=1)
    np.random.rand(5), torch.rand(5)
    assert orders(seed=1) == first
    assert all(sorted(order) == list(range(10)) for order in first)
    assert len(set(map(tuple, first + orders(seed=2)))) == 6
    replayed = orders(seed=1, reshuffle=False)
    assert replayed == [first[0]] * 3


def test_batches_go_on_over_epochs_and_keep_the_last_short_one(data_dir, bert_dir):
    task, jiant_model, paths = build("cb", data_dir, bert_dir)
    rows = load(task, jiant_model, paths["val"]).rows
    epochs = features.Epochs(task, rows, 4, seed=0)
    sizes, seen = [], []
    for _ in range(6):
        batch, metadata = epochs.pop()
        sizes.append(len(batch))
        seen += metadata["example_id"]
    assert sizes == [4, 4, 2, 4, 4, 2]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
