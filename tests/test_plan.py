"""What is asked for, what is on disk already, and whether the two go together."""

import json

import pytest
from support.cells import jobs_of, raw_config
from support.selecting import PROVENANCE

from jiant_sparse.config import load as config
from jiant_sparse.data.tasks import PHASES
from jiant_sparse.errors import InputError
from jiant_sparse.files import sha256
from jiant_sparse.grid import lock, plan
from jiant_sparse.host import checkpoint
from jiant_sparse.schema.control import Control
from jiant_sparse.schema.manifest import FILE_NAME, Manifest
from jiant_sparse.schema.record import DELTA, Record, settings_hash


@pytest.fixture
def raw(data_dir, bert_dir) -> dict:
    tasks = {"cb": {}, "rte": {"seeds": [7]}}
    train = {"max_steps": 2, "max_seq_length": 64}
    methods = {"bitfit": {}, "sam": {"burn_in": 1}}
    return raw_config(
        bert_dir, data_dir, train, methods, benchmark="a/b", seeds=[0, 1], tasks=tasks
    )


def problems(call, *arguments) -> list[str]:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return list(caught.value.problems)


def rows_of(path) -> list[str]:
    return [json.dumps(json.loads(line), sort_keys=True) for line in path.open()]


def write(job, **changes) -> None:
    found = Record(**job.identity | {"status": "ok", "provenance": PROVENANCE} | changes)
    found.model_copy(update={"settings_hash": settings_hash(found.settings)}).write(job.directory)
    (job.directory / DELTA).touch()


def test_only(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path, "method=sam,seed=1,seed=7")
    keys = [(job.cell.key.task, job.cell.key.method, job.cell.seed) for job in jobs]
    assert keys == [("cb", "sam", 1), ("rte", "sam", 7)]
    form = "must look like task=..., method=..., seed=..."
    for only, expected in (
        ("", [f"--only '': {form}"]),
        ("metod=sam", [f"--only metod=sam: {form}"]),
        (
            "task=cb,task=rtee,method=sma, seed=3",
            [
                "--only task=rtee: there is no such task; did you mean rte? known: cb, rte",
                "--only method=sma: there is no such method; did you mean sam? known: bitfit, sam",
                "--only seed=3: there is no such seed; known: 0, 1, 7",
            ],
        ),
        ("task=rte,seed=0", ["--only task=rte,seed=0: none of 6 cells matches"]),
    ):
        assert problems(jobs_of, raw, tmp_path, only) == expected


def test_dev_as_test_is_written_once(raw, data_dir, tmp_path):
    jobs = jobs_of(raw | {"split": "dev_as_test"}, tmp_path)
    assert not list(tmp_path.rglob("train.jsonl")), "planning writes nothing"
    plan.write_data(jobs, tmp_path)
    for task in ("cb", "rte"):
        read = {phase: rows_of(data_dir / task / f"{phase}.jsonl") for phase in PHASES}
        for job in (job for job in jobs if job.cell.key.task == task):
            written = rows_of(job.data.paths["train"])
            assert sorted(written) == sorted(read["train"] + read["val"])
            assert job.data.paths["val"] == data_dir / task / "test.jsonl"
            assert job.inputs["val"] == job.inputs["test"] == sha256(job.data.paths["test"])
            assert job.inputs["train"] == sha256(job.data.paths["train"])
    assert len(list((tmp_path / "a/b/data").rglob("*.jsonl"))) == 2
    other = jobs_of(raw | {"split": "random"}, tmp_path / "other")
    assert jobs[0].cell.settings_hash != other[0].cell.settings_hash


def test_every_record_that_is_of_no_use_is_named_at_once(raw, tmp_path):
    jobs = jobs_of(raw, tmp_path)
    for job in jobs:
        write(job)
    first, second, third = (job.directory / "record.json" for job in jobs[:3])
    first.write_text("{")
    settings = jobs[1].cell.settings | {"threads": 2}
    write(jobs[1], settings=settings)
    third.write_text(third.read_text().replace('"status": "ok"', '"status": "fine", "x": 1'))
    one, two, *three = problems(plan.states, jobs)
    assert one.startswith(f"{first}: file: Invalid JSON: EOF")
    assert one.endswith("; remove it to run the cell again")
    assert two == (
        f"{second}: was made with other settings: threads was 2, is 1; use another --output-dir "
        "or remove it"
    )
    assert all(problem.startswith(f"{third}: ") for problem in three)
    assert [problem.endswith("; remove it to run the cell again") for problem in three] == [0, 1]


def test_a_setting_that_was_not_there_is_told(raw, tmp_path):
    job = jobs_of(raw, tmp_path)[0]
    settings = job.cell.settings
    assert settings["train"].pop("dev_examples") is None
    settings["train"]["patience"] = 40.0
    write(job, settings=settings)
    (problem,) = problems(plan.states, [job])
    assert "train.dev_examples was absent, is null; train.patience was 40.0, is 40; use" in problem


def test_a_record_without_its_delta_is_not_done(raw, tmp_path):
    job, *_ = jobs_of(raw, tmp_path)
    write(job)
    assert plan.states([job]) == ["ok"]
    (job.directory / DELTA).unlink()
    assert problems(plan.missing, [job]) == [
        f"{job.directory / DELTA}: is missing, but the record is there; put it back, or remove "
        f"{job.directory / 'record.json'} to run the cell again"
    ]
    write(job, status="failed")
    (job.directory / DELTA).unlink()
    assert plan.states([job]) == ["failed"]


def test_a_record_of_another_cell_is_not_done(raw, tmp_path):
    """Two methods of equal settings: only the place tells them apart."""
    twice = {"sam": {"burn_in": 1}, "again": {"method": "sam", "burn_in": 1}}
    one, two = jobs_of(raw | {"methods": twice, "tasks": {"cb": {}}, "seeds": [0]}, tmp_path)
    assert one.cell.settings_hash == two.cell.settings_hash
    write(one)
    two.directory.parent.mkdir()
    one.directory.rename(two.directory)
    assert problems(plan.states, [one, two]) == [
        f"{two.directory / 'record.json'}: is the record of another cell: a/b/cb/sam/seed-0; "
        "remove it to run the cell again"
    ]


def test_checkpoint_in_use_is_not_to_be_removed(raw, tmp_path):
    job, *_ = jobs_of(raw, tmp_path)
    checkpoint.save(job.directory, 1, job.identity, {})
    (other, *_) = jobs_of(raw | {"train": {"max_steps": 3, "max_seq_length": 64}}, tmp_path)
    folder = job.directory / checkpoint.FOLDER
    changed = "was made with other settings: train.max_steps was 2, is 3"
    assert problems(plan.states, [other]) == [
        f"{folder}: {changed}; use another --output-dir or remove it"
    ]
    with lock.acquire(job.directory, Control()) as held:
        (problem,) = problems(plan.states, [other])
        assert problem == f"{folder}: {changed}; use another --output-dir"
        held.check()


def test_cells_that_were_begun_stay_in_the_plan(raw, tmp_path):
    """Else a report of all that is there would call itself complete."""
    path = tmp_path / "a/b" / FILE_NAME

    def plan_again(**changes) -> int:
        plan.write_manifest(config.parse(raw | changes, "f"), tmp_path)
        return len(Manifest.read(path.parent).cells)

    assert plan_again() == 6
    assert plan_again(seeds=[0]) == 4, "nothing has run"
    assert plan_again() == 6
    jobs = jobs_of(raw, tmp_path)
    before = path.read_bytes()
    write(jobs[1], status="failed")
    with lock.acquire(jobs[3].directory, Control()):
        (problem,) = problems(lambda: plan_again(seeds=[0]))
    assert problem == (
        f"{path}: lists 2 cells that were begun and are not in this plan, such as "
        f"{jobs[1].directory}; to run a part of a plan, leave its file as it was and use --only; "
        "for another plan, use another --output-dir or `benchmark`; or remove these cells"
    )
    assert path.read_bytes() == before
    checkpoint.save(jobs[4].directory, 1, {"settings": {}, "settings_hash": "", "inputs": {}}, {})
    (problem,) = problems(lambda: plan_again(tasks={"cb": {}}))
    assert "lists 1 cells that were begun" in problem
    assert plan_again(seeds=[0, 1, 2]) == 8
    path.write_text("{}")
    *_, last = problems(plan_again)
    assert last.startswith(f"{path}: ") and last.endswith("; remove it, and it is written anew")


def test_a_frozen_head_cannot_train_for_the_choice(make_job):
    message = "methods.sam: head_steps is 3, but train.freeze_head is true; it must be false"
    with pytest.raises(InputError, match=message):
        make_job("cb", "sam", {"head_steps": 3}, {"freeze_head": True})


def test_a_record_from_before_evaluation_by_tokens_is_the_cells_own(raw, tmp_path):
    job, *_ = jobs_of(raw, tmp_path, "task=cb,method=sam,seed=0")
    for rows, state in ((32, "ok"), (16, "")):
        train = job.cell.settings["train"] | {"eval_batch_size": rows}
        write(job, settings=job.cell.settings | {"train": train})
        if state:
            assert plan.states([job]) == [state]
            assert plan.read_record(job).settings_hash == job.cell.settings_hash
        else:
            (problem,) = problems(plan.states, [job])
            assert "other settings: train.eval_batch_size was 16, is absent" in problem
