"""SAM against gradients added up by hand in float64."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, rng, roberta, trained_masks

from jiant_sparse.errors import InputError
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
        # Of a tensor that the loss does not reach nothing is chosen.
        k = int(len(values) * 0.02) if values.any() else 0
        assert chosen.sum() == k
        if k:
            # Sums in float32 may order two scores that agree to their last digits otherwise.
            assert values[chosen].min() >= values[~chosen].max() * (1 - 1e-5)
    # The loss does not reach the pooler here, so none of it is worth tuning.
    assert not masks["pooler.dense.weight"].any()


@pytest.mark.parametrize(
    ("fields", "batches"),
    [
        ({"burn_in": 2}, 2),
        ({"burn_in": 2, "dropout": True}, 2),
        ({"burn_in": 2, "clip": 0.5}, 2),
        ({"burn_in": 3, "head_steps": 7}, 3),
        ({"burn_in": "exact"}, None),
    ],
)
def test_the_probe_is_asked_for_what_the_fields_say(fields, batches):
    asked = []

    def probe(*arguments, **options):
        asked.append((*arguments, options))
        yield from trainer.probe(*arguments, **options)

    encoder = bert()
    trainer = Trainer(encoder)
    SAM(**fields).attach(encoder, probe, rng)
    expected = {"dropout": False, "max_grad_norm": fields.get("clip"), "head_steps": 0}
    expected |= {key: fields[key] for key in expected.keys() & fields.keys()}
    assert asked == [(batches, expected)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"burn_in": 0}, "burn_in is 0; it must be at least 1 batch, or 'exact'"),
        ({"burn_in": "all"}, "burn_in is 'all'; it must be at least 1 batch, or 'exact'"),
        (
            {"burn_in": "exact", "dropout": True},
            "burn_in is 'exact'; dropout must be false then, and clip null",
        ),
        (
            {"burn_in": "exact", "clip": 1.0},
            "burn_in is 'exact'; dropout must be false then, and clip null",
        ),
        ({"head_steps": -1}, "head_steps is -1; it must be 0 steps or more"),
    ],
)
def test_bad_values_are_named(fields, message):
    with pytest.raises(InputError) as caught:
        SAM(**fields)
    assert str(caught.value) == message


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, 0.25]])
def test_a_short_batch_weighs_by_its_size(weights):
    """Two batches; the second one's gradient is the larger, but it may be of a quarter's size."""
    model = torch.nn.Linear(2, 1, bias=False)

    def probe(batches, **options):
        for gradient, weight in zip([[[1.0, 0.0]], [[0.0, 2.0]]], weights, strict=True):
            model.weight.grad = torch.tensor(gradient)
            yield weight

    SAM(density=0.5, burn_in=2).attach(model, probe, rng)
    (index,) = model.parametrizations.weight[0].index.tolist()
    assert index == (1 if weights[1] == 1 else 0)
