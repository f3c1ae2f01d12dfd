"""Frozen: the head alone trains, whatever the run; and an empty choice passes through it all."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from support.models import SIZES, Trainer, bert, bits, rng, state
from typer.testing import CliRunner

from jiant_sparse.bench import contenders, models
from jiant_sparse.cli import app
from jiant_sparse.host.export import export
from jiant_sparse.host.train import train
from jiant_sparse.methods.frozen import Frozen
from jiant_sparse.sparse import delta

RUNS = [
    ("wsc", "roberta_dir", {"gradient_accumulation": 2}),
    ("copa", "bert_dir", {"precision": "bf16", "gradient_accumulation": 3}),
]


def test_no_weight_of_the_encoder_has_a_gradient_or_an_optimizer():
    encoder = bert()
    trainer, method = Trainer(encoder), Frozen()
    method.attach(encoder, trainer.probe, rng)
    before = state(encoder)
    trainer.train(method, 5)
    trainer.backward(trainer.batches)
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(bits(p), bits(before[name])) for name, p in encoder.named_parameters())
    held = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in trainer.head.parameters()}


@pytest.mark.parametrize(("task", "encoder", "settings"), RUNS)
def test_a_run_trains_the_head_and_changes_nothing_else(
    task, encoder, settings, make_job, request, tmp_path
):
    settings = {"max_steps": 4, "eval_every": 2, "warmup_fraction": 0.0, **settings}
    job, still = (
        make_job(
            task,
            "frozen",
            train={**settings, "learning_rate": rate},
            model=str(request.getfixturevalue(encoder)),
            output=output,
        )
        for output, rate in (("out", 1e-2), ("still", 1e-30))
    )
    record = train(job)
    counts = record.params
    assert (counts.selected, counts.added, counts.changed) == (0, 0, 0)
    assert counts.trainable == counts.head > 0
    found = delta.load(job.directory / "delta.safetensors")
    assert found.entries == {}
    assert delta.changed(found) == 0
    # RoBERTa as the hub has it lacks the pooler, which is drawn and comes with the delta.
    drawn = {"pooler.dense.weight", "pooler.dense.bias"} if encoder == "roberta_dir" else set()
    assert {name for name in found.new if not name.startswith("head.")} == drawn

    train(still)
    first = delta.load(still.directory / "delta.safetensors").new
    for name, value in found.new.items():
        # COPA's head gives a choice one number, and a bias on every choice changes nothing.
        if (task, name) != ("copa", "head.out_proj.bias"):
            moved = (value - first[name]).abs().max() > 1e-4
            assert moved == name.startswith("head."), name

    made = tmp_path / "made"
    export(job.directory / "delta.safetensors", str(job.source.path), made)
    before, after = (load_file(path / "model.safetensors") for path in (job.source.path, made))
    before = {name.removeprefix("roberta."): tensor for name, tensor in before.items()}
    assert all(torch.equal(bits(after[name]), bits(before[name])) for name in found.base)


def test_an_empty_delta_is_saved_read_applied_and_shown(tmp_path):
    base = state(bert())
    path = tmp_path / "delta.safetensors"
    delta.save(delta.extract(base, copy.deepcopy(base), {"method": "frozen"}), path)
    applied = delta.apply(delta.load(path), base)
    assert applied.keys() == base.keys()
    assert all(torch.equal(bits(applied[name]), bits(base[name])) for name in base)
    shown = CliRunner().invoke(app, ["delta", "inspect", str(path)])
    assert shown.exit_code == 0, shown.output
    assert "method: frozen" in shown.stdout
    assert "changed: 0 entries of 0 tensors" in shown.stdout
    same = CliRunner().invoke(app, ["delta", "diff", str(path), str(path)])
    assert same.exit_code == 0, same.output
    assert len(same.stdout.splitlines()) == 1


def test_its_count_is_zero_per_cent(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(
        "{benchmark: b, model: m, data_dir: d, seeds: [0], tasks: {cb: {}}, methods: {frozen: {}}}"
    )
    arguments = ["methods", "--model", "roberta-base-config", "--config", str(path)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    (row,) = (line for line in shown.stdout.splitlines() if line.startswith("frozen "))
    assert row.split() == ["frozen", "0", "0", "0.0000", "-"]


def test_the_bench_can_train_it(tmp_path):
    config = {"model_type": "bert", "vocab_size": 50} | SIZES
    (tmp_path / "config.json").write_text(json.dumps(config))
    setting = models.Setting(str(tmp_path), batch_size=4, sequence_length=8)

    def attach(model: models.Classifier) -> Frozen:
        method = Frozen()
        method.attach(model.encoder, contenders.probe_of(model), models.rng)
        return method

    trainer = contenders.Trainer(models.build(setting), attach)
    before, head = state(trainer.model.encoder), state(trainer.model.head)
    trainer.step()
    assert trainer.trained == 0
    assert all(torch.equal(p, before[n]) for n, p in trainer.model.encoder.named_parameters())
    assert all(not torch.equal(p, head[n]) for n, p in trainer.model.head.named_parameters())
