"""Cells minus done cells: what runs, what is skipped, what fails alone."""

import contextlib
import json
import os
import shutil
import socket
import threading
from concurrent.futures import Future

import pytest
from support.cells import Here, jobs_of, raw_config, train_at_once

from jiant_sparse.errors import InputError
from jiant_sparse.grid import grid, lock, plan
from jiant_sparse.grid import worker as work
from jiant_sparse.grid.executors import Died
from jiant_sparse.host import train
from jiant_sparse.schema import record
from jiant_sparse.schema.control import Control


@pytest.fixture
def raw(data_dir, bert_dir) -> dict:
    train = {"max_steps": 2, "eval_every": 2, "batch_size": 4, "max_seq_length": 64}
    methods = {"full_tuning": {}, "bitfit": {}}
    return raw_config(bert_dir, data_dir, train, methods, benchmark="a/b")


@pytest.fixture
def really():
    """For tests whose cells are trained; else they have a good record at once."""


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    monkeypatch.setattr(grid, "LOOK_SECONDS", 0.05)
    if "really" not in request.fixturenames:
        monkeypatch.setattr(train, "train", train_at_once)


def run(jobs, executor=None, **options) -> list[record.Record]:
    ended = []
    grid.run(jobs, executor or Here(), lambda job, found: ended.append(found), **options)
    return ended


def test_dead_worker_fails_its_cell_only(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path)
    ended = run(jobs, Here(Died("the worker process died (killed, or out of memory)")))
    assert sorted((result.cell.method, result.status) for result in ended) == [
        ("bitfit", "ok"), ("full_tuning", "failed"),
    ]  # fmt: skip
    assert plan.read_record(jobs[0]).error.startswith("the worker process died")
    assert plan.missing(jobs) == []
    assert plan.missing(jobs, retry_failed=True) == jobs[:1]
    assert [found.status for found in run(jobs[:1])] == ["failed"], "not without being asked"
    assert [found.status for found in run(jobs[:1], retry=True)] == ["ok"]


def test_unexpected_error_fails_with_traceback(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path, "method=bitfit")
    (failed,) = run(jobs, Here(TypeError("cannot pickle")))
    assert failed.error.startswith("TypeError: cannot pickle\nTraceback")
    assert plan.read_record(jobs[0]) == failed


def test_held_cell_is_told_once_and_run_later(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path)
    with contextlib.ExitStack() as other:
        other.enter_context(lock.acquire(jobs[0].directory, Control()))
        told, ended, executor = [], [], Here()

        def notify(job, found):
            ended.append(job.cell.key.method)
            threading.Timer(0.3, other.close).start()

        grid.run(jobs, executor, notify, waiting=lambda job, owner: told.append((job, owner)))
    assert ended == ["bitfit", "full_tuning"], "the others go on meanwhile"
    assert executor.begun == ["full_tuning", "bitfit", "full_tuning"], "not begun while it is held"
    ((job, owner),) = told
    assert job == jobs[0]
    assert f"full_tuning/seed-0: is held by {socket.gethostname()}:{os.getpid()}" in owner


def test_a_cell_that_another_finishes_is_taken_as_it_is(raw, tmp_path, monkeypatch):
    (job,) = jobs_of(raw, tmp_path, "method=bitfit")
    theirs = []

    def finish(job, owner):
        theirs.append(train.train(job))
        monkeypatch.setattr(train, "train", None)

    executor = Here(work.Waiting("another"), work.Waiting("another"))
    assert run([job], executor, waiting=finish) == theirs
    assert executor.begun == ["bitfit"] * 3


def test_freed_cell_does_not_wait_for_running_ones(raw, tmp_path):
    class Slow(Here):
        """The second cell runs until the first one, another's at first, is begun again."""

        def submit(self, job, retry):
            future = super().submit(job, retry)
            if len(self.begun) == 2:
                self.found, self.slow = future.result(), Future()
                self.timer = threading.Timer(5, self.slow.set_exception, [Died("too long")])
                self.timer.start()
                return self.slow
            if len(self.begun) == 3:
                self.timer.cancel()
                self.slow.set_result(self.found)
            return future

    executor = Slow(work.Waiting("another"))
    assert {found.status for found in run(jobs_of(raw, tmp_path), executor)} == {"ok"}
    assert executor.begun == ["full_tuning", "bitfit", "full_tuning"]


def test_a_cell_that_another_fails_meanwhile_is_not_retried(raw, tmp_path):
    """Two grids with --retry-failed: each failed cell is run again once, not by each of them."""
    (job,) = jobs_of(raw, tmp_path, "method=bitfit")
    (first,) = run([job], Here(Died("gone")))
    theirs = first.model_copy(update={"error": "theirs"})
    executor = Here(work.Waiting("another"))
    waited = run([job], executor, retry=True, waiting=lambda *_: theirs.write(job.directory))
    assert waited == [theirs] == [plan.read_record(job)]


def test_a_cell_stopped_from_outside_goes_on_but_not_for_ever(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "TRIES", 3)
    jobs = jobs_of(raw, tmp_path, "method=bitfit")
    executor = Here(*[work.Halted("stopped by SIGTERM")] * 5)
    (failed,) = run(jobs, executor)
    assert len(executor.begun) == 3
    assert failed.error == "begun 3 times, and its owner was gone each time"
    assert plan.read_record(jobs[0]) == failed
    executor = Here(*[work.Halted("stopped by SIGTERM")] * 2)
    assert [found.status for found in run(jobs, executor, retry=True)] == ["ok"]


def test_death_is_recorded_once_the_lock_is_free(raw, tmp_path):
    (job,) = jobs_of(raw, tmp_path, "method=bitfit")
    with contextlib.ExitStack() as other:
        other.enter_context(lock.acquire(job.directory, Control()))
        executor = Here(Died("gone"))
        (failed,) = run([job], executor, waiting=lambda job, owner: other.close())
    assert (failed.error, executor.begun) == ("gone", ["bitfit"])
    assert plan.read_record(job) == failed


def test_an_error_of_who_is_told_is_no_death_of_a_worker(raw, tmp_path):
    told = []

    def broken(job, found):
        told.append(found)
        raise ValueError("no terminal")

    jobs = jobs_of(raw, tmp_path, "method=bitfit")
    with pytest.raises(ValueError, match="no terminal"):
        grid.run(jobs, Here(), broken)
    assert told == [plan.read_record(jobs[0])]


def test_ctrl_c_tells_what_ended_meanwhile(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path)
    executor, ended, begun = Here(), [], []

    def interrupted(job, found):
        begun.append(found)
        if len(begun) == 1:
            raise KeyboardInterrupt
        ended.append(found.cell.method)

    with pytest.raises(KeyboardInterrupt):
        grid.run(jobs, executor, interrupted)
    assert executor.stopped
    assert sorted(ended) == ["bitfit", "full_tuning"]


def test_data_or_model_that_changed_since_is_refused(raw, tmp_path, data_dir, bert_dir):
    """By their content, not by their paths."""
    raw["data_dir"] = str(shutil.copytree(data_dir / "cb", tmp_path / "data" / "cb").parent)
    raw["model"] = str(shutil.copytree(bert_dir, tmp_path / "one"))
    raw["methods"] = {"bitfit": {}}
    run(jobs_of(raw, tmp_path))
    raw["model"] = str(shutil.copytree(bert_dir, tmp_path / "two"))
    assert plan.states(jobs_of(raw, tmp_path)) == ["ok"]
    (tmp_path / "two" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    path = tmp_path / "data" / "cb" / "val.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(InputError) as caught:
        plan.states(jobs_of(raw, tmp_path))
    changed = str(caught.value).partition("input changed since the cell ran: ")[2]
    assert {*changed.partition(";")[0].split(", ")} == {str(tmp_path / "two"), str(path)}


def test_input_changed_after_planning(really, raw, tmp_path, data_dir):
    raw["data_dir"] = str(shutil.copytree(data_dir / "cb", tmp_path / "data" / "cb").parent)
    (job,) = jobs_of(raw, tmp_path, "method=bitfit")
    path = tmp_path / "data" / "cb" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    with pytest.raises(InputError, match="train.jsonl: changed since it was checked; start again"):
        work.work_here(job)
    assert not (job.directory / "record.json").exists()


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


def test_each_seed_has_its_own_perturbation(raw, tmp_path, data_dir):
    raw |= {"seeds": [0, 1], "drop_train": 0.25, "split": "random", "methods": {"bitfit": {}}}
    one, two = jobs_of(raw, tmp_path)
    assert not list(tmp_path.rglob("*.jsonl")), "planning writes nothing"
    plan.write_data([one, two], tmp_path)
    assert one.inputs["train"] != two.inputs["train"]
    assert one.inputs["val"] == two.inputs["val"]
    assert one.data.paths["test"] == two.data.paths["test"] == data_dir / "cb" / "test.jsonl"
    # 34 rows: 27 for training (nine tenths, rounded as published), of which a quarter is dropped.
    assert one.data.examples["train"] == two.data.examples["train"] < 27


def test_dev_as_test_chooses_and_reports_on_one_set(really, raw, tmp_path, data_dir):
    raw |= {"split": "dev_as_test", "methods": {"bitfit": {}}}
    (job,) = jobs_of(raw, tmp_path)
    plan.write_data([job], tmp_path)
    (result,) = run([job])
    assert result.status == "ok", result.error
    assert result.metrics["dev"] == result.metrics["test"]
    assert result.primary.dev == result.primary.test
    assert result.inputs == job.inputs
    assert job.data.examples["train"] == 34
    there = json.loads((job.directory / "jiant" / "cb_config.json").read_text())["paths"]
    assert there["val"] == there["test"] == str(data_dir / "cb" / "test.jsonl")
    assert there["train"] == str(job.data.paths["train"])
    container = json.loads((job.directory / "jiant" / "container_config.json").read_text())
    counted = container["task_specific_configs_dict"]["cb"]["eval_subset_num"]
    assert counted == job.data.examples["test"] == len(job.data.paths["val"].open().readlines())
