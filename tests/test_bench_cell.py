"""A step on a task's own batches: four forms of the same rows."""

import json

import pytest
from transformers import BertConfig

from jiant_sparse.bench import cell, contenders
from jiant_sparse.bench.models import Setting
from jiant_sparse.errors import InputError


@pytest.fixture
def measured(tmp_path, data_dir, bert_dir):
    def run(*tasks, only=("full", "lora"), **options):
        shape = json.loads((bert_dir / "config.json").read_text())
        BertConfig(**{**shape, "vocab_size": 30}).save_pretrained(tmp_path / "shape")
        setting = Setting(str(tmp_path / "shape"), batch_size=12, sequence_length=64)
        options = {"tasks": tasks, "repeats": 2, "only": only} | options
        return list(cell.run(setting, data_dir, str(bert_dir), **options))

    return run


def test_four_forms_of_each_contender_and_task(measured):
    rows = measured("cola", "copa")
    assert [(row["task"], row["contender"], row["form"]) for row in rows] == [
        (task, contender, form)
        for task in ("cola", "copa")
        for contender in ("full", "lora")
        for form in cell.FORMS
    ]
    for start in range(0, len(rows), 4):
        packed, trimmed, jiant, ideal = (row["tokens"] for row in rows[start : start + 4])
        assert packed < trimmed <= jiant
        assert abs(ideal - packed) <= (12 if rows[start]["task"] == "copa" else 6)
    assert all(row["ratio_to_trimmed"] == 1 for row in rows if row["form"] == "trimmed")


def test_unknown_names_are_refused(measured):
    with pytest.raises(InputError, match="contender 'fulll' is unknown; did you mean full"):
        measured("cola", only=("fulll",))
    with pytest.raises(InputError, match="task 'colla' is unknown; did you mean cola"):
        measured("colla")


def test_missing_data_are_named(tmp_path, bert_dir):
    found = cell.run(
        Setting("minilm"), tmp_path, str(bert_dir), tasks=["cb"], repeats=1, only=["full"]
    )
    with pytest.raises(InputError, match="cb/train.jsonl: cannot be read: No such file"):
        list(found)


def test_a_group_of_contenders(measured, monkeypatch):
    """`ours` stands for all of its names, as in `bench step`, and is not left out in silence."""
    monkeypatch.setattr(cell, "_measured", lambda name, *rest: [name])
    assert measured("cola", only=("ours",)) == list(contenders.under("ours"))
    assert measured("cola", only=("lora", "bound")) == ["bound", "lora"]
