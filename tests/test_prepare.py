"""The three files of a cell, as they are or derived by a split."""

import multiprocessing
from pathlib import Path

import pytest
from support import rows as rows_on_disk
from support.refusals import refusal
from support.rows import cb, read

from jiant_sparse import files
from jiant_sparse.data.prepare import prepare
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.tasks import PHASES, TASKS
from jiant_sparse.errors import InputError

CB = TASKS["cb"]


def row(index):
    return cb(index, ("entailment", "neutral", "contradiction")[index % 3])


def write(data_dir, phase, rows):
    rows_on_disk.write(data_dir / "cb" / f"{phase}.jsonl", rows)


@pytest.fixture
def data_dir(tmp_path, as_published):
    """CB's 250 idx, split as the authors did, in falling order; taken for the authors' rows."""
    dev = set(published_dev_split()["cb"])
    rows = [row(index) for index in reversed(range(250))]
    write(tmp_path / "data", "train", [each for each in rows if each["idx"] not in dev])
    write(tmp_path / "data", "val", [each for each in rows if each["idx"] in dev])
    write(tmp_path / "data", "test", [row(index) for index in range(12)])
    as_published(CB, rows, [row(index) for index in range(12)])
    return tmp_path / "data"


@pytest.fixture
def prepared(data_dir, tmp_path):
    return lambda **settings: prepare(CB, data_dir, tmp_path / "cache", **settings)


def test_files(data_dir, tmp_path, prepared):
    data = prepared(split_seed=4, seed=5)
    assert data.task is CB
    assert data.paths == {phase: data_dir / "cb" / f"{phase}.jsonl" for phase in PHASES}
    assert data.sha256 == {phase: files.sha256(path) for phase, path in data.paths.items()}
    assert data.examples == {"train": 225, "val": 25, "test": 12}
    assert not (tmp_path / "cache").exists()


def test_published(data_dir, tmp_path, prepared, monkeypatch):
    data = prepared(split="published")
    for phase in ("train", "val"):
        assert data.paths[phase].is_relative_to(tmp_path / "cache" / "cb")
        original = read(data_dir / "cb" / f"{phase}.jsonl")
        assert read(data.paths[phase]) == sorted(original, key=lambda each: each["idx"])
    assert data.paths["test"] == data_dir / "cb" / "test.jsonl"
    assert data.examples == {"train": 225, "val": 25, "test": 12}
    monkeypatch.chdir(tmp_path)
    assert prepare(CB, Path("data"), Path("cache"), split="published") == data


def test_dev_as_test(data_dir, tmp_path, prepared):
    data = prepared(split="dev_as_test", split_seed=4, seed=5)
    # The whole set by idx, each row once, although the files are in falling order.
    assert read(data.paths["train"]) == [row(index) for index in range(250)]
    assert data.paths["train"].is_relative_to(tmp_path / "cache" / "cb")
    assert data.paths["val"] == data.paths["test"] == data_dir / "cb" / "test.jsonl"
    assert data.examples == {"train": 250, "val": 12, "test": 12}
    assert data.sha256 == {phase: files.sha256(path) for phase, path in data.paths.items()}
    assert [path.name for path in (tmp_path / "cache").rglob("*.jsonl")] == ["train.jsonl"]
    assert prepared(split="dev_as_test") == data
    write(
        data_dir, "val", [each | {"premise": "other"} for each in read(data_dir / "cb/val.jsonl")]
    )
    assert prepared(split="dev_as_test").sha256["train"] != data.sha256["train"]
    # Half of the training set would be another experiment.
    (data_dir / "cb" / "val.jsonl").unlink()
    assert "cb/val.jsonl: cannot be read" in refusal(prepared, split="dev_as_test")


def test_published_rows(data_dir, prepared):
    def told():
        return prepared(split="dev_as_test", drop_train=0.1).published

    assert told() == {"train_val": True, "test": True}
    write(data_dir, "test", [row(index) for index in range(11)])
    assert told() == {"train_val": True, "test": False}
    write(data_dir, "val", [row(10)])
    assert told() == {"train_val": False, "test": False}
    assert "task cb: split is published, but 24 of the 25 idx" in refusal(
        prepared, split="published"
    )


def test_bytes_do_not_depend_on_the_division_of_the_files(data_dir, prepared):
    rows = read(data_dir / "cb" / "train.jsonl") + read(data_dir / "cb" / "val.jsonl")
    first = prepared(split="random")
    write(data_dir, "train", rows[30:])
    write(data_dir, "val", rows[:30])
    second = prepared(split="random")
    assert first.sha256 == second.sha256
    assert first.paths["train"] != second.paths["train"]


def test_folder_name(prepared):
    def folder(**settings):
        return prepared(**settings).paths["train"].parent

    random = folder(split="random")
    # The seed of the dropped rows does not count while none is dropped.
    assert folder(split="random", seed=3) == random
    assert folder(split="random", split_seed=1) != random
    dropped = folder(split="random", drop_train=0.1)
    assert dropped != random
    assert folder(split="random", drop_train=0.1, seed=3) != dropped
    assert folder(split="published", split_seed=1) == folder(split="published")
    whole = folder(split="dev_as_test")
    assert folder(split="dev_as_test", split_seed=1, seed=3) == whole
    assert whole not in (random, dropped, folder(split="published"))
    assert folder(split="dev_as_test", drop_train=0.1) not in (whole, dropped)


def test_drop_train(data_dir, prepared):
    whole = read(data_dir / "cb" / "train.jsonl")
    data, both = (
        prepared(split=split, drop_train=0.1, seed=2) for split in ("files", "dev_as_test")
    )
    kept = read(data.paths["train"])
    assert len(kept) == data.examples["train"] == 225 - 22
    assert kept == [each for each in whole if each in kept]
    assert data.paths["val"] == data_dir / "cb" / "val.jsonl"
    found = [each["idx"] for each in read(both.paths["train"])]
    assert len(found) == both.examples["train"] == 250 - 25
    assert found == sorted(set(found))
    assert both.paths["val"] == both.paths["test"]


def test_right_files_stay_and_wrong_ones_are_replaced(prepared):
    data = prepared(split="random")
    before = data.paths["train"].stat().st_ino
    data.paths["val"].write_text("cut sho")
    assert prepared(split="random") == data
    assert data.paths["train"].stat().st_ino == before
    assert files.sha256(data.paths["val"]) == data.sha256["val"]


def _prepare_random(arguments):
    return prepare(CB, *arguments, split="random").sha256


def test_processes_may_race(data_dir, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as workers:
        results = workers.map(_prepare_random, [(data_dir, tmp_path / "cache")] * 8)
    assert all(result == results[0] for result in results)
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(left) == ["train.jsonl", "val.jsonl"]


def test_problems_of_all_files(data_dir, tmp_path, prepared):
    write(data_dir, "train", [row(0) | {"label": "maybe"}])
    write(data_dir, "val", [])
    (data_dir / "cb" / "test.jsonl").unlink()
    train, val, test = refusal(prepared).splitlines()
    assert train.endswith(
        'cb/train.jsonl:1: label is "maybe"; allowed are "neutral", "entailment", "contradiction"'
    )
    assert val.endswith("cb/val.jsonl: the file is empty; expected one JSON object per line")
    assert "cb/test.jsonl: cannot be read: No such file or directory" in test
    with pytest.raises(InputError, match=r"cola: there is no such folder .*data synthesize"):
        prepare(TASKS["cola"], data_dir, tmp_path / "cache")


def test_wrong_settings(prepared):
    assert "split is 'half'; known: published, random, files, dev" in refusal(
        prepared, split="half"
    )
    assert "drop_train is 1.0; it must be" in refusal(prepared, drop_train=1.0)
