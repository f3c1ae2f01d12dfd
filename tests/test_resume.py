"""A cell that is stopped anywhere and goes on is the cell that was never stopped, bit for bit."""

import errno
import json
import logging
import os
import resource
from pathlib import Path

import pytest
from support.models import quick_fields
from support.resuming import Kill, Killed, outcome

from jiant_sparse.errors import InputError
from jiant_sparse.grid import plan
from jiant_sparse.host import checkpoint, log, resume, sealed
from jiant_sparse.host.train import train
from jiant_sparse.methods import base as methods
from jiant_sparse.methods.base import Method
from jiant_sparse.methods.sam import SAM
from jiant_sparse.schema import record
from jiant_sparse.schema.control import Control, Stopped

STEPS = 6
TRAIN = {"max_steps": STEPS, "eval_every": 2, "checkpoint_every": 1}


def twins(make_job, *cell) -> tuple:
    """A cell that has run without interruption, and the same one elsewhere, not begun."""
    whole, parts = (make_job(*cell, output) for output in ("whole", "parts"))
    train(whole)
    return whole, parts


def run_in_parts(job, *controls) -> None:
    for control in controls:
        with pytest.raises((Killed, Stopped)):
            train(job, control)
        assert not (job.directory / record.FILE_NAME).exists()
    train(job)


def steps_on_disk(job) -> list[int]:
    folder = job.directory / checkpoint.FOLDER
    return sorted({int(path.name[5:14]) for path in folder.glob("step-*.safetensors")})


@pytest.mark.parametrize("name", methods.names())
def test_every_method_goes_on_as_if_it_had_never_been_killed(name, make_job):
    whole, parts = twins(make_job, "cb", name, quick_fields(name), TRAIN)
    # Before the first checkpoint, around the cuts that methods make in mid-training, at the end.
    kills = [Kill("training", 1), *(Kill("training", step) for step in (3, 5)), Kill("scoring", 6)]
    run_in_parts(parts, *kills)
    assert outcome(parts) == outcome(whole)
    assert not (parts.directory / checkpoint.FOLDER).exists()


DENSE = {"density": 0.1}
RUNS = {
    "copa, two sequences, accumulated": ("copa", "random", DENSE, {"gradient_accumulation": 2}),
    "decay of what is frozen": ("cb", "random", DENSE, {"decay_unselected": True}),
    "decay of new frozen tensors": (
        "cb",
        "adapter",
        {"config": "vera"},
        {"decay_unselected": True},
    ),
    "SGD, lazy": ("cb", "stochastic_tuning", DENSE, {"optimizer": "sgd", "learning_rate": 0.1}),
    "SGD": ("cb", "full_tuning", {}, {"optimizer": "sgd", "learning_rate": 0.1}),
    "gates on the training's schedule": (
        "cb",
        "diff_pruning",
        DENSE | {"burn_in": 4, "gated_schedule": "training"},
        {},
    ),
    "frozen head": ("cb", "bitfit", {}, {"freeze_head": True}),
    "nothing but the head": ("wsc", "frozen", {}, {"gradient_accumulation": 2}),
    "grouped by length": ("rte", "full_tuning", {}, {"length_grouping": 2}),
    "replayed order": ("rte", "full_tuning", {}, {"reshuffle": False, "batch_size": 16}),
    "patience": ("cb", "bitfit", {}, {"max_steps": 40, "patience": 2, "min_steps": 0}),
    "released program on WSC": (
        "wsc",
        "diff_pruning",
        {
            "density": 0.1,
            "burn_in": 4,
            "scope": "per_tensor",
            "score": "logit",
            "stretch_low": -3,
            "stretch_high": 3,
            "structured": False,
            "random_gates": True,
            "gate_learning_rate": None,
        },
        {"learning_rate": 1e-3},
    ),
    "figure 3": (
        "cb",
        "diff_pruning",
        DENSE | {"burn_in": None, "mask_interval": 2},
        {"eval_every": 2},
    ),
    "momentum of distances": (
        "cb",
        "child_pruning",
        DENSE | {"interval": 1, "burn_in": None, "momentum": 0.7},
        {},
    ),
    "fixed and set back": (
        "cb",
        "child_pruning",
        DENSE | {"interval": 1, "burn_in": 3, "reset": True},
        {"decay_unselected": True},
    ),
    "mixed in half precision": (
        "cb",
        "mixout",
        {"q": 0.5, "mix": "elements", "tensors": "all"},
        {"precision": "bf16"},
    ),
    "lora with dropout": (
        "cb",
        "lora",
        {"rank": 2, "dropout": 0.1, "init_b": "kaiming"},
        {"freeze_head": True},
    ),
    "offset": ("stsb", "sam", DENSE | {"burn_in": 4}, {"eval_offset": 1, "dev_examples": 4}),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("softly", [False, True], ids=["killed", "stopped"])
def test_every_kind_of_training_goes_on_exactly(name, softly, make_job):
    task, method, fields, changes = RUNS[name]

    whole, parts = twins(make_job, task, method, fields, TRAIN | changes)
    run_in_parts(parts, *(Kill("training", step, softly=softly) for step in (2, 5)))
    assert outcome(parts) == outcome(whole)


def test_a_drifted_weight_is_put_back(make_job):
    """MagPruning with a burn-in freezes weights where they have come to, not where they began."""

    whole, parts = twins(make_job, "cb", "mag_pruning", {"density": 0.1, "burn_in": 2}, TRAIN)
    run_in_parts(parts, Kill("training", 4), Kill("scoring", 6))
    assert outcome(parts) == outcome(whole)


def test_asked_to_stop_a_run_says_from_where_it_goes_on(make_job):
    job = make_job("cb", "random", {"density": 0.1}, TRAIN | {"checkpoint_every": None})
    with pytest.raises(Stopped, match="stopped by the test; it goes on from step 3"):
        train(job, Kill("training", 3, softly=True))
    assert steps_on_disk(job) == [3]
    with pytest.raises(Stopped, match="it goes on from step 6"):
        train(job, Kill("scoring", 6, softly=True))
    assert steps_on_disk(job) == [3, 6]


def test_stopped_before_an_evaluation_it_is_done_when_the_run_goes_on(make_job):
    """The evaluation after step 4 is what the stopped run leaves undone."""
    job = make_job("cb", "random", {"density": 0.1}, TRAIN)
    with pytest.raises(Stopped):
        train(job, Kill("training", 4, softly=True))
    entries = [json.loads(line) for line in (job.directory / log.FILE_NAME).open()]
    assert [e["step"] for e in entries if e["event"] == "dev"] == [2]
    assert [step for step, _ in train(job).history] == [2, 4, 6]


@pytest.mark.parametrize("window", range(4))
def test_who_has_lost_the_cell_writes_nothing_more(window, make_job):
    """Asked before each checkpoint, before the delta and before the record."""

    class Lost(Exception):
        pass

    asked = []

    def confirm():
        asked.append(None)
        if len(asked) > window:
            raise Lost

    job = make_job("cb", "random", {"density": 0.1}, TRAIN | {"checkpoint_every": 3})
    with pytest.raises(Lost):
        train(job, Control(confirm))
    # After two checkpoints comes the delta, and last the record.
    assert steps_on_disk(job) == [3, 6][:window]
    assert (job.directory / "delta.safetensors").exists() == (window == 3)
    assert not (job.directory / record.FILE_NAME).exists()


def test_who_is_stopped_because_the_cell_is_lost_leaves_no_checkpoint(make_job):
    class Lost(Exception):
        pass

    job = make_job("cb", "random", {"density": 0.1}, TRAIN | {"checkpoint_every": None})
    control = Kill("training", 3, softly=True)
    control.confirm = lambda: (_ for _ in ()).throw(Lost())
    with pytest.raises(Lost):
        train(job, control)
    assert steps_on_disk(job) == []


def test_gradients_are_not_asked_for_again(make_job, monkeypatch):
    """600 batches of SAM's burn-in are minutes: what was chosen is in the checkpoint."""
    job = make_job("cb", "sam", quick_fields("sam"), TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))

    def fail(*_, **__):
        raise AssertionError("chosen again")

    for kind in (SAM, Method):
        monkeypatch.setattr(kind, "choose", fail)
    train(job)


def test_the_clock_makes_checkpoints_too(make_job):
    train_fields = TRAIN | {"checkpoint_every": None, "checkpoint_minutes": 1e-9}
    job = make_job("cb", "bitfit", {}, train_fields)
    with pytest.raises(Killed):
        train(job, Kill("training", 4))
    assert steps_on_disk(job) == [2, 3]
    job = make_job("cb", "bitfit", {}, train_fields | {"checkpoint_minutes": 60}, output="slow")
    with pytest.raises(Killed):
        train(job, Kill("training", 4))
    assert steps_on_disk(job) == []


def damage(path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    elif how == "empty":
        data.clear()
    else:
        data[{"flipped": -7, "flipped header": 12}[how]] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "flipped", "flipped header"])
@pytest.mark.parametrize("both", [False, True], ids=["newest", "both"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(how, both, make_job, caplog):
    whole, parts = twins(make_job, "cb", "sam", quick_fields("sam"), TRAIN)
    with pytest.raises(Killed):
        train(parts, Kill("training", 5))
    old, new = sorted((parts.directory / checkpoint.FOLDER).iterdir())
    assert (old.name[:14], new.name[:14]) == ("step-000000003", "step-000000004")
    for path in (old, new) if both else (new,):
        damage(path, how)
    caplog.set_level(logging.WARNING, "jiant_sparse")
    begun = []

    class Watch(Control):
        def tell(self, phase, step=0, steps=None, score=None):
            begun.append((phase, step))

    train(parts, Watch())
    assert [step for phase, step in begun if phase == "training"][0] == (0 if both else 3)
    assert str(new) in caplog.text
    assert (str(old) in caplog.text) == both
    assert "it is not used" in caplog.text
    assert outcome(parts) == outcome(whole)


@pytest.mark.parametrize("how", ["missing", "short", "changed"])
def test_a_log_that_was_damaged_takes_its_checkpoints_with_it(how, make_job, caplog):
    whole, parts = twins(make_job, "cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(parts, Kill("training", 5))
    path = parts.directory / log.FILE_NAME
    text = path.read_text()
    if how == "missing":
        path.unlink()
    else:
        path.write_text(text[:20] if how == "short" else text.replace("loss", "lose", 1))
    train(parts)
    assert "the log it belongs to is not whole" in caplog.text
    assert outcome(parts) == outcome(whole)


def test_the_end_of_a_log_that_no_checkpoint_knows_is_dropped(make_job):
    whole, parts = twins(make_job, "cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(parts, Kill("training", 5))
    with open(parts.directory / log.FILE_NAME, "a") as stream:
        stream.write('{"event": "tra' * 500)  # longer than all that follows
    train(parts)
    assert outcome(parts) == outcome(whole)


def test_a_checkpoint_of_other_settings_is_not_used(make_job, caplog):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    other = make_job("cb", "bitfit", {}, TRAIN | {"learning_rate": 1e-3})
    train(other)
    assert "is of other settings or data; it is not used" in caplog.text
    assert outcome(other) == outcome_of_fresh(make_job)


def outcome_of_fresh(make_job):
    job = make_job("cb", "bitfit", {}, TRAIN | {"learning_rate": 1e-3}, output="fresh")
    train(job)
    return outcome(job)


def test_a_plan_refuses_a_checkpoint_of_other_settings_or_data(make_job):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    assert plan.states([job]) == ["missing"]
    other = make_job("cb", "bitfit", {}, TRAIN | {"learning_rate": 1e-3})
    with pytest.raises(InputError) as caught:
        plan.states([other])
    place = f"{job.directory}/checkpoint: was made with other settings: "
    assert f"{place}train.learning_rate was 0.01, is 0.001; use another" in str(caught.value)


def test_when_to_write_checkpoints_is_no_setting_of_the_result(make_job):
    one = make_job("cb", "bitfit", {}, TRAIN)
    two = make_job("cb", "bitfit", {}, TRAIN | {"checkpoint_every": None, "checkpoint_minutes": 1})
    assert one.cell.settings_hash == two.cell.settings_hash
    assert one.cell.settings_hash != make_job(threads=2).cell.settings_hash


def test_with_damaged_ones_of_later_steps_there_the_new_ones_stay(make_job):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 6))
    assert steps_on_disk(job) == [4, 5]
    for path in (job.directory / checkpoint.FOLDER).iterdir():
        damage(path, "truncated")
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    assert steps_on_disk(job) == [1, 2]


def test_a_checkpoint_that_cannot_be_opened_is_passed_over(make_job, monkeypatch, caplog):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 4))
    plain = sealed.read

    def read(path):
        if "step-000000003" in path.name:
            raise OSError(5, "Input/output error", str(path))
        return plain(path)

    monkeypatch.setattr(sealed, "read", read)
    with pytest.raises(Killed):
        train(job, Kill("training", 2))
    assert "Input/output error" in caplog.text


def test_a_checkpoint_of_another_device_is_not_used(make_job, caplog):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    folder = job.directory / checkpoint.FOLDER
    tensors, meta = sealed.read(max(folder.iterdir()))
    meta["state"]["device"] = "cuda"
    checkpoint.clear(job.directory)
    sealed.write(folder, "step-000000002", tensors, meta)
    with pytest.raises(Killed):
        train(job, Kill("training", 1))
    assert "is of a run on cuda, this one is on cpu; it is not used" in caplog.text


def test_the_record_says_what_earlier_parts_ran_on_and_what_they_noticed(make_job, monkeypatch):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("jiant_sparse.host.device.name", lambda on: "another machine")
        plain = resume.state_dict

        def state_dict(runner, scores, costs, *rest):
            costs.nondeterministic[:] = ["an operation"]
            return plain(runner, scores, costs, *rest)

        elsewhere.setattr(resume, "state_dict", state_dict)
        with pytest.raises(Killed):
            train(job, Kill("training", 3))
    with pytest.raises(Killed):
        train(job, Kill("training", 5))
    found = train(job).provenance
    assert [machine.device for machine in found.earlier] == ["another machine"]
    assert found.device == "cpu"
    assert found.nondeterministic == ["an operation"]


def test_a_long_choice_is_kept_before_the_first_step(make_job, monkeypatch):
    minutes = TRAIN | {"checkpoint_every": None, "checkpoint_minutes": 1e-9}

    whole, parts = twins(make_job, "cb", "sam", quick_fields("sam"), minutes)
    with pytest.raises(Killed):
        train(parts, Kill("training", 1))
    assert steps_on_disk(parts) == [0]
    monkeypatch.setattr(methods.find("sam"), "choose", None)
    train(parts)
    assert outcome(parts) == outcome(whole)


@pytest.mark.parametrize("target", ["step-", "delta", "record", "log"])
def test_a_full_disk_fails_the_cell_and_leaves_the_last_good_checkpoint(
    target, make_job, monkeypatch
):
    whole, parts = twins(make_job, "cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(parts, Kill("training", 3))
    before = sorted((parts.directory / checkpoint.FOLDER).iterdir())
    real = os.replace
    with monkeypatch.context() as full:

        def replace(source, to):
            if Path(to).name.startswith(target):
                raise OSError(28, "No space left on device")
            return real(source, to)

        full.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="No space left"):
            train(parts)
    after = sorted((parts.directory / checkpoint.FOLDER).iterdir())
    if target in ("step-", "log"):
        assert after == before
    assert not (parts.directory / record.FILE_NAME).exists()
    train(parts)
    assert outcome(parts) == outcome(whole)
    assert not [path for path in parts.directory.rglob(".*")]


def test_files_that_grow_too_large_are_a_full_disk_too(make_job):
    """The system's own limit, in a process of its own: what is written is cut off in the middle."""
    job = make_job("cb", "full_tuning", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    before = sorted((job.directory / checkpoint.FOLDER).iterdir())
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            train(job)
        except OSError as error:
            os._exit(error.errno)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EFBIG
    assert sorted((job.directory / checkpoint.FOLDER).iterdir()) == before
    assert train(job).status == "ok"


def test_leftovers_of_a_killed_write_are_removed(make_job):
    job = make_job("cb", "bitfit", {}, TRAIN)
    with pytest.raises(Killed):
        train(job, Kill("training", 3))
    folder = job.directory / checkpoint.FOLDER
    (folder / ".step-000000003.0123456789abcdef.partial").write_bytes(b"half")
    with pytest.raises(Killed):
        train(job, Kill("training", 5))
    assert not list(folder.glob(".*"))


def test_threads_are_the_jobs_and_are_set_back(make_job):
    import torch

    record_ = train(make_job("cb", "bitfit", {}, TRAIN, threads=2))
    assert record_.provenance.threads == 2
    assert torch.get_num_threads() == 1
    assert not torch.are_deterministic_algorithms_enabled()
