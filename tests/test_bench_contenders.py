"""Every contender trains what it says, and nothing else."""

import copy

import pytest
import torch
from support.models import effective, state, write_shape
from torch import nn

from jiant_sparse.bench import contenders, models, peft_tuners
from jiant_sparse.bench.models import Setting
from jiant_sparse.errors import InputError
from jiant_sparse.sparse.importance import Importance

PEFT = ("peft/super_tuning", "peft/shira")
OURS = ("ours/random", "ours/mag_pruning", "ours/sam", "ours/child_pruning", "ours/bitfit")
MOVING = ("ours/stochastic_tuning", "ours/top_tuning", "ours/random_per_step")


@pytest.fixture
def model(tmp_path) -> models.Classifier:
    shape = write_shape(tmp_path)
    return models.build(Setting(shape, batch_size=4, sequence_length=8, density=0.05))


def steps(trainer: contenders.Trainer) -> None:
    head = [weight.detach().clone() for weight in trainer.model.head.parameters()]
    before = trainer.steps
    for _ in range(2):
        trainer.step()
    assert trainer.steps == before + 2
    assert all(p.grad is None for p in trainer.model.parameters())
    assert not any(map(torch.equal, trainer.model.head.parameters(), head))


def test_bound_reaches_the_embeddings_and_trains_the_head_alone(model):
    trainer = contenders.train("bound", model)
    before = [weight.clone() for weight in model.encoder.parameters()]
    started = []
    model.encoder.embeddings.dropout.register_forward_pre_hook(
        lambda module, inputs: started.append(inputs[0])
    )
    trainer.backward()
    assert all(weight.grad is None for weight in model.encoder.parameters())
    assert all(weight.grad is not None for weight in model.head.parameters())
    assert started[0].is_leaf
    assert started[0].grad.abs().sum() > 0
    model.zero_grad()
    steps(trainer)
    assert all(map(torch.equal, model.encoder.parameters(), before))
    assert trainer.trained == 0


def test_full_trains_everything(model):
    trainer = contenders.train("full", model)
    trainer.backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert trainer.trained == trainer.eligible == sum(p.numel() for p in model.encoder.parameters())
    steps(trainer)


def test_masked_gradient_zeroes_what_is_not_selected(model):
    trainer = contenders.train("masked_gradient", model)
    gradients = {}
    trainer.optimizer.register_step_post_hook(
        lambda *_: gradients.update({weight: weight.grad for weight in trainer.masks})
    )
    trainer.step()
    assert not any(gradients[weight][mask == 0].any() for weight, mask in trainer.masks.items())
    assert any(gradient.any() for gradient in gradients.values())
    assert trainer.trained == sum(int(mask.sum()) for mask in trainer.masks.values())
    assert 0.04 < trainer.trained / trainer.eligible < 0.06
    steps(trainer)


@pytest.mark.parametrize("name", [*OURS, *MOVING, "lora"])
def test_ours_trains_as_many_as_the_method_says(model, name):
    before = state(model.encoder)
    eligible = sum(weight.numel() for weight in before.values())
    biases = sum(w.numel() for key, w in before.items() if key.endswith("bias"))
    counts = {"lora": 2 * 2 * 8 * (16 + 16), "ours/bitfit": biases} | dict.fromkeys(MOVING, biases)
    trainer = contenders.train(name, model)
    trainer.step()  # after which child_pruning has chosen
    assert trainer.counts() == {
        "trained_weights": counts.get(name, int(0.05 * eligible)),
        "eligible_weights": eligible,
    }
    steps(trainer)
    model.loss()  # writes the new values
    after = effective(model.encoder, before)
    changed = sum(int((after[key] != before[key]).sum()) for key in before)
    assert (0 < changed <= 3 * trainer.trained) == (name != "lora")


def test_mu_is_collected_beside_full_tuning_and_nothing_else_changes(model, monkeypatch):
    seen = []
    real = Importance.sum
    monkeypatch.setattr(Importance, "sum", lambda self, x: seen.append(1) or real(self, x))
    twin = copy.deepcopy(model)
    torch.manual_seed(0), steps(contenders.train("full_and_mu", model))
    # Two layers of six linear ones and two normalisations, the embeddings' and the pooler.
    assert len(seen) == 2 * (2 * (6 + 2) + 2)
    torch.manual_seed(0), steps(contenders.train("full", twin))
    pairs = zip(model.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("name", PEFT)
def test_peft_trains_new_values_alone(model, name):
    pytest.importorskip("peft")
    before = [weight.detach().clone() for weight in model.encoder.parameters()]
    old = [*model.encoder.parameters()]
    trainer = contenders.train(name, model)
    assert 0 < trainer.trained < 0.1 * trainer.eligible
    steps(trainer)
    assert all(map(torch.equal, old, before))


def test_shira_rank_is_the_closest_that_fits():
    layers = [nn.Linear(768, 768), nn.Linear(768, 768)]
    assert peft_tuners.shira_rank(layers, 0.0001) == 1
    assert peft_tuners.shira_rank(layers, 1.0) == 384
    assert peft_tuners.shira_rank([nn.Linear(4, 4), nn.Linear(768, 768)], 1.0) == 2


def test_the_probe_leaves_the_model_as_it_was(model):
    probe = contenders.probe_of(model)
    for _ in probe(2, max_grad_norm=0.5):
        assert not model.training
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert norm <= 0.5 + 1e-5
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())


def test_which_contenders_run(monkeypatch):
    monkeypatch.setattr(contenders, "absent", lambda: PEFT)
    here = tuple(name for name in contenders.names() if name not in PEFT)
    assert contenders.chosen(()) == here
    assert contenders.chosen(["ours"]) == ("bound", "full", *OURS, *MOVING)
    assert contenders.chosen(["lora", "full"]) == ("bound", "full", "lora")
    with pytest.raises(InputError, match="contender 'lorra' is unknown; did you mean lora"):
        contenders.chosen(["lorra"])
    missing = "contender peft/shira is not installed: pip install 'peft>=0.21'"
    with pytest.raises(InputError, match=missing):
        contenders.chosen(["peft/shira"])
    monkeypatch.setattr(contenders, "absent", lambda: ())
    assert contenders.chosen(()) == contenders.names()
