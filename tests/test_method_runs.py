"""Every method through the host: tasks, encoders, precision, accumulation, and what is scored."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file
from support.models import quick_fields
from support.resuming import logged

from jiant_sparse.errors import InputError
from jiant_sparse.host import loop
from jiant_sparse.host.train import train
from jiant_sparse.methods import base
from jiant_sparse.sparse import delta


@pytest.mark.parametrize("name", base.names())
def test_the_state_that_was_scored_best_is_the_one_that_is_kept(name, make_job, roberta_dir):
    """COPA's two passes, accumulated in half precision, on an encoder whose pooler is drawn."""
    settings = {"max_steps": 8, "eval_every": 2, "gradient_accumulation": 2, "precision": "bf16"}
    job = make_job("copa", name, quick_fields(name), settings, model=str(roberta_dir))
    record = train(job)
    assert record.metrics["dev"]["major"] == dict(record.history)[record.best_step]
    assert (record.params.selected + record.params.added > 0) == (name != "frozen")
    # An initialised pooler is part of the encoder, and counts as changed only where it is.
    assert record.params.changed <= record.params.selected


def tuned(job) -> tuple[dict, dict]:
    """(pretrained tensors, those after training) of the job's encoder."""
    before = load_file(job.source.path / "model.safetensors")
    names = delta.load(job.directory / "delta.safetensors").base
    before = {name: before[name] for name in names}
    return before, delta.apply(delta.load(job.directory / "delta.safetensors"), before)


def test_frozen_matrices_decay_if_asked_and_only_they(make_job):
    settings = {"max_steps": 5, "eval_every": 5, "weight_decay": 0.1, "decay_unselected": True}
    job = make_job("cb", "random", {"density": 0.01}, train=settings)
    record = train(job)
    rates = logged(job, "train", "learning_rate")
    before, after = tuned(job)
    moved = 0
    for name, old in before.items():
        expected = old.clone()
        if old.dim() >= 2:
            for rate in rates:
                expected *= 1 - rate * 0.1
        different = int((expected != after[name]).sum())
        moved += different
        assert different <= 0.2 * old.numel(), name
    assert 0 < moved <= record.params.selected
    assert record.params.changed > 10 * record.params.selected


def test_the_best_step_brings_its_decayed_weights_back(make_job, monkeypatch):
    scores, plain = iter([0.9, 0.1, 0.1, 0.1]), loop.Loop.dev_metrics

    def dev_metrics(self):
        return plain(self) | {"major": next(scores)}

    monkeypatch.setattr(loop.Loop, "dev_metrics", dev_metrics)
    settings = {"max_steps": 8, "eval_every": 2, "decay_unselected": True, "weight_decay": 0.5}
    long = make_job("cb", "bitfit", train=settings, output="long")
    assert train(long).best_step == 2
    before, after = tuned(long)
    matrix = "encoder.layer.0.intermediate.dense.weight"
    expected = before[matrix].clone()
    # The first two steps of the schedule, and nothing after them.
    for rate in logged(long, "train", "learning_rate")[:2]:
        expected *= 1 - rate * 0.5
    assert torch.equal(after[matrix], expected)


def test_a_frozen_head_keeps_its_first_values(make_job):
    # Decay of what is not selected is the encoder's alone.
    frozen = {"freeze_head": True, "decay_unselected": True, "weight_decay": 0.5}
    job = make_job("cb", "lora", train=frozen, output="frozen")
    still = make_job("cb", "lora", train={"learning_rate": 1e-30}, output="still")
    record = train(job)
    assert record.params.trainable == record.params.added
    assert train(still).params.trainable == record.params.added + record.params.head
    kept, first = (
        {k: v for k, v in load_file(job.directory / "delta.safetensors").items() if "head." in k}
        for job in (job, still)
    )
    assert kept.keys() == first.keys()
    for name, value in kept.items():
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-12)


def test_a_run_too_short_for_the_method_is_refused_before_it_trains(make_job):
    fields = {"burn_in": None, "interval": 7}
    message = "child_pruning can be scored after step 7 for the first time, and at none of the run"
    with pytest.raises(InputError, match=f"methods.child_pruning: {message}"):
        make_job("cb", "child_pruning", fields)
    # 24 examples in batches of 6: known only when the data is read.
    epoch = {"max_steps": None, "max_epochs": 1, "batch_size": 6}
    job = make_job("cb", "child_pruning", fields, train=epoch)
    with pytest.raises(InputError, match=f"^{message}"):
        train(job)
    assert not (job.directory / "record.json").exists()


def test_what_does_not_fit_the_encoder_is_named_before_anything_runs(make_job):
    with pytest.raises(InputError, match="methods.lora: .*no module's name ends in 'kwery'"):
        make_job("cb", "lora", {"modules": ["kwery"]})
    with pytest.raises(InputError, match="methods.frozen: nothing would train: "):
        make_job("cb", "frozen", train={"freeze_head": True})


def test_gates_keep_their_rate_and_the_weights_follow_the_schedule(make_job, monkeypatch):
    seen = []
    kind = base.find("diff_pruning")
    plain = kind.after_step

    def after_step(self, step, optimizer):
        seen.append([group["lr"] for group in optimizer.param_groups])
        plain(self, step, optimizer)

    # 4 steps, peak 1e-2.
    job = make_job("cb", "diff_pruning", {"burn_in": 3, "gate_learning_rate": 0.07})
    monkeypatch.setattr(kind, "after_step", after_step)
    train(job)
    # The rates of the step that comes next: head, gates, differences; from the cut on, values.
    head, gates, own = zip(*[(r[0], r[3], r[2]) for r in seen], strict=True)
    assert set(gates) == {0.07}
    assert own == pytest.approx([1e-2 * 2 / 3, 1e-2 / 3, head[2], head[3]])
    assert len(set(head)) == 4


def test_sgd_trains_and_its_record_says_so(make_job):
    sgd = {"optimizer": "sgd", "sgd_momentum": 0.5, "learning_rate": 0.3}
    result = train(make_job("cb", "stochastic_tuning", train=sgd))
    assert sgd.items() <= result.settings["train"].items()
    assert 0 < result.params.changed <= result.params.selected
    plain = make_job("cb", "stochastic_tuning", output="adamw")
    assert "optimizer" not in plain.cell.settings["train"]


def test_the_method_of_a_label_is_in_the_deltas_text(make_job):
    job = make_job("cb", "mine", {"method": "lora", "rank": 2})
    train(job)
    meta = delta.load(job.directory / "delta.safetensors").meta
    assert meta["method"] == "mine"
    fields = json.loads(meta["settings"])
    assert fields == {"name": "lora", **dataclasses.asdict(base.find("lora")(rank=2))}


def test_a_method_that_never_fixes_its_choice_selects_what_differs_at_a_score(make_job):
    fields = {"burn_in": None, "interval": 2, "density": 0.01}
    job = make_job("cb", "child_pruning", fields, train={"max_steps": 7, "eval_every": 2})
    record = train(job)
    assert record.best_step in (2, 4, 6)
    assert record.params.selected == int(0.01 * record.params.eligible)
    assert 0 < record.params.changed <= record.params.selected
    assert record.params.trainable == record.params.eligible + record.params.head
