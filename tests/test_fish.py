"""FISH against float64 sums over the gradients of single examples."""

import numpy as np
import pytest
from support.models import attach_watched, bert, end_to_end, roberta

from jiant_sparse.errors import InputError
from jiant_sparse.methods.fish import FISH

COMBINE = {
    "fisher": lambda gradients: (gradients**2).sum(0),
    "absolute": lambda gradients: np.abs(gradients).sum(0),
}


def attach(encoder, *, pooled: bool = True, **fields):
    return attach_watched(FISH(**fields), encoder, pooled=pooled)


@pytest.mark.parametrize("score", COMBINE)
@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("pooled", [True, False])
def test_the_largest_sums_over_examples_train(score, make, pooled):
    fields = {"density": 0.02, "samples": 12, "score": score}
    masks, seen, asked = attach(make(), pooled=pooled, **fields)
    assert asked == [(12, False, False, None, 1)]
    scores = end_to_end(COMBINE[score](gradients) for gradients in seen.values())
    chosen = end_to_end(masks.values())
    assert chosen.sum() == int(scores.size * 0.02)
    # Sums in float32 may order two scores that agree to their last digits otherwise.
    assert scores[chosen].min() >= scores[~chosen].max() * (1 - 1e-4)
    of_the_sum = end_to_end(np.abs(gradients.sum(0)) for gradients in seen.values())
    assert of_the_sum[chosen].min() < of_the_sum[~chosen].max(), "the examples make no difference"
    if not pooled:
        assert not masks["pooler.dense.weight"].any(), "the loss does not reach it"


def test_the_two_scores_choose_otherwise():
    chosen = [
        end_to_end(attach(bert(), density=0.02, samples=12, score=score)[0].values())
        for score in COMBINE
    ]
    assert (chosen[0] != chosen[1]).any()


@pytest.mark.parametrize("samples", [1, 5])
def test_the_probe_is_asked_for_single_examples_without_dropout(samples):
    seen, asked = attach(bert(), samples=samples)[1:]
    assert asked == [(samples, False, False, None, 1)]
    assert len(seen["pooler.dense.bias"]) == samples


@pytest.mark.parametrize("density", [0.0005, 0.003, 0.29])
def test_exactly_the_budget_trains(density):
    masks = attach(bert(), density=density, samples=2)[0]
    chosen = end_to_end(masks.values())
    assert chosen.sum() == int(chosen.size * density)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"density": 0}, "density is 0; it must be in (0, 1]"),
        ({"samples": 0}, "samples is 0; it must be at least 1 example"),
        ({"score": "expected"}, "score is 'expected'; it must be one of fisher, absolute"),
    ],
)
def test_bad_values_are_named(fields, message):
    with pytest.raises(InputError) as caught:
        FISH(**fields)
    assert str(caught.value) == message
