"""A cell that is stopped anywhere and resumed is the cell that was never stopped, bit for bit."""

import os
from pathlib import Path

import pytest
import torch
from support.models import quick_fields
from support.resuming import Kill, Killed, logged, outcome

from jiant_sparse.errors import InputError
from jiant_sparse.grid import plan
from jiant_sparse.host import checkpoint, log, resume, sealed
from jiant_sparse.host.train import train
from jiant_sparse.methods import base as methods
from jiant_sparse.methods.base import Method
from jiant_sparse.methods.sam import SAM
from jiant_sparse.schema import record
from jiant_sparse.schema.control import Control, Stopped

TRAIN = {"max_steps": 6, "eval_every": 2, "checkpoint_every": 1}
BITFIT = ("rte", "bitfit", {}, TRAIN)


def twins(make_job, *cell) -> tuple:
    """A cell that ran without interruption, and the same cell elsewhere, not begun."""
    whole, parts = (make_job(*cell, output) for output in ("whole", "parts"))
    train(whole)
    return whole, parts


def run_in_parts(job, *controls) -> None:
    for control in controls:
        with pytest.raises((Killed, Stopped)):
            train(job, control)
        assert not (job.directory / record.FILE_NAME).exists()
    train(job)


def kill(job, step: int) -> None:
    with pytest.raises(Killed):
        train(job, Kill("training", step))


def checkpoints(job) -> list[Path]:
    return sorted((job.directory / checkpoint.FOLDER).glob("step-*.safetensors"))


def steps_on_disk(job) -> list[int]:
    return sorted({int(path.name[5:14]) for path in checkpoints(job)})


@pytest.mark.parametrize("name", methods.names())
def test_every_method(name, make_job):
    whole, parts = twins(make_job, "rte", name, quick_fields(name), TRAIN)
    # Around the choices that methods make in mid-training.
    run_in_parts(parts, Kill("training", 3), Kill("training", 5))
    assert outcome(parts) == outcome(whole)
    assert not (parts.directory / checkpoint.FOLDER).exists()


DENSE = {"density": 0.1}
RELEASED = {
    "density": 0.1,
    "burn_in": 4,
    "scope": "per_tensor",
    "score": "logit",
    "stretch_low": -3,
    "stretch_high": 3,
    "structured": False,
    "random_gates": True,
    "gate_learning_rate": None,
}
DISTANCES = DENSE | {"interval": 1}
ELEMENTS = {"q": 0.5, "mix": "elements", "tensors": "all"}
LEAKS = {"decay_unselected": True}
RUNS = {
    "two sequences, accumulated and grouped by length": (
        *("copa", "random", DENSE),
        {"gradient_accumulation": 2, "length_grouping": 2},
    ),
    "decay of new frozen tensors": ("rte", "adapter", {"config": "vera"}, LEAKS),
    "lazy SGD": ("rte", "stochastic_tuning", DENSE, {"optimizer": "sgd", "learning_rate": 0.1}),
    "SGD": ("rte", "full_tuning", {}, {"optimizer": "sgd", "learning_rate": 0.1}),
    "gates on the training's schedule": (
        *("rte", "diff_pruning"),
        DENSE | {"burn_in": 4, "gated_schedule": "training"},
        {},
    ),
    "head alone": ("wsc", "frozen", {}, {"gradient_accumulation": 2}),
    "patience": ("rte", "bitfit", {}, {"max_steps": 40, "patience": 2, "min_steps": 0}),
    "released program on WSC": ("wsc", "diff_pruning", RELEASED, {"learning_rate": 1e-3}),
    "figure 3": ("rte", "diff_pruning", DENSE | {"burn_in": None, "mask_interval": 2}, {}),
    "momentum of distances": (
        *("rte", "child_pruning"),
        DISTANCES | {"burn_in": None, "momentum": 0.7},
        {},
    ),
    "fixed and reset": ("rte", "child_pruning", DISTANCES | {"burn_in": 3, "reset": True}, LEAKS),
    "mixed in half precision": ("rte", "mixout", ELEMENTS, {"precision": "bf16"}),
    "lora with dropout": (
        *("rte", "lora"),
        {"rank": 2, "dropout": 0.1, "init_b": "kaiming"},
        {"freeze_head": True},
    ),
    "offset": ("stsb", "sam", DENSE | {"burn_in": 4}, {"eval_offset": 1, "dev_examples": 4}),
    # With a burn-in, weights freeze at their present values, not at their first ones.
    "drifted weights": ("rte", "mag_pruning", DENSE | {"burn_in": 2}, {}),
}


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_training(name, make_job):
    task, method, fields, changes = RUNS[name]
    whole, parts = twins(make_job, task, method, fields, TRAIN | changes)
    run_in_parts(parts, Kill("training", 2, softly=True), Kill("training", 5))
    assert outcome(parts) == outcome(whole)


def test_stop_says_where_it_resumes(make_job):
    job = make_job("rte", "random", DENSE, TRAIN | {"checkpoint_every": None})
    with pytest.raises(Stopped, match="stopped by the test; it goes on from step 3"):
        train(job, Kill("training", 3, softly=True))
    assert steps_on_disk(job) == [3]
    with pytest.raises(Stopped, match="it goes on from step 6"):
        train(job, Kill("scoring", 6, softly=True))
    assert steps_on_disk(job) == [3, 6]


def test_kills_at_both_ends_and_a_stop_before_an_evaluation(make_job):
    """The stopped run leaves the evaluation after step 4 undone."""
    job = make_job("rte", "random", DENSE, TRAIN)
    kill(job, 1)
    with pytest.raises(Stopped):
        train(job, Kill("training", 4, softly=True))
    assert logged(job, "dev", "step") == [2]
    with pytest.raises(Killed):
        train(job, Kill("scoring", 6))
    assert [step for step, _ in train(job).history] == [2, 4, 6]


class Lost(Exception):
    """Another process has the cell now."""


@pytest.mark.parametrize("window", range(4))
def test_a_lost_cell_is_not_written(window, make_job):
    """Asked before each checkpoint, before the delta and before the record."""
    asked = []

    def confirm():
        asked.append(None)
        if len(asked) > window:
            raise Lost

    job = make_job("rte", "random", DENSE, TRAIN | {"checkpoint_every": 3})
    with pytest.raises(Lost):
        train(job, Control(confirm))
    # After two checkpoints comes the delta, and last the record.
    assert steps_on_disk(job) == [3, 6][:window]
    assert job.delta.exists() == (window == 3)
    assert not (job.directory / record.FILE_NAME).exists()


@pytest.mark.parametrize("step", [1, 3])
def test_the_choice_is_kept(step, make_job, monkeypatch):
    """SAM's burn-in of 600 batches takes minutes. It is kept even before the first step."""
    minutes = TRAIN | {"checkpoint_every": None, "checkpoint_minutes": 1e-9}
    whole, parts = twins(make_job, "rte", "sam", quick_fields("sam"), minutes)
    kill(parts, step)
    assert steps_on_disk(parts) == ([0] if step == 1 else [1, 2])
    for kind in (SAM, Method):
        monkeypatch.setattr(kind, "choose", None)
    train(parts)
    assert outcome(parts) == outcome(whole)


def test_checkpoint_minutes(make_job):
    fields = TRAIN | {"checkpoint_every": None, "checkpoint_minutes": 60}
    job = make_job("rte", "bitfit", {}, fields)
    kill(job, 4)
    assert steps_on_disk(job) == []
    # When to write checkpoints changes no result, so it is no setting of it.
    assert job.cell.settings_hash == make_job(*BITFIT).cell.settings_hash


def damage(path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    else:
        data[-7] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("how", "both"), [("truncated", False), ("flipped", True)])
def test_damaged_checkpoints(how, both, make_job, caplog):
    """The one before is used, if it is whole."""
    whole, parts = twins(make_job, "rte", "sam", quick_fields("sam"), TRAIN)
    kill(parts, 5)
    old, new = checkpoints(parts)
    assert steps_on_disk(parts) == [3, 4]
    for path in (old, new) if both else (new,):
        damage(path, how)
    begun = []

    class Watch(Control):
        def tell(self, phase, step=0, steps=None, score=None):
            begun.append((phase, step))

    train(parts, Watch())
    assert [step for phase, step in begun if phase == "training"][0] == (0 if both else 3)
    assert str(new) in caplog.text and (str(old) in caplog.text) == both
    assert "it is not used" in caplog.text
    assert outcome(parts) == outcome(whole)


def test_new_checkpoints_beside_damaged_ones_of_later_steps(make_job):
    job = make_job(*BITFIT)
    kill(job, 6)
    for path in checkpoints(job):
        damage(path, "truncated")
    kill(job, 3)
    assert steps_on_disk(job) == [1, 2]


@pytest.mark.parametrize("how", ["missing", "changed", "longer"])
def test_damaged_log(how, make_job, caplog):
    whole, parts = twins(make_job, *BITFIT)
    kill(parts, 5)
    path = parts.directory / log.FILE_NAME
    text = path.read_text()
    path.unlink()
    if how != "missing":
        longer = text + '{"event": "tra' * 500
        path.write_text(text.replace("loss", "lose", 1) if how == "changed" else longer)
    train(parts)
    # Entries after the checkpoint are dropped without a word.
    assert ("the log it belongs to is not whole" in caplog.text) == (how != "longer")
    assert outcome(parts) == outcome(whole)


def test_checkpoint_of_other_settings(make_job, caplog):
    job, other, fresh = (
        make_job("rte", "bitfit", {}, TRAIN | {"learning_rate": rate}, output)
        for rate, output in ((1e-2, "out"), (1e-3, "out"), (1e-3, "fresh"))
    )
    kill(job, 3)
    assert plan.states([job]) == ["missing"]
    with pytest.raises(InputError) as caught:
        plan.states([other])
    place = f"{job.directory}/checkpoint: was made with other settings: "
    assert f"{place}train.learning_rate was 0.01, is 0.001; use another" in str(caught.value)
    train(other), train(fresh)
    assert "is of other settings or data; it is not used" in caplog.text
    assert outcome(other) == outcome(fresh)


def test_checkpoint_of_another_device(make_job, caplog):
    job = make_job(*BITFIT)
    kill(job, 3)
    tensors, meta = sealed.read(checkpoints(job)[-1])
    meta["state"]["device"] = "cuda"
    checkpoint.clear(job.directory)
    sealed.write(job.directory / checkpoint.FOLDER, "step-000000002", tensors, meta)
    kill(job, 1)
    assert "is of a run on cuda, this one is on cpu; it is not used" in caplog.text


def test_checkpoint_that_cannot_be_read(make_job, monkeypatch, caplog):
    job = make_job(*BITFIT)
    kill(job, 4)
    plain = sealed.read

    def read(path):
        if "step-000000003" in path.name:
            raise OSError(5, "Input/output error", str(path))
        return plain(path)

    monkeypatch.setattr(sealed, "read", read)
    kill(job, 2)
    assert "Input/output error" in caplog.text


def test_record_of_earlier_machines(make_job, monkeypatch):
    job = make_job(*BITFIT)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("jiant_sparse.host.device.name", lambda on: "another machine")
        plain = resume.state_dict

        def state_dict(runner, scores, costs, *rest):
            costs.nondeterministic[:] = ["an operation"]
            return plain(runner, scores, costs, *rest)

        elsewhere.setattr(resume, "state_dict", state_dict)
        kill(job, 3)
    kill(job, 5)
    found = train(job).provenance
    assert [machine.device for machine in found.earlier] == ["another machine"]
    assert (found.device, found.nondeterministic) == ("cpu", ["an operation"])


@pytest.mark.parametrize("target", ["step-", "delta", "record", "log"])
def test_full_disk(target, make_job, monkeypatch):
    """The cell fails, and the last good checkpoint stays."""
    whole, parts = twins(make_job, *BITFIT)
    kill(parts, 3)
    before = checkpoints(parts)
    real = os.replace
    with monkeypatch.context() as full:

        def replace(source, to):
            if Path(to).name.startswith(target):
                raise OSError(28, "No space left on device")
            return real(source, to)

        full.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="No space left"):
            train(parts)
    if target in ("step-", "log"):
        assert checkpoints(parts) == before
    assert not (parts.directory / record.FILE_NAME).exists()
    train(parts)
    assert outcome(parts) == outcome(whole)
    assert not [path for path in parts.directory.rglob(".*")]


def test_partial_files_are_removed(make_job):
    job = make_job(*BITFIT)
    kill(job, 3)
    folder = job.directory / checkpoint.FOLDER
    (folder / ".step-000000003.0123456789abcdef.partial").write_bytes(b"half")
    kill(job, 5)
    assert not list(folder.glob(".*"))


def test_threads(make_job):
    found = train(make_job(*BITFIT, threads=2))
    assert (found.provenance.threads, found.provenance.nondeterministic) == (2, [])
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
