"""MagPruning against a plain NumPy sort."""

import numpy as np
import pytest
from support import bert, rng, trained_masks

from jiant_sparse.methods.mag_pruning import MagPruning
from jiant_sparse.sparse import selection, surgery


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


def test_before_the_first_step():
    """No probe, no burn-in: the choice is of the pretrained weights."""
    encoder = bert()
    names = list(surgery.eligible(encoder))
    MagPruning().attach(encoder, None, rng)
    assert surgery.count(encoder, names)[0] == selection.budget(
        sum(m.numel() for m in trained_masks(encoder, names).values()), 0.005
    )
