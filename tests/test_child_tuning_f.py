"""ChildTuningF: the gradient that a step sees, against g b / p."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, end_to_end, rng
from torch import nn

from jiant_sparse.methods.child_tuning_f import ChildTuningF
from jiant_sparse.seeds import derive


def attached(encoder: nn.Module, *, p: float = 0.3, seed: int = 0) -> ChildTuningF:
    method = ChildTuningF(reserve_p=p)
    method.attach(encoder, None, lambda name: torch.Generator().manual_seed(derive(seed, name)))
    return method


def kept(encoder: nn.Module, method: ChildTuningF, step: int) -> dict[str, np.ndarray]:
    """b of every tensor, as bool: what is left of gradients of one."""
    for parameter in encoder.parameters():
        parameter.grad = torch.ones_like(parameter)
    method.before_step(step)
    return {name: p.grad.numpy() != 0 for name, p in encoder.named_parameters()}


def near(ones: int, draws: int, p: float) -> bool:
    """Whether the count is within four standard deviations of a binomial's mean."""
    return abs(ones - draws * p) <= 4 * (draws * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("p", [0.05, 0.3, 1.0])
def test_each_gradient_is_dropped_or_divided_by_p(p):
    encoder = bert()
    trainer, method = Trainer(encoder), attached(encoder, p=p)
    trainer.backward(rng("batch"))
    old = end_to_end(w.grad.double() for w in encoder.parameters()).copy()
    method.before_step(1)
    new = end_to_end(w.grad.double() for w in encoder.parameters())
    left = new != 0
    np.testing.assert_allclose(new[left], old[left] / p, rtol=1e-6)
    assert near(left.sum(), (old != 0).sum(), p)
    assert (old[~left] != 0).any() == (p < 1)


def test_every_step_draws_anew_and_independently():
    encoder = bert()
    method = attached(encoder)
    masks = [end_to_end(kept(encoder, method, step).values()) for step in range(1, 7)]
    for mask in masks:
        assert near(mask.sum(), mask.size, 0.3)
    for one, other in zip(masks, masks[1:], strict=False):
        assert near((one & other).sum(), one.size, 0.3**2)
    # Each entry by itself: as many never kept in six steps as chance would have it.
    assert near((~np.array(masks).any(0)).sum(), masks[0].size, 0.7**6)


def test_seed_step_and_name_decide_in_whatever_order_they_come():
    def pair(*names):
        return nn.ModuleDict({name: nn.Linear(6, 5) for name in names})

    one, two, three = pair("a", "b"), pair("c", "b", "a"), pair("a", "b")
    first, before = kept(one, attached(one), 5), torch.get_rng_state()
    method = attached(two)
    for step in (1, 2, 9):
        kept(two, method, step)
    again, other = kept(two, method, 5), kept(three, attached(three, seed=1), 5)
    assert all(np.array_equal(mask, again[name]) for name, mask in first.items())
    assert not np.array_equal(first["a.weight"], first["b.weight"])
    assert not np.array_equal(first["a.weight"], other["a.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_tensor_without_a_gradient_is_left_alone_and_shifts_no_other():
    encoder, name = bert(), "encoder.layer.0.attention.self.key.weight"
    method, key = attached(encoder), encoder.get_parameter(name)
    whole = kept(encoder, method, 1)[name]
    encoder.zero_grad()
    key.grad = torch.ones_like(key)
    method.before_step(1)
    assert {n for n, p in encoder.named_parameters() if p.grad is not None} == {name}
    assert np.array_equal(key.grad.numpy() != 0, whole)
