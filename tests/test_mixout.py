"""Mixout on a tiny encoder: what is mixed, what survives the reset, what is evaluated."""

import pytest
import torch
from support.models import (
    Trainer,
    bert,
    bits,
    effective,
    outputs,
    rng,
    roberta,
    state,
    stored,
    trained_masks,
)
from torch import nn

from jiant_sparse.methods.full_tuning import FullTuning
from jiant_sparse.methods.mixout import Mixout
from jiant_sparse.sparse import surgery


def attached(method: Mixout, make=bert, **options) -> tuple[nn.Module, dict]:
    """A model under Mixout and its pretrained tensors."""
    encoder = make(**options)
    before = state(encoder)
    method.attach(encoder, None, rng)
    return encoder, before


def raise_all(encoder: nn.Module) -> None:
    """Move every weight by one, so that what is pretrained again shows."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)


def linear(names) -> set[str]:
    """In these encoders: the matrices that are no embeddings."""
    return {n for n in names if n.endswith("weight") and not ("embeddings" in n or "Norm" in n)}


@pytest.mark.parametrize(
    ("make", "tensors", "reset", "mix"),
    [
        (bert, "linear", True, "rows"),
        (roberta, "linear", False, "elements"),
        (bert, "all", False, "rows"),
        (roberta, "all", True, "elements"),
        (bert, "all", True, "none"),
    ],
)
def test_the_named_tensors_are_mixed_and_no_others(make, tensors, reset, mix):
    encoder, before = attached(Mixout(q=0.75, mix=mix, tensors=tensors, reset=reset), make)
    assert len(linear(before)) == 13
    raise_all(encoder.train())
    mixed = linear(before) if tensors == "linear" else set(before) if mix != "none" else ()
    weights = stored(encoder)
    for name, value in effective(encoder, before).items():
        if name not in mixed:
            assert torch.equal(bits(value), bits(weights[name])), name
            continue
        b = value != before[name]
        assert not torch.equal(value, weights[name]), name
        expected = before[name].double() + b * (weights[name] - before[name]).double() / 0.25
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
        if value.dim() == 2 and len(b) > 1:
            assert bool((b == b[0]).all()) == (mix == "rows"), name


@pytest.mark.parametrize("thousandths", [1, 100, 300, 990])
def test_the_reset_leaves_exactly_the_budget(thousandths):
    method = Mixout(q=(1000 - thousandths) / 1000)
    # 7,680 weights: a tenth of them, 768, is one that 1 - 0.9 in binary would miss.
    encoder, before = attached(method, vocabulary=51)
    assert sum(tensor.numel() for tensor in before.values()) == 7680
    raise_all(encoder)
    evaluated = effective(encoder.eval(), before)
    changed = sum(int((evaluated[name] != before[name]).sum()) for name in before)
    assert changed == 7680 * thousandths // 1000
    assert surgery.count(encoder, before) == (changed, 0)


@pytest.mark.parametrize(("mix", "reset"), [("rows", True), ("elements", False), ("none", True)])
def test_every_step_draws_anew_and_every_evaluation_sees_the_trained_weights(mix, reset):
    method = Mixout(q=0.9, mix=mix, reset=reset)
    encoder, before = attached(method)
    masks = trained_masks(encoder, list(before))
    Trainer(encoder).train(method, 3)
    generator = torch.get_rng_state()
    weights, seen = stored(encoder), [effective(encoder.eval(), before)]
    assert torch.equal(torch.get_rng_state(), generator)
    drawn = [effective(encoder.train(), before) for _ in range(2)]
    method.after_step(4, None)
    drawn.append(effective(encoder, before))
    for name in linear(before):
        assert torch.equal(drawn[0][name], drawn[1][name])
        assert torch.equal(drawn[0][name], drawn[2][name]) == (mix == "none"), name
    seen.append(effective(encoder.eval(), before))
    surgery.fold(encoder)
    seen.append(state(encoder))
    for name, mask in masks.items():
        kept = mask if reset else torch.ones_like(mask)
        expected = bits(torch.where(kept, weights[name], before[name]))
        assert all(torch.equal(bits(each[name]), expected) for each in seen), name
    assert any(not torch.equal(weights[name], before[name]) for name in linear(before))


def test_without_mixing_it_is_full_tuning_until_it_is_evaluated():
    trainers = [Trainer(bert()) for _ in range(2)]
    for method, trainer in zip((FullTuning(), Mixout(q=0.9, mix="none")), trainers, strict=True):
        method.attach(trainer.encoder, trainer.probe, rng)
        trainer.train(method, 6)
    full, mixout = trainers
    assert full.losses == mixout.losses
    weights = stored(mixout.encoder)
    assert all(torch.equal(bits(weights[n]), bits(w)) for n, w in state(full.encoder).items())
    one, other = (outputs(trainer.encoder.eval())[1] for trainer in trainers)
    assert not torch.allclose(one, other)
