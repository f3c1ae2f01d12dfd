"""ChildTuningD against float64 sums of squared gradients that were each clipped by hand."""

import numpy as np
import pytest
from support.models import attach_watched, bert, end_to_end, roberta

from jiant_sparse.errors import InputError
from jiant_sparse.methods.child_tuning_d import ChildTuningD


def attach(encoder, *, pooled: bool = True, **fields):
    return attach_watched(ChildTuningD(**fields), encoder, pooled=pooled)


def clipped(gradients: np.ndarray, clip: float) -> np.ndarray:
    """(batches, ...): each batch's gradient of one tensor, shortened to the norm `clip`."""
    norms = np.sqrt((gradients**2).reshape(len(gradients), -1).sum(1))
    factors = np.minimum(1, clip / (norms + 1e-6))
    return gradients * factors.reshape(-1, *[1] * (gradients.ndim - 1))


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("clip", [0.01, 0.1, 1.0])
def test_the_largest_sums_of_clipped_squares_train(make, pooled, clip):
    masks, seen, _ = attach(make(), pooled=pooled, density=0.02, burn_in=5, clip=clip)
    scores = end_to_end((clipped(g, clip) ** 2).sum(0) for g in seen.values())
    chosen = end_to_end(masks.values())
    assert chosen.sum() == int(scores.size * 0.02)
    # Sums in float32 may order two scores that agree to their last digits otherwise.
    assert scores[chosen].min() >= scores[~chosen].max() * (1 - 1e-4)
    if not pooled:
        assert not masks["pooler.dense.weight"].any(), "the loss does not reach it"


def test_the_clip_decides():
    """The test above could not tell a clip from none if both led to the same choice."""
    choices = []
    for clip in (0.01, 0.1, 1e6):
        masks, seen, _ = attach(bert(), density=0.02, burn_in=5, clip=clip)
        norms = [np.linalg.norm(g[0]) for g in seen.values()]
        assert (max(norms) > clip) == (clip < 1)
        choices.append(end_to_end(masks.values()))
    assert (choices[0] != choices[1]).any()
    assert (choices[0] != choices[2]).any()
    assert (choices[1] != choices[2]).any()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (None, False, True, None, None)),
        ({"burn_in": 2}, (2, False, True, None, None)),
        ({"burn_in": 3, "dropout": False}, (3, False, False, None, None)),
        ({"burn_in": 1, "dropout": True, "clip": 0.5}, (1, False, True, None, None)),
    ],
)
def test_the_probe_is_asked_for_plain_batches_with_or_without_dropout(fields, expected):
    asked = attach(bert(), **fields)[2]
    assert asked == [expected]


@pytest.mark.parametrize("density", [0.0005, 0.003, 0.29])
def test_exactly_the_budget_trains(density):
    masks = attach(bert(), density=density, burn_in=1)[0]
    chosen = end_to_end(masks.values())
    assert chosen.sum() == int(chosen.size * density)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"density": 2}, "density is 2; it must be in (0, 1]"),
        ({"burn_in": 0}, "burn_in is 0; it must be at least 1 batch, or null"),
        ({"clip": 0}, "clip is 0; it must be a positive norm"),
        ({"clip": -1.0}, "clip is -1.0; it must be a positive norm"),
        ({"clip": float("nan")}, "clip is nan; it must be a positive norm"),
    ],
)
def test_bad_values_are_named(fields, message):
    with pytest.raises(InputError) as caught:
        ChildTuningD(**fields)
    assert str(caught.value) == message
