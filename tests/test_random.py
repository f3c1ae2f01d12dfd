"""Random: exactly as many as declared, another choice for another seed."""

import pytest
import torch
from support import bert, trained_masks

from jiant_sparse.methods.random import Random
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import selection, surgery


def choice(seed: int, scope: str, density: float = 0.03) -> dict[str, torch.Tensor]:
    encoder = bert()
    names = list(surgery.eligible(encoder))

    def rng(name):
        return torch.Generator().manual_seed(derive(seed, name))

    Random(density=density, scope=scope).attach(encoder, None, rng)
    return trained_masks(encoder, names)


def test_global_draws_the_budget_of_all():
    masks = choice(0, "global")
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == selection.budget(total, 0.03)


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
