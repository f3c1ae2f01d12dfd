import json
import multiprocessing

import pytest

from jiant_sparse import files
from jiant_sparse.data.prepare import prepare
from jiant_sparse.data.split import published_dev_split
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
def data_dir(tmp_path):
    """CB's 250 idx, split as the authors did, in falling order."""
    dev = set(published_dev_split()["cb"])
    pool = [row(index) for index in reversed(range(250))]
    write(tmp_path / "data", "train", [each for each in pool if each["idx"] not in dev])
    write(tmp_path / "data", "val", [each for each in pool if each["idx"] in dev])
    write(tmp_path / "data", "test", [row(index) for index in range(12)])
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
    assert "cb/test.jsonl: cannot be read (No such file or directory)" in test


def test_a_missing_task_says_what_to_do(data_dir, tmp_path):
    with pytest.raises(InputError, match=r"cola: there is no such folder .*data synthesize"):
        prepare(TASKS["cola"], data_dir, tmp_path / "cache")


def test_settings_are_checked(data_dir, tmp_path):
    with pytest.raises(InputError, match="split is 'half'; known: published, random, files"):
        prepare(CB, data_dir, tmp_path, split="half")
    with pytest.raises(InputError, match=r"drop_train is 1.0; it must be a number in \[0, 1\)"):
        prepare(CB, data_dir, tmp_path, drop_train=1.0)
    write(data_dir, "val", [row(10)])
    with pytest.raises(InputError, match="24 of the 25 idx of the authors' dev set are in neither"):
        prepare(CB, data_dir, tmp_path, split="published")
