"""Random: exactly as many as declared, another choice for another seed."""

import pytest
import torch
from support.models import bert, trained_masks

from jiant_sparse.methods.random import Random
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import selection, surgery


def choice(
    seed: int, scope: str, density: float = 0.03, draw: str = "exact"
) -> dict[str, torch.Tensor]:
    encoder = bert()
    names = list(surgery.eligible(encoder))

    def rng(name):
        return torch.Generator().manual_seed(derive(seed, name))

    Random(density=density, scope=scope, draw=draw).attach(encoder, None, rng)
    return trained_masks(encoder, names)


def test_per_tensor_draws_the_budget_of_each():
    for name, mask in choice(0, "per_tensor").items():
        assert int(mask.sum()) == selection.budget(mask.numel(), 0.03), name


@pytest.mark.parametrize("scope", selection.SCOPES)
def test_the_seed_decides(scope):
    one, same, other = choice(1, scope), choice(1, scope), choice(2, scope)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_tensors_of_one_shape_do_not_share_a_choice():
    masks = choice(0, "per_tensor", 0.2)
    query, key = (masks[f"encoder.layer.0.attention.self.{n}.weight"] for n in ("query", "key"))
    assert not torch.equal(query, key)


def test_bernoulli_draws_each_weight_by_itself():
    masks = choice(0, "global", 0.3, "bernoulli")
    for name, mask in masks.items():
        # Six standard deviations: there are 39 tensors, and of the small ones some stray.
        assert abs(int(mask.sum()) - 0.3 * mask.numel()) < 6 * (0.21 * mask.numel()) ** 0.5, name
    chosen = torch.cat([mask.flatten() for mask in masks.values()])
    assert abs(int(chosen.sum()) - 0.3 * chosen.numel()) < 4 * (0.21 * chosen.numel()) ** 0.5
    # Whether a weight is chosen says nothing about the next one.
    pairs = chosen[1:] & chosen[:-1]
    assert abs(int(pairs.sum()) - 0.09 * pairs.numel()) < 6 * (0.09 * pairs.numel()) ** 0.5


def test_bernoulli_counts_vary_as_a_binomial_does():
    counts = [
        sum(int(mask.sum()) for mask in choice(seed, "global", 0.3, "bernoulli").values())
        for seed in range(30)
    ]
    size = sum(mask.numel() for mask in choice(0, "global").values())
    variance = torch.tensor(counts).double().var().item()
    # Of 30 draws; the ratio is chi-square over 29, outside of this once in 5,000.
    assert 0.3 < variance / (0.3 * 0.7 * size) < 2.3


def test_scope_makes_no_difference_to_bernoulli():
    one, other = (choice(3, scope, 0.1, "bernoulli") for scope in selection.SCOPES)
    assert all(torch.equal(one[name], other[name]) for name in one)
    another = choice(4, "global", 0.1, "bernoulli")
    assert any(not torch.equal(one[name], another[name]) for name in one)
