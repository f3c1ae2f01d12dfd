"""ChildTuningF: the gradient that a step sees, against g b / p."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, rng, state
from torch import nn

from jiant_sparse.methods.child_tuning_f import ChildTuningF
from jiant_sparse.seeds import derive

QUERY, KEY = (f"encoder.layer.0.attention.self.{part}.weight" for part in ("query", "key"))


def other_rng(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(1, name))


def attached(encoder: nn.Module, *, p: float = 0.3, streams=rng) -> ChildTuningF:
    method = ChildTuningF(reserve_p=p)
    method.attach(encoder, None, streams)
    return method


def kept(encoder: nn.Module, method: ChildTuningF, step: int) -> dict[str, np.ndarray]:
    """b of every tensor, as bool: what is left of gradients of one."""
    for parameter in encoder.parameters():
        parameter.grad = torch.ones_like(parameter)
    method.before_step(step)
    return {name: p.grad.numpy() != 0 for name, p in encoder.named_parameters()}


def end_to_end(parts: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([part.ravel() for part in parts.values()])


def near(ones: int, draws: int, p: float) -> bool:
    """Whether the count is within four standard deviations of a binomial's mean."""
    return abs(ones - draws * p) <= 4 * (draws * p * (1 - p)) ** 0.5


@pytest.mark.parametrize("p", [0.3, 0.05, 0.9])
def test_each_gradient_is_dropped_or_divided_by_p(p):
    encoder = bert()
    trainer, method = Trainer(encoder), attached(encoder, p=p)
    trainer.backward(torch.Generator().manual_seed(1))
    old = {n: w.grad.double().numpy().ravel().copy() for n, w in encoder.named_parameters()}
    method.before_step(1)
    new = {n: w.grad.double().numpy().ravel().copy() for n, w in encoder.named_parameters()}
    old, new = end_to_end(old), end_to_end(new)
    left = new != 0
    np.testing.assert_allclose(new[left], old[left] / p, rtol=1e-6)
    assert near(left.sum(), (old != 0).sum(), p)
    assert (old[~left] != 0).any()


def test_with_p_of_one_every_gradient_stays_as_it_is():
    encoder = bert()
    trainer, method = Trainer(encoder), attached(encoder, p=1.0)
    trainer.backward(torch.Generator().manual_seed(1))
    old = {name: p.grad.clone() for name, p in encoder.named_parameters()}
    method.before_step(1)
    assert all(torch.equal(p.grad, old[name]) for name, p in encoder.named_parameters())


def test_every_step_draws_anew_and_independently():
    encoder = bert()
    method = attached(encoder)
    masks = [end_to_end(kept(encoder, method, step)) for step in range(1, 7)]
    for mask in masks:
        assert near(mask.sum(), mask.size, 0.3)
    for one, other in zip(masks, masks[1:], strict=False):
        assert near((one & other).sum(), one.size, 0.3**2)
    # Each entry by itself: as many never kept in six steps as chance would have it.
    assert near((~np.array(masks).any(0)).sum(), masks[0].size, 0.7**6)


def test_the_seed_and_the_step_decide_and_no_global_generator():
    one, two, three = bert(), bert(), bert()
    torch.manual_seed(3)
    first, before = kept(one, attached(one), 5), torch.get_rng_state()
    method = attached(two)
    for step in (1, 2, 9):
        kept(two, method, step)
    again, other = kept(two, method, 5), kept(three, attached(three, streams=other_rng), 5)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first[QUERY], other[QUERY])
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_draw_by_name_in_whatever_order_they_come():
    def pair(*names):
        return nn.ModuleDict({name: nn.Linear(6, 5) for name in names})

    one, other = (kept(e, attached(e), 2) for e in (pair("a", "b"), pair("c", "b", "a")))
    for name, mask in one.items():
        assert np.array_equal(mask, other[name])
    assert not np.array_equal(one["a.weight"], one["b.weight"])


def test_a_tensor_without_a_gradient_is_left_alone_and_shifts_no_other():
    encoder = bert()
    method = attached(encoder)
    whole = kept(encoder, method, 1)
    for parameter in encoder.parameters():
        parameter.grad = None
    encoder.get_parameter(KEY).grad = torch.ones_like(encoder.get_parameter(KEY))
    method.before_step(1)
    assert {n for n, p in encoder.named_parameters() if p.grad is not None} == {KEY}
    assert np.array_equal(encoder.get_parameter(KEY).grad.numpy() != 0, whole[KEY])
    assert not np.array_equal(whole[QUERY], whole[KEY])


@pytest.mark.parametrize("pooled", [True, False])
def test_the_head_and_the_weights_themselves_are_untouched(pooled):
    encoder = bert()
    trainer, method = Trainer(encoder, pooled=pooled), attached(encoder)
    trainer.backward(torch.Generator().manual_seed(1))
    gradients = [p.grad.clone() for p in trainer.head.parameters()]
    weights = state(nn.ModuleList([encoder, trainer.head]))
    method.before_step(1)
    assert all(map(torch.equal, gradients, (p.grad for p in trainer.head.parameters())))
    after = state(nn.ModuleList([encoder, trainer.head]))
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())
    assert (encoder.pooler.dense.weight.grad is None) == (not pooled)
