"""Padding counted: three contenders on the batches of training, against sums made by hand."""

import json
import shutil

import numpy as np
import pytest
import transformers
from jiant.utils.python.datastructures import ExtendedDataClassMixin

from jiant_sparse.bench import padding
from jiant_sparse.errors import InputError

SIZES = {"batch_size": 4, "max_seq_length": 64, "window": 3}
CONTENDERS = ["jiant", "trimmed", "grouped"]


def count(data_dir, model_dir, *tasks, **options) -> list[dict]:
    return list(padding.run(data_dir, str(model_dir), tasks=tasks, **SIZES | options))


def token_counts(path, model_dir) -> np.ndarray:
    """Tokens of each sentence of a file, with [CLS] and [SEP]; by transformers, not by jiant."""
    tokenizer = transformers.BertTokenizer.from_pretrained(model_dir)
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    return np.array([len(tokenizer(text)["input_ids"]) for text in texts])


def test_each_task_has_one_line_per_contender(data_dir, bert_dir):
    lines = count(data_dir, bert_dir, "cola", "copa", "wsc")
    assert [(line["task"], line["contender"]) for line in lines] == [
        (task, contender) for task in ("cola", "copa", "wsc") for contender in CONTENDERS
    ]
    for line in lines:
        assert list(line) == [
            "bench", "task", "contender", "examples", "real_tokens", "computed_tokens", "ratio",
            "batch_size", "max_seq_length", "window",
        ]  # fmt: skip
        assert line["bench"] == "padding" and line["examples"] == 24
        assert line["ratio"] == line["computed_tokens"] / line["real_tokens"] >= 1
        assert SIZES.items() <= line.items()


def test_the_sums_are_those_of_the_tokenizer(data_dir, bert_dir):
    found = token_counts(data_dir / "cola" / "train.jsonl", bert_dir)
    jiant, trimmed, grouped = count(data_dir, bert_dir, "cola")
    assert {line["real_tokens"] for line in (jiant, trimmed, grouped)} == {int(found.sum())}
    assert jiant["computed_tokens"] == 24 * found.max()
    # 24 rows in batches of 4: no order computes less than that by length.
    least = 4 * np.sort(found).reshape(6, 4).max(1).sum()
    assert least <= grouped["computed_tokens"] < trimmed["computed_tokens"]
    assert trimmed["computed_tokens"] < jiant["computed_tokens"]
    assert count(data_dir, bert_dir, "cola", window=6)[2]["computed_tokens"] == least


def test_a_short_last_batch_counts_and_so_does_every_epoch(tmp_path, data_dir, bert_dir):
    (tmp_path / "cola").mkdir()
    shutil.copy(data_dir / "cola" / "val.jsonl", tmp_path / "cola" / "train.jsonl")
    found = token_counts(tmp_path / "cola" / "train.jsonl", bert_dir)
    for batch_size in (1, 4):
        options = {"batch_size": batch_size, "epochs": 3}
        jiant, trimmed, _ = lines = count(tmp_path, bert_dir, "cola", **options)
        assert {line["examples"] for line in lines} == {10}
        assert {line["real_tokens"] for line in lines} == {3 * int(found.sum())}
        assert jiant["computed_tokens"] == 3 * 10 * found.max()
        assert (trimmed["ratio"] == 1) == (batch_size == 1)
    # All ten in one batch: nothing is left to trim.
    assert len({line["ratio"] for line in count(tmp_path, bert_dir, "cola", batch_size=16)}) == 1


def test_both_choices_of_copa_count(data_dir, bert_dir, roberta_dir):
    for model_dir in (bert_dir, roberta_dir):
        jiant, trimmed, _ = count(data_dir, model_dir, "copa", batch_size=1)
        assert jiant["computed_tokens"] % (24 * 2) == 0
        assert jiant["real_tokens"] < trimmed["computed_tokens"] < jiant["computed_tokens"]


def test_rows_are_cut_at_max_seq_length(data_dir, bert_dir):
    jiant, *_ = count(data_dir, bert_dir, "rte", max_seq_length=8)
    assert jiant["computed_tokens"] == jiant["real_tokens"] == 24 * 8


def test_no_weights_are_loaded_and_jiant_is_left_as_it_was(data_dir, bert_dir, monkeypatch):
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", None)
    plain = ExtendedDataClassMixin.__dict__["get_annotations"]
    for _ in padding.run(data_dir, str(bert_dir), tasks=["copa"], **SIZES):
        assert ExtendedDataClassMixin.__dict__["get_annotations"] is plain


def test_every_problem_is_told_at_once_and_before_anything_is_counted(tmp_path, data_dir, bert_dir):
    shutil.copytree(data_dir / "cb", tmp_path / "cb")
    (tmp_path / "cb" / "train.jsonl").write_text("{}\n")
    with pytest.raises(InputError) as caught:
        # Not a step of the iterator is asked for.
        padding.run(
            tmp_path, str(bert_dir), tasks=["cola", "colla", "cb"],
            batch_size=0, max_seq_length=131, window=1, epochs=0,
        )  # fmt: skip
    start = [
        "batch_size is 0; it must be at least 1",
        "window is 1; it must be at least 2",
        "epochs is 0; it must be at least 1",
        f"max_seq_length is 131; with {bert_dir} it must be from 8 to 130",
    ]
    assert list(caught.value.problems[:4]) == start
    missing, unknown, *bad = caught.value.problems[4:]
    assert missing.startswith(f"{tmp_path / 'cola' / 'train.jsonl'}: cannot be read: No such file")
    assert unknown.startswith("task 'colla' is unknown; did you mean cola?")
    assert bad and all(str(tmp_path / "cb" / "train.jsonl:1") in problem for problem in bad)
