import json
import multiprocessing

import pytest

from jiant_sparse import files
from jiant_sparse.data.prepare import prepare
from jiant_sparse.data.split import KINDS, published_dev_split
from jiant_sparse.data.tasks import PHASES, TASKS
from jiant_sparse.errors import InputError

CB = TASKS["cb"]


def row(index):
    label = ("entailment", "neutral", "contradiction")[index % 3]
    return {"premise": f"p {index} é", "hypothesis": "h", "label": label, "idx": index}


def write(data_dir, phase, rows):
    path = data_dir / "cb" / f"{phase}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def data_dir(tmp_path, as_published):
    """CB's 250 idx, split as the authors did, in falling order; taken for the authors' rows."""
    dev = set(published_dev_split()["cb"])
    pool = [row(index) for index in reversed(range(250))]
    write(tmp_path / "data", "train", [each for each in pool if each["idx"] not in dev])
    write(tmp_path / "data", "val", [each for each in pool if each["idx"] in dev])
    write(tmp_path / "data", "test", [row(index) for index in range(12)])
    as_published(CB, pool, [row(index) for index in range(12)])
    return tmp_path / "data"


def test_files_are_used_as_they_are(data_dir, tmp_path):
    data = prepare(CB, data_dir, tmp_path / "cache", split_seed=4, seed=5)
    assert data.task is CB
    assert data.paths == {phase: data_dir / "cb" / f"{phase}.jsonl" for phase in PHASES}
    assert all(path.is_absolute() for path in data.paths.values())
    assert data.sha256 == {phase: files.sha256(path) for phase, path in data.paths.items()}
    assert data.examples == {"train": 225, "val": 25, "test": 12}
    assert not (tmp_path / "cache").exists()


def test_relative_directories_give_absolute_paths(data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    data = prepare(CB, Path("data"), Path("cache"), split="random")
    assert all(path.is_absolute() and path.is_file() for path in data.paths.values())


def test_published_holds_the_same_rows_if_the_disk_does(data_dir, tmp_path):
    data = prepare(CB, data_dir, tmp_path / "cache", split="published")
    for phase in ("train", "val"):
        assert data.paths[phase].is_relative_to(tmp_path / "cache" / "cb")
        original = read(data_dir / "cb" / f"{phase}.jsonl")
        assert read(data.paths[phase]) == sorted(original, key=lambda each: each["idx"])
    assert data.paths["test"] == data_dir / "cb" / "test.jsonl"
    assert data.examples == {"train": 225, "val": 25, "test": 12}


def test_dev_as_test_trains_on_both_files_and_scores_on_the_third(data_dir, tmp_path):
    data = prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test", split_seed=4, seed=5)
    # The fixture has both in falling order and dev apart: the whole set by idx, none twice.
    assert read(data.paths["train"]) == [row(index) for index in range(250)]
    assert data.paths["train"].is_relative_to(tmp_path / "cache" / "cb")
    assert data.paths["val"] == data.paths["test"] == data_dir / "cb" / "test.jsonl"
    assert data.examples == {"train": 250, "val": 12, "test": 12}
    assert data.sha256 == {phase: files.sha256(path) for phase, path in data.paths.items()}
    assert [path.name for path in (tmp_path / "cache").rglob("*.jsonl")] == ["train.jsonl"]
    assert prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test") == data


def test_dev_as_test_needs_all_three_files(data_dir, tmp_path):
    """The whole training set is what it says; half of it would be another experiment."""
    (data_dir / "cb" / "val.jsonl").unlink()
    with pytest.raises(InputError, match="cb/val.jsonl: cannot be read"):
        prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test")


def test_dev_as_test_is_of_the_content_of_both_files(data_dir, tmp_path):
    first = prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test")
    pool = read(data_dir / "cb" / "train.jsonl") + read(data_dir / "cb" / "val.jsonl")
    write(data_dir, "train", pool[30:])
    write(data_dir, "val", pool[:30])
    second = prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test")
    assert first.sha256 == second.sha256
    assert first.paths["train"] != second.paths["train"]
    write(data_dir, "val", [each | {"premise": "other"} for each in pool[:30]])
    third = prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test")
    assert third.sha256["train"] != second.sha256["train"]
    assert third.paths["train"] != second.paths["train"]


def test_dev_as_test_numbered_after_splitting_keeps_the_order_of_the_files(data_dir, tmp_path):
    """SST-2's files: idx counts from 0 in each."""
    for phase, size in (("train", 5), ("val", 3)):
        rows = [row(index) | {"hypothesis": phase} for index in reversed(range(size))]
        write(data_dir, phase, rows)
    data = prepare(CB, data_dir, tmp_path / "cache", split="dev_as_test")
    found = [(each["hypothesis"], each["idx"]) for each in read(data.paths["train"])]
    assert found == [("train", n) for n in (4, 3, 2, 1, 0)] + [("val", n) for n in (2, 1, 0)]


@pytest.mark.parametrize("split", KINDS)
def test_whose_rows_they_are_is_told(data_dir, tmp_path, split):
    def told():
        return prepare(CB, data_dir, tmp_path / "cache", split=split, drop_train=0.1).published

    assert told() == {"train_val": True, "test": True}
    write(data_dir, "test", [row(index) for index in range(11)])
    assert told() == {"train_val": True, "test": False}
    write(data_dir, "val", [row(10)])
    if split == "published":
        with pytest.raises(InputError, match="task cb: split is published, but 24 of the 25 idx"):
            told()
    else:
        assert told() == {"train_val": False, "test": False}


def test_one_file_and_split_files_give_the_same_bytes(data_dir, tmp_path):
    first = prepare(CB, data_dir, tmp_path / "cache", split="random", split_seed=1)
    pool = read(data_dir / "cb" / "train.jsonl") + read(data_dir / "cb" / "val.jsonl")
    write(data_dir, "train", pool[30:])
    write(data_dir, "val", pool[:30])
    second = prepare(CB, data_dir, tmp_path / "cache", split="random", split_seed=1)
    assert first.sha256 == second.sha256
    assert first.paths["train"] != second.paths["train"]


def test_the_folder_names_what_made_the_files(data_dir, tmp_path):
    def folder(**settings):
        return prepare(CB, data_dir, tmp_path / "cache", **settings).paths["train"].parent

    random = folder(split="random")
    # The seed of the dropped rows is no part of it while none is dropped.
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


def test_dropping_changes_only_train(data_dir, tmp_path):
    whole = read(data_dir / "cb" / "train.jsonl")
    data = prepare(CB, data_dir, tmp_path / "cache", drop_train=0.1, seed=2)
    kept = read(data.paths["train"])
    assert len(kept) == data.examples["train"] == 225 - 22
    assert kept == [each for each in whole if each in kept]
    assert data.paths["val"] == data_dir / "cb" / "val.jsonl"
    published = prepare(CB, data_dir, tmp_path / "c", split="published", drop_train=0.1, seed=2)
    assert {each["idx"] for each in read(published.paths["train"])} == {
        each["idx"] for each in kept
    }
    whole = prepare(CB, data_dir, tmp_path / "d", split="dev_as_test", drop_train=0.1, seed=2)
    found = [each["idx"] for each in read(whole.paths["train"])]
    assert len(found) == whole.examples["train"] == 250 - 25
    assert found == sorted(set(found))
    assert whole.paths["val"] == whole.paths["test"]


def test_a_right_file_is_left_and_a_wrong_one_replaced(data_dir, tmp_path):
    data = prepare(CB, data_dir, tmp_path / "cache", split="random")
    before = data.paths["train"].stat().st_ino
    data.paths["val"].write_text("cut sho")
    again = prepare(CB, data_dir, tmp_path / "cache", split="random")
    assert again == data
    assert data.paths["train"].stat().st_ino == before
    assert files.sha256(data.paths["val"]) == data.sha256["val"]


def _prepare_random(arguments):
    data_dir, cache_dir = arguments
    return prepare(CB, data_dir, cache_dir, split="random").sha256


def test_processes_may_race(data_dir, tmp_path):
    with multiprocessing.get_context("fork").Pool(4) as workers:
        results = workers.map(_prepare_random, [(data_dir, tmp_path / "cache")] * 8)
    assert all(result == results[0] for result in results)
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert sorted(left) == ["train.jsonl", "val.jsonl"]


def test_the_problems_of_all_files_come_at_once(data_dir, tmp_path):
    write(data_dir, "train", [row(0) | {"label": "maybe"}])
    write(data_dir, "val", [])
    (data_dir / "cb" / "test.jsonl").unlink()
    with pytest.raises(InputError) as caught:
        prepare(CB, data_dir, tmp_path / "cache")
    train, val, test = caught.value.problems
    assert train.endswith(
        'cb/train.jsonl:1: label is "maybe"; allowed are "neutral", "entailment", "contradiction"'
    )
    assert val.endswith("cb/val.jsonl: the file is empty; expected one JSON object per line")
    assert "cb/test.jsonl: cannot be read: No such file or directory" in test


def test_a_missing_task_says_what_to_do(data_dir, tmp_path):
    with pytest.raises(InputError, match=r"cola: there is no such folder .*data synthesize"):
        prepare(TASKS["cola"], data_dir, tmp_path / "cache")


def test_settings_are_checked(data_dir, tmp_path):
    with pytest.raises(InputError, match="split is 'half'; known: published, random, files, dev"):
        prepare(CB, data_dir, tmp_path, split="half")
    with pytest.raises(InputError, match=r"drop_train is 1.0; it must be a number in \[0, 1\)"):
        prepare(CB, data_dir, tmp_path, drop_train=1.0)
    write(data_dir, "val", [row(10)])
    with pytest.raises(InputError, match="24 of the 25 idx of the authors' dev set are in neither"):
        prepare(CB, data_dir, tmp_path, split="published")
