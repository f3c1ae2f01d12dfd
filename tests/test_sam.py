"""SAM against gradients added up by hand in float64."""

import numpy as np
import pytest
from support import Trainer, bert, rng, roberta, trained_masks

from jiant_sparse.methods.sam import SAM
from jiant_sparse.sparse import selection

COMBINE = {
    "signed_sum": lambda g: np.abs(g.sum(0)),
    "fisher": lambda g: (g**2).sum(0),
    "absolute": lambda g: np.abs(g).sum(0),
}


def gradients(encoder, batches: int, **options) -> dict[str, np.ndarray]:
    """(batches, *shape) each tensor's gradients; zeros where the loss does not reach."""
    found = {name: [] for name, _ in encoder.named_parameters()}
    for _ in Trainer(encoder, pooled=options.pop("pooled", True)).probe(batches, **options):
        for name, p in encoder.named_parameters():
            gradient = np.zeros(p.shape) if p.grad is None else p.grad.double().numpy()
            found[name].append(gradient)
    return {name: np.stack(parts) for name, parts in found.items()}


@pytest.mark.parametrize("score", COMBINE)
@pytest.mark.parametrize("scope", selection.SCOPES)
@pytest.mark.parametrize("make", [bert, roberta])
def test_the_largest_scores_train(score, scope, make):
    encoder = make()
    found = gradients(make(), 4, pooled=False)
    method = SAM(density=0.02, burn_in=4, score=score, scope=scope)
    method.attach(encoder, Trainer(encoder, pooled=False).probe, rng)
    masks = {n: m.numpy().ravel() for n, m in trained_masks(encoder, list(found)).items()}
    scores = {name: COMBINE[score](parts).ravel() for name, parts in found.items()}
    groups = [list(scores)] if scope == "global" else [[name] for name in scores]
    for group in groups:
        values = np.concatenate([scores[name] for name in group])
        chosen = np.concatenate([masks[name] for name in group])
        k = int(len(values) * 0.02)
        assert chosen.sum() == k
        if k:
            # Sums in float32 may order two scores that agree to their last digits otherwise.
            assert values[chosen].min() >= values[~chosen].max() * (1 - 1e-5)
    if scope == "global":
        # The loss does not reach the pooler here, so none of it is worth tuning.
        assert not masks["pooler.dense.weight"].any()


@pytest.mark.parametrize("options", [{}, {"dropout": True}, {"clip": 0.5}])
def test_the_probe_is_asked_for_what_the_fields_say(options):
    asked = []

    def probe(batches, *, dropout=False, max_grad_norm=None):
        asked.append((batches, dropout, max_grad_norm))
        yield from trainer.probe(batches, dropout=dropout, max_grad_norm=max_grad_norm)

    encoder = bert()
    trainer = Trainer(encoder)
    SAM(burn_in=2, **options).attach(encoder, probe, rng)
    assert asked == [(2, options.get("dropout", False), options.get("clip"))]
