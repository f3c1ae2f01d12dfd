"""MagPruning against a plain NumPy sort."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, rng, state, trained_masks

from jiant_sparse.methods.base import Method
from jiant_sparse.methods.mag_pruning import MagPruning
from jiant_sparse.sparse import selection, surgery

BURN_IN = 5


@pytest.mark.parametrize("scope", selection.SCOPES)
def test_the_largest_pretrained_magnitudes_train(scope):
    encoder = bert()
    weights = {n: p.detach().numpy().astype(np.float64) for n, p in encoder.named_parameters()}
    MagPruning(density=0.02, scope=scope).attach(encoder, None, rng)
    masks = {n: m.numpy() for n, m in trained_masks(encoder, list(weights)).items()}
    groups = [list(weights)] if scope == "global" else [[name] for name in weights]
    for group in groups:
        size = np.concatenate([np.abs(weights[name]).ravel() for name in group])
        chosen = np.concatenate([masks[name].ravel() for name in group])
        k = int(len(size) * 0.02)
        assert chosen.sum() == k
        if k:
            assert size[chosen].min() >= size[~chosen].max()


def as_computed(encoder, names) -> np.ndarray:
    """The weights that the modules compute with, end to end."""
    paths = [name.rpartition(".") for name in names]
    values = [getattr(encoder.get_submodule(path), leaf) for path, _, leaf in paths]
    return np.concatenate([value.detach().flatten().numpy() for value in values])


def flat(tensors, names) -> np.ndarray:
    return np.concatenate([tensors[name].detach().flatten().numpy() for name in names])


def largest(scores: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Per stretch of these sizes, the entries with the largest scores; among equals the earlier."""
    mask, first = np.zeros(scores.size, bool), 0
    for size in sizes:
        order = np.argsort(-scores[first : first + size], kind="stable")
        mask[first + order[: int(size * 0.02)]] = True
        first += size
    return mask


def test_a_burn_in_tunes_everything_first():
    encoder = bert()
    before = state(encoder)
    trainer, method = Trainer(encoder), MagPruning(density=0.02, burn_in=BURN_IN)
    method.attach(encoder, None, rng)
    trainer.train(method, BURN_IN - 1)
    assert not method.scores_at(BURN_IN - 1)
    assert all(p.requires_grad for p in encoder.parameters())
    plain = bert()
    Trainer(plain).train(Method(), BURN_IN - 1)
    after, expected = state(encoder), state(plain)
    assert list(after) == list(before)
    assert all(torch.equal(after[name], expected[name]) for name in before)
    assert (flat(after, before) != flat(before, before)).mean() > 0.9
    trainer.train(method, 1)
    assert method.scores_at(BURN_IN)


@pytest.mark.parametrize("scope", selection.SCOPES)
def test_after_a_burn_in_the_largest_of_then_train_and_the_rest_stays_as_it_is(scope):
    encoder, plain = bert(), bert()
    pretrained = state(encoder)
    sizes = [tensor.numel() for tensor in pretrained.values()]
    sizes = [sum(sizes)] if scope == "global" else sizes
    trainer, method = Trainer(encoder), MagPruning(density=0.02, scope=scope, burn_in=BURN_IN)
    method.attach(encoder, None, rng)
    trainer.train(method, BURN_IN)
    Trainer(plain).train(Method(), BURN_IN)
    then = flat(state(plain), pretrained)
    start = flat(pretrained, pretrained)
    chosen = largest(np.abs(then), sizes)
    assert (chosen != largest(np.abs(start), sizes)).any(), "the burn-in makes no difference"
    assert np.array_equal(flat(trained_masks(encoder, list(pretrained)), pretrained), chosen)
    assert np.array_equal(as_computed(encoder, pretrained), then)
    for _ in range(20):
        last = as_computed(encoder, pretrained)
        trainer.train(method, 1)
        now = as_computed(encoder, pretrained)
        assert np.array_equal(now[~chosen].view(np.int32), then[~chosen].view(np.int32))
        assert (now[chosen] != last[chosen]).mean() > 0.9
    assert (now[~chosen] != start[~chosen]).mean() > 0.9, "it is not put back"
    surgery.fold(encoder)
    assert np.array_equal(flat(state(encoder), pretrained), now)


@pytest.mark.parametrize("burn_in", [0, 1, 3])
def test_scores_compete_from_the_choice_on(burn_in):
    encoder = bert()
    trainer, method = Trainer(encoder), MagPruning(burn_in=burn_in)
    method.attach(encoder, None, rng)
    for step in range(5):
        assert method.scores_at(step) == (step >= burn_in)
        trainer.train(method, 1)
