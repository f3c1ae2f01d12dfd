"""Counts on real modules without weights, beside the paper's; and what does not fit."""

import copy

import pytest
import torch
from support.models import in_turn, rng
from support.refusals import refusal
from transformers import AutoModel

from jiant_sparse.errors import InputError
from jiant_sparse.host import fit, model
from jiant_sparse.host.train import train
from jiant_sparse.methods import base
from jiant_sparse.report import published
from jiant_sparse.schema.cell import Train
from jiant_sparse.sparse import surgery

BASE, LARGE = "roberta-base-config", "roberta-large-config"
SIX = ["query", "key", "value", "output.dense", "intermediate.dense"]
# The inventory of RoBERTa-base with its pooler, 199 tensors.
WEIGHTS = 124_645_632


def empty(name: str):
    return model.empty_encoder(fit.shape(name))


def counts(name: str, shape: str = BASE, **fields) -> tuple[int, int]:
    counted = fit.count(base.find(name)(**fields), empty(shape))
    return counted.tuned, counted.added


COUNTS = [
    ("full_tuning", {}, WEIGHTS, 0),
    ("random", {}, 623_228, 0),
    ("mixout", {}, 623_228, 0),
    ("mixout", {"reset": False}, WEIGHTS, 0),
    ("bitfit", {}, 102_912, 0),
    ("mag_pruning", {}, 623_228, 0),
    ("mag_pruning", {"scope": "per_tensor"}, 623_111, 0),
    ("adapter", {}, 0, 894_528),
    ("adapter", {"config": "double_seq_bn"}, 0, 1_789_056),
    ("lora", {}, 0, 294_912),
    ("lora", {"modules": SIX, "rank": 4}, 0, 663_552),
    ("lora", {"modules": SIX, "rank": 16}, 0, 2_654_208),
    ("diff_pruning", {}, 623_228, 0),
    ("child_pruning", {}, 623_228, 0),
    ("child_pruning", {"burn_in": None}, 623_228, 0),
    ("diff_pruning", {"burn_in": None, "mask_interval": 600}, 623_228, 0),
    ("sam", {}, 623_228, 0),
    ("sam", {"scope": "per_tensor"}, 623_111, 0),
    ("sam", {"scope": "per_tensor", "density": 0.0002}, 24_835, 0),
    ("sam", {"density": 0.2}, 24_929_126, 0),
    ("child_tuning_d", {}, 623_228, 0),
    ("child_tuning_f", {}, WEIGHTS, 0),
    ("fish", {}, 623_228, 0),
    ("multi_head", {}, 28_348_416, 0),
    ("multi_head", {"layer_norm": True}, 28_366_848, 0),
    ("frozen", {}, 0, 0),
    ("stochastic_tuning", {}, 102_912, 0),
    ("top_tuning", {}, 102_912, 0),
    ("random_per_step", {"density": 0.005}, 623_228, 0),
    ("stochastic_tuning", {"momentum": "dense"}, WEIGHTS, 0),
]


@pytest.mark.parametrize(("name", "fields", "tuned", "added"), COUNTS)
def test_counts_of_roberta_base(name, fields, tuned, added):
    assert counts(name, **fields) == (tuned, added)


def test_counts_of_other_shapes_and_draws():
    tuned, _ = counts("random", draw="bernoulli")
    assert tuned != 623_228 and abs(tuned - 623_228) < 5 * 787, "near the mean"
    encoder = empty(LARGE)
    assert sum(p.numel() for p in encoder.parameters()) == 355_359_744
    # 271,360 without the pooler, whose bias has 1,024.
    assert counts("bitfit", LARGE) == (271_360 + 1_024, 0)
    assert "model no/such/model: there is no such directory" in refusal(empty, "no/such/model")


def test_published_percentages():
    """Within their rounding, but for two."""
    defaults = {name: (tuned, added) for name, fields, tuned, added in COUNTS if not fields}
    percent = {name: fit.Counts(WEIGHTS, *defaults[name]).percent for name in published.METHODS}
    differences = {name: abs(percent[name] - published.percent_tuned(name)) for name in percent}
    assert {name for name, size in differences.items() if size > 0.005} == {"bitfit", "lora"}
    assert published.percent_tuned("fish") is None


@pytest.mark.parametrize(("name", "encoder"), in_turn(base.names(), "bert_dir", "roberta_dir"))
def test_count_without_weights_is_the_count_with_them(name, encoder, request):
    path = request.getfixturevalue(encoder)
    fields = {"burn_in": 3} if name in ("diff_pruning", "child_pruning") else {}
    method = base.find(name)(**fields)
    expected = fit.count(copy.deepcopy(method), empty(str(path)))
    encoder = AutoModel.from_pretrained(path)
    names = list(surgery.eligible(encoder))

    def probe(batches, **options):
        for parameter in encoder.parameters():
            parameter.grad = torch.ones_like(parameter)
        yield 1.0
        encoder.zero_grad()

    method.attach(encoder, probe, rng)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data.add_(0.01)  # what has not moved is not chosen
    for step in range(1, 4):
        method.after_step(step, torch.optim.AdamW([{"params": trained}]))
    if method.moved_per_step is not None:  # of all weights, which train, these move in a step
        assert (method.moved_per_step, 0) == (expected.tuned, expected.added)
        return
    assert surgery.count(encoder, names) == (expected.tuned, expected.added)


FIGURE_3 = {"burn_in": None, "interval": 7}


@pytest.mark.parametrize(
    ("name", "fields", "settings", "steps", "first"),
    [
        ("diff_pruning", {"burn_in": 7}, {"eval_every": 3}, 6, 7),
        ("child_pruning", FIGURE_3, {"eval_every": 10}, 60, 7),
        ("child_pruning", FIGURE_3 | {"interval": 10}, {"eval_offset": 1}, 499, 10),
        ("diff_pruning", {"burn_in": 7}, {"eval_every": 5}, 7, None),
        ("child_pruning", FIGURE_3, {"eval_every": 10}, 70, None),
        ("child_pruning", FIGURE_3, {"eval_every": 10}, 63, None),
        ("child_pruning", FIGURE_3 | {"interval": 1}, {"eval_offset": 1}, 600, None),
        ("full_tuning", {}, {"eval_every": 500}, 1, None),
    ],
)
def test_some_score_must_compete(name, fields, settings, steps, first):
    arguments = name, base.find(name)(**fields), Train(**settings), steps
    if first is None:
        fit.check_scores(*arguments)
        return
    found = refusal(fit.check_scores, *arguments)
    assert f"{name} can be scored after step {first} for the first" in found


@pytest.mark.parametrize("name", ["dps_mix", "dps_dense"])
def test_least_steps(name):
    method = base.find(name)(stage_steps=20)
    assert refusal(fit.check_scores, name, method, Train(eval_every=5), 20) == (
        f"{name} with these fields needs 21 steps; the run has 20"
    )
    fit.check_scores(name, method, Train(eval_every=5), 21)


def test_something_must_train():
    def check(name: str, **settings) -> None:
        encoder = empty(BASE)
        counts = fit.count(base.find(name)(), encoder)
        fit.check_trains(encoder, counts.probed, Train(**settings))

    message = "^nothing would train: .* train.freeze_head is true; it must be false$"
    with pytest.raises(InputError, match=message):
        check("frozen", freeze_head=True)
    check("frozen")
    check("lora", freeze_head=True)
    check("bitfit", freeze_head=True)


def test_needs_weights(make_job, monkeypatch):
    def attach(self, model, probe, rng):
        for _ in probe(1):
            self.scale = float(model.pooler.dense.weight.grad.abs().max())

    monkeypatch.setattr(base.find("full_tuning"), "attach", attach)
    with pytest.raises(fit.NeedsWeights, match="cannot be counted without weights"):
        counts("full_tuning")
    assert train(make_job()).status == "ok"
