"""SAM, FISH and Child-Tuning_D against gradients that are combined by hand in float64."""

import numpy as np
import pytest
import torch
from support.models import attach_watched, bert, end_to_end, rng, roberta

from jiant_sparse.methods.child_tuning_d import ChildTuningD
from jiant_sparse.methods.fish import FISH
from jiant_sparse.methods.sam import SAM
from jiant_sparse.sparse import selection

COMBINE = {
    "signed_sum": lambda gradients: np.abs(gradients.sum(0)),
    "fisher": lambda gradients: (gradients**2).sum(0),
    "absolute": lambda gradients: np.abs(gradients).sum(0),
}
both_encoders = pytest.mark.parametrize("make", [bert, roberta])


def clipped(gradients: np.ndarray, clip: float) -> np.ndarray:
    """(batches, ...): each batch's gradient of one tensor, shortened to the norm `clip`."""
    norms = np.sqrt((gradients**2).reshape(len(gradients), -1).sum(1))
    factors = np.minimum(1, clip / (norms + 1e-6))
    return gradients * factors.reshape(-1, *[1] * (gradients.ndim - 1))


def check_largest(masks: dict, scores: dict, density: float, scope: str = "global") -> None:
    """The masks are those of the largest scores, over all tensors or in each one."""
    for group in [list(scores)] if scope == "global" else [[name] for name in scores]:
        values = end_to_end(scores[name] for name in group)
        chosen = end_to_end(masks[name] for name in group)
        # Of a tensor that the loss does not reach nothing is chosen.
        k = int(len(values) * density) if values.any() else 0
        assert chosen.sum() == k
        if k:
            # Sums in float32 may order two scores that agree to their last digits otherwise.
            assert values[chosen].min() >= values[~chosen].max() * (1 - 1e-4)


@pytest.mark.parametrize("score", COMBINE)
@pytest.mark.parametrize("scope", selection.SCOPES)
@both_encoders
def test_sam_trains_the_largest_scores(score, scope, make):
    method = SAM(density=0.02, burn_in=4, score=score, scope=scope)
    masks, seen, _ = attach_watched(method, make(), pooled=False)
    check_largest(masks, {n: COMBINE[score](parts) for n, parts in seen.items()}, 0.02, scope)
    assert not masks["pooler.dense.weight"].any(), "the loss does not reach it"


@pytest.mark.parametrize(
    ("score", "make", "pooled"), [("fisher", bert, True), ("absolute", roberta, False)]
)
def test_fish_trains_the_largest_sums_over_single_examples(score, make, pooled):
    method = FISH(density=0.02, samples=12, score=score)
    masks, seen, asked = attach_watched(method, make(), pooled=pooled)
    assert asked == [(12, {"repeat": False, "batch_size": 1})]
    assert {len(parts) for parts in seen.values()} == {12}
    check_largest(masks, {name: COMBINE[score](parts) for name, parts in seen.items()}, 0.02)
    chosen = end_to_end(masks.values())
    for other in {*COMBINE} - {score}:
        scores = end_to_end(COMBINE[other](parts) for parts in seen.values())
        assert scores[chosen].min() < scores[~chosen].max(), f"{other} would choose the same"


@pytest.mark.parametrize(
    ("make", "pooled", "clip"), [(bert, True, 0.01), (roberta, False, 0.1), (bert, False, 1.0)]
)
def test_child_tuning_d_trains_the_largest_sums_of_clipped_squares(make, pooled, clip):
    method = ChildTuningD(density=0.02, burn_in=5, clip=clip)
    masks, seen, _ = attach_watched(method, make(), pooled=pooled)
    scores = {n: COMBINE["fisher"](clipped(parts, clip)) for n, parts in seen.items()}
    check_largest(masks, scores, 0.02)
    assert pooled or not masks["pooler.dense.weight"].any()
    if clip < 1:
        plain = end_to_end(map(COMBINE["fisher"], seen.values()))
        chosen = end_to_end(masks.values())
        assert plain[chosen].min() < plain[~chosen].max(), "without the clip the choice is the same"


@pytest.mark.parametrize(
    ("method", "batches", "options"),
    [
        (ChildTuningD(), None, {"repeat": False, "dropout": True}),
        (ChildTuningD(burn_in=3, dropout=False), 3, {"repeat": False, "dropout": False}),
        (ChildTuningD(burn_in=1, clip=0.5), 1, {"repeat": False, "dropout": True}),
        (SAM(burn_in=2), 2, {}),
        (SAM(burn_in=2, dropout=True, clip=0.5), 2, {"dropout": True, "max_grad_norm": 0.5}),
        (SAM(burn_in=3, head_steps=7), 3, {"head_steps": 7}),
        (SAM(burn_in="exact"), None, {}),
    ],
)
def test_the_probe_is_asked_for_what_the_fields_say(method, batches, options):
    if isinstance(method, SAM):
        options = {"dropout": False, "max_grad_norm": None, "head_steps": 0} | options
    assert attach_watched(method, bert())[2] == [(batches, options)]


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, 0.25]])
def test_a_short_batch_counts_by_its_size(weights):
    """Two batches; the second one's gradient is the larger, but it may be of a quarter's size."""
    model = torch.nn.Linear(2, 1, bias=False)

    def probe(batches, **options):
        for gradient, weight in zip([[[1.0, 0.0]], [[0.0, 2.0]]], weights, strict=True):
            model.weight.grad = torch.tensor(gradient)
            yield weight

    SAM(density=0.5, burn_in=2).attach(model, probe, rng)
    (index,) = model.parametrizations.weight[0].index.tolist()
    assert index == (1 if weights[1] == 1 else 0)
