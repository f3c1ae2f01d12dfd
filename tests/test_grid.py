"""Cells minus done cells: what runs, what is skipped, what fails alone."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jiant_sparse.benchmark import config, grid, plan, record
from jiant_sparse.benchmark.manifest import Manifest
from jiant_sparse.errors import InputError


@pytest.fixture
def raw(data_dir, bert_dir) -> dict:
    return {
        "benchmark": "a/b",
        "model": str(bert_dir),
        "data_dir": str(data_dir),
        "split": "files",
        "seeds": [0],
        "train": {"max_steps": 2, "eval_every": 2, "batch_size": 4, "max_seq_length": 64},
        "tasks": {"cb": {}},
        "methods": {"full_tuning": {}, "bitfit": {}},
    }


def jobs_of(raw, output, only=None):
    return plan.plan(config.parse(raw, "f"), output, plan.parse_only(only))


def run(jobs, workers=1) -> list[record.Record]:
    ended = []
    grid.run(jobs, workers=workers, notify=ended.append)
    return ended


def test_a_failed_cell_leaves_a_record_and_the_others_go_on(raw, tmp_path):
    raw["methods"]["wild"] = {
        "method": "full_tuning",
        "train": {"learning_rate": 1e30, "warmup_fraction": 0, "max_steps": 9},
    }
    raw["methods"] = {name: raw["methods"][name] for name in ("wild", "full_tuning", "bitfit")}
    jobs = jobs_of(raw, tmp_path)
    ended = {result.cell.method: result for result in run(jobs)}
    assert {name: result.status for name, result in ended.items()} == {
        "wild": "failed", "full_tuning": "ok", "bitfit": "ok",
    }  # fmt: skip
    assert "at step" in plan.read_record(jobs[0]).error
    assert plan.missing(jobs) == []
    assert plan.missing(jobs, retry_failed=True) == jobs[:1]


def _die(job, started):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_fails_its_cell_only(raw, tmp_path, monkeypatch):
    jobs = jobs_of(raw, tmp_path)
    monkeypatch.setattr(grid, "_work", _die)
    ended = run(jobs)
    assert [result.status for result in ended] == ["failed", "failed"]
    assert plan.read_record(jobs[1]).error.startswith("the worker process died")


def test_a_record_that_cannot_be_written_ends_the_grid(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path)
    jobs[0].directory.parent.parent.mkdir(parents=True)
    jobs[0].directory.parent.touch()
    with pytest.raises(OSError, match="File exists|Not a directory"):
        run(jobs)


def test_a_worker_ends_with_its_parent(raw, tmp_path):
    """A grid killed outright leaves nobody computing."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os\n"
        "from jiant_sparse.benchmark import grid\n"
        "if __name__ == '__main__':\n"
        "    context = multiprocessing.get_context('spawn')\n"
        "    child = context.Process(target=grid._end_with, args=(os.getpid(),))\n"
        "    child.start(); print(child.pid, flush=True); child.join()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment
    )
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(300):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child outlived its parent")


def test_stopping_leaves_the_cells_that_were_running_to_be_run(raw, tmp_path):
    raw["methods"] = {"bitfit": {}, "full_tuning": {"train": {"max_steps": 100_000}}}
    jobs = jobs_of(raw, tmp_path)

    def interrupt(result):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grid.run(jobs, workers=1, notify=interrupt)
    assert plan.missing(jobs) == jobs[1:]
    assert not multiprocessing.active_children()


def test_what_is_done_is_not_run_again_and_other_settings_are_refused(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path, "method=full_tuning")
    assert [job.cell.key.method for job in jobs] == ["full_tuning"]
    assert [result.status for result in run(jobs)] == ["ok"]
    every = jobs_of(raw, tmp_path)
    assert [job.cell.key.method for job in plan.missing(every)] == ["bitfit"]
    raw["train"] = raw["train"] | {"weight_decay": 0.5}
    with pytest.raises(InputError) as caught:
        plan.missing(jobs_of(raw, tmp_path))
    assert "full_tuning/seed-0/record.json: was made with other settings: " in str(caught.value)
    assert "train.weight_decay was 0.01, is 0.5; use another --output-dir" in str(caught.value)


def test_data_or_model_that_changed_since_is_refused(raw, tmp_path, data_dir):
    raw["data_dir"] = str(shutil.copytree(data_dir / "cb", tmp_path / "data" / "cb").parent)
    raw["methods"] = {"bitfit": {}}
    run(jobs_of(raw, tmp_path))
    path = tmp_path / "data" / "cb" / "val.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[1:]) + "\n")
    with pytest.raises(InputError) as caught:
        plan.missing(jobs_of(raw, tmp_path))
    assert f"input changed since the cell ran: {path};" in str(caught.value)


def test_the_path_of_a_model_does_not_count_and_its_content_does(raw, tmp_path, bert_dir):
    raw["model"] = str(shutil.copytree(bert_dir, tmp_path / "one"))
    raw["methods"] = {"bitfit": {}}
    run(jobs_of(raw, tmp_path))
    raw["model"] = str(shutil.copytree(bert_dir, tmp_path / "two"))
    assert plan.states(jobs_of(raw, tmp_path)) == ["ok"]
    (tmp_path / "two" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(InputError, match=f"input changed since the cell ran: {tmp_path}/two;"):
        plan.states(jobs_of(raw, tmp_path))


def test_an_input_that_changes_after_planning_fails_the_cell(raw, tmp_path, data_dir):
    raw["data_dir"] = str(shutil.copytree(data_dir / "cb", tmp_path / "data" / "cb").parent)
    (job,) = jobs_of(raw, tmp_path, "method=bitfit")
    path = tmp_path / "data" / "cb" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    with pytest.raises(InputError, match="train.jsonl: changed since it was checked; start again"):
        grid.run_here(job)
    assert not job.directory.exists()


def test_all_bad_inputs_come_before_anything_runs(raw, tmp_path, data_dir):
    copied = shutil.copytree(data_dir, tmp_path / "data")
    raw["data_dir"] = str(copied)
    raw["tasks"] = {"cb": {}, "rte": {}, "cola": {}}
    raw["train"]["max_seq_length"] = 300
    (copied / "cb" / "train.jsonl").open("a").write('{"idx": 1\n')
    (copied / "rte" / "val.jsonl").unlink()
    rows = (copied / "cola" / "test.jsonl").read_text().replace('"label": "1"', '"label": "2"', 1)
    (copied / "cola" / "test.jsonl").write_text(rows)
    with pytest.raises(InputError) as caught:
        jobs_of(raw, tmp_path / "out")
    text = str(caught.value)
    assert "train.max_seq_length is 300" in text
    assert "takes at most 130" in text
    assert "cb/train.jsonl:25: not valid JSON" in text
    assert "rte/val.jsonl: cannot be read" in text
    assert 'label is "2"; allowed are "0", "1"' in text
    assert not (tmp_path / "out").exists()


def test_only_must_match_something_and_be_well_formed(raw, tmp_path):
    with pytest.raises(InputError, match="--only method=sam: none of 2 cells matches"):
        jobs_of(raw, tmp_path, "method=sam")
    with pytest.raises(InputError, match="--only metod=sam: must look like task=..., method=..."):
        plan.parse_only("metod=sam")
    assert plan.parse_only("task=cb, task=rte,seed=0") == {"task": ["cb", "rte"], "seed": ["0"]}


def test_each_seed_of_a_perturbation_has_its_own_training_set(raw, tmp_path, data_dir):
    raw |= {"seeds": [0, 1], "drop_train": 0.25, "split": "random", "methods": {"bitfit": {}}}
    one, two = jobs_of(raw, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl")), "planning writes nothing"
    plan.write_data([one, two], tmp_path)
    assert one.inputs["train"] != two.inputs["train"]
    assert one.inputs["val"] == two.inputs["val"]
    assert one.data.paths["test"] == two.data.paths["test"] == data_dir / "cb" / "test.jsonl"
    # 34 rows: 27 for training (nine tenths, rounded as published), of which a quarter is dropped.
    assert one.data.examples["train"] == two.data.examples["train"] < 27
    result = run([one])[0]
    assert result.inputs == one.inputs
    settings = json.loads((one.directory / "jiant" / "cb_config.json").read_text())
    assert settings["paths"]["train"] == str(one.data.paths["train"])


def test_the_manifest_lists_every_cell(raw, tmp_path):
    directory = plan.write_manifest(config.parse(raw, "f"), tmp_path)
    assert directory == tmp_path / "a" / "b"
    manifest = Manifest.read(directory)
    assert manifest.methods == ["full_tuning", "bitfit"]
    assert len(manifest.cells) == 2


def test_two_workers_give_the_same_bytes_as_one(raw, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        jobs = jobs_of(raw, tmp_path / name)
        monkey = grid.available_cores
        try:
            # One thread each, as on a machine with as many cores as workers.
            grid.available_cores = lambda: 1
            assert {result.status for result in run(jobs, workers)} == {"ok"}
        finally:
            grid.available_cores = monkey
    for job in jobs:
        other = tmp_path / "one" / job.directory.relative_to(tmp_path / "two")
        for file in ("delta.safetensors", "log.jsonl"):
            assert (job.directory / file).read_bytes() == (other / file).read_bytes()
