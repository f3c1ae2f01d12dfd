"""Our dropout has torch's law, repeats with torch's generator, and undoes itself."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from jiant_sparse.host import dropout


@pytest.mark.parametrize("p", [0.001, 1 / 256, 0.1, 0.5, 0.9, 0.999])
def test_each_entry_is_dropped_with_probability_p(p):
    """The share, and that of neighbours that fall together, within five standard deviations."""
    count = 4_000_003
    torch.manual_seed(0)
    dropped = ~dropout._kept(count, p)
    for found, share in ((dropped, p), (dropped[1:] & dropped[:-1], p * p)):
        # Neighbouring pairs overlap, which widens their deviation by less than a factor of 2.
        assert abs(found.mean() - share) < 10 * np.sqrt(share * (1 - share) / count)


def test_a_byte_on_the_border_is_dropped_with_the_rest_of_the_probability(monkeypatch):
    """Every byte is 25, so that the float64 decides about all: 25.6 - 25."""
    monkeypatch.setattr(np.random, "SFC64", Constant)
    torch.manual_seed(0)
    assert (~dropout._kept(100_000, 0.1)).mean() == pytest.approx(0.6, abs=0.01)
    assert dropout._kept(8, 24 / 256).all()
    assert not dropout._kept(8, 26 / 256).any()


class Constant(np.random.SFC64):
    def random_raw(self, size):
        return np.full(size, 0x1919191919191919, dtype=np.uint64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_stays_is_scaled_and_so_is_its_gradient(dtype):
    values = torch.full((3, 50, 7), 2.0, dtype=dtype, requires_grad=True)
    found = dropout.dropout(values, 0.2)
    assert found.dtype == dtype
    assert set(found.flatten().tolist()) == {0.0, 2.5}
    found.sum().backward()
    assert torch.equal(values.grad, found.detach() / 2)


def test_the_state_of_torchs_generator_decides():
    values = torch.ones(1000)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (dropout.dropout(values, 0.5) for _ in range(2))
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(dropout.dropout(values, 0.5), first)
    assert torch.equal(dropout.dropout(values, 0.5), second)


def test_modules_are_exchanged_and_come_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0), nn.Dropout(1.0), nn.Dropout1d(0.5))
    handle = dropout.Exchange(model)
    assert [type(m) for m in model] == 3 * [dropout.Dropout] + [nn.Dropout1d]
    ones = torch.ones(1000)
    assert set(copy.deepcopy(model)[0](ones).tolist()) == {0.0, 2.0}
    assert torch.equal(model[1](ones), ones)
    assert not model[2](ones).any()
    assert torch.equal(model.eval()[0](ones), ones)
    handle.remove()
    assert type(model[0]) is nn.Dropout


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_is_torchs_but_for_what_drops(masked, scale):
    torch.manual_seed(0)
    parts = [torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    real = torch.arange(5) < torch.tensor([5, 2])[:, None]
    mask = real[:, None, None] if masked else None
    ours = dropout.attention(*parts, attn_mask=mask, dropout_p=1e-12, scale=scale)
    plain = functional.scaled_dot_product_attention(*parts, mask, scale=scale)
    torch.testing.assert_close(ours, plain)
    weights = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad((o * weights).sum(), parts) for o in (ours, plain)),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b)
    dropped = [dropout.attention(*parts, attn_mask=mask, dropout_p=0.5) for _ in range(200)]
    expected = functional.scaled_dot_product_attention(*parts, mask)
    assert torch.stack(dropped).mean(0).sub(expected).abs().max() < 0.5
