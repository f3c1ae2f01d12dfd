"""Random, BitFit, MultiHead and MagPruning: which weights they choose, once and for all."""

import numpy as np
import pytest
import torch
from support.models import (
    Trainer,
    bert,
    effective,
    end_to_end,
    largest_mask,
    rng,
    roberta,
    state,
    trained_masks,
)
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method
from jiant_sparse.methods.bitfit import BitFit
from jiant_sparse.methods.mag_pruning import MagPruning
from jiant_sparse.methods.multi_head import MultiHead
from jiant_sparse.methods.random import Random
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import selection, surgery

every_scope = pytest.mark.parametrize("scope", selection.SCOPES)


# --- Random


def drawn(seed: int = 0, **fields) -> dict[str, torch.Tensor]:
    encoder = bert()
    names = list(surgery.eligible(encoder))

    def rng(name):
        return torch.Generator().manual_seed(derive(seed, name))

    Random(**fields).attach(encoder, None, rng)
    return trained_masks(encoder, names)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_random_draws_the_budget_of_each_tensor():
    masks = drawn(density=0.2, scope="per_tensor")
    for name, mask in masks.items():
        assert int(mask.sum()) == selection.budget(mask.numel(), 0.2), name
    query, key = (masks[f"encoder.layer.0.attention.self.{n}.weight"] for n in ("query", "key"))
    assert not torch.equal(query, key)


def test_bernoulli_draws_each_weight_by_itself_whatever_the_scope():
    one, other = (drawn(density=0.3, scope=s, draw="bernoulli") for s in selection.SCOPES)
    assert same(one, other)
    size = sum(mask.numel() for mask in one.values())
    others = (drawn(seed, density=0.3, draw="bernoulli") for seed in range(1, 5))
    counts = {sum(int(mask.sum()) for mask in each.values()) for each in (one, *others)}
    assert len(counts) > 1
    assert all(abs(count - 0.3 * size) < 5 * (0.21 * size) ** 0.5 for count in counts)


# --- BitFit


def test_exactly_the_biases_train():
    encoder = bert()
    BitFit().attach(encoder, None, rng)
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == name.endswith(".bias"), name


def test_an_encoder_without_biases_is_refused():
    with pytest.raises(InputError, match="the encoder has no tensor called bias"):
        BitFit().attach(nn.Embedding(3, 2), None, rng)


# --- MultiHead

LINEAR = ("self.query", "self.key", "self.value", "output.dense")


@pytest.mark.parametrize(
    ("make", "layer_norm", "parts"),
    [(bert, False, LINEAR), (roberta, True, (*LINEAR, "output.LayerNorm"))],
)
def test_exactly_the_attention_trains(make, layer_norm, parts):
    encoder = make()
    MultiHead(layer_norm=layer_norm).attach(encoder, None, rng)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == {
        f"encoder.layer.{layer}.attention.{part}.{leaf}"
        for layer in range(2)
        for part in parts
        for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize(
    ("remove", "layer_norm", "missing"),
    [
        ("attention", False, "attention.self.query"),
        ("attention.self.value", False, "attention.self.value"),
        ("attention.output.LayerNorm", True, "attention.output.LayerNorm"),
    ],
)
def test_an_encoder_without_a_part_is_refused_and_left_alone(remove, layer_norm, missing):
    encoder = bert()
    for layer in encoder.encoder.layer:
        path, _, leaf = remove.rpartition(".")
        setattr(layer.get_submodule(path), leaf, nn.Identity())
    parts = (*LINEAR, "output.LayerNorm") if layer_norm else LINEAR
    looked = ", ".join(f"attention.{part}" for part in parts)
    with pytest.raises(InputError) as error:
        MultiHead(layer_norm=layer_norm).attach(encoder, None, rng)
    assert str(error.value) == (
        f"multi_head: the encoder has no weights in {missing}; looked for {looked} in its blocks"
    )
    assert all(p.requires_grad for p in encoder.parameters())


def test_a_name_that_only_ends_alike_is_not_the_attention():
    encoder = nn.ModuleDict(
        {name: bert().encoder.layer[0].attention for name in ("attention", "crossattention")}
    )
    MultiHead().attach(encoder, None, rng)
    trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
    assert len(trained) == 8
    assert all(name.startswith("attention.") for name in trained)


# --- MagPruning


@every_scope
@pytest.mark.parametrize("burn_in", [0, 5])
def test_the_largest_magnitudes_of_that_moment_train_and_the_rest_stays(burn_in, scope):
    encoder, plain = bert(), bert()
    names = list(state(encoder))
    start = end_to_end(state(encoder).values())
    trainer, method = Trainer(encoder), MagPruning(density=0.02, scope=scope, burn_in=burn_in)
    method.attach(encoder, None, rng)
    for step in range(burn_in):
        assert not method.scores_at(step)
        assert all(p.requires_grad for p in encoder.parameters())
        trainer.train(method, 1)
    Trainer(plain).train(Method(), burn_in)
    then = end_to_end(state(plain).values())
    assert ((then != start).mean() > 0.9) == (burn_in > 0)
    chosen = end_to_end(trained_masks(encoder, names).values())
    sizes = [p.numel() for p in plain.parameters()]
    sizes = [sum(sizes)] if scope == "global" else sizes
    assert np.array_equal(chosen, largest_mask(np.abs(then), sizes, 0.02))
    last = end_to_end(effective(encoder, names).values())
    assert np.array_equal(last, then)
    for step in range(burn_in, burn_in + 5):
        assert method.scores_at(step)
        trainer.train(method, 1)
        now = end_to_end(effective(encoder, names).values())
        assert np.array_equal(now[~chosen].view(np.int32), then[~chosen].view(np.int32))
        assert (now[chosen] != last[chosen]).mean() > 0.9
        last = now
    surgery.fold(encoder)
    assert np.array_equal(end_to_end(state(encoder).values()), last)
