"""Dropout on a CPU in a fifth of torch's time: the same law, another stream.

torch draws a number for every entry by itself, a tenth of a packed step. Here a byte decides about
an entry, and where the byte alone cannot, a float64 does: probability p to 61 bits. The bytes come
from NumPy's SFC64, which one draw of torch's global generator seeds for each call. So the state of
that generator still decides everything: runs repeat, resume, and recompute layers as with torch.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


def dropout(values: Tensor, p: float) -> Tensor:
    """Zero each entry with probability `p`, 0 < p < 1, and divide the rest by 1 - p.

    values: on the CPU, any shape, floating point.
    """
    noise = torch.from_numpy(_kept(values.numel(), p).view(np.uint8)).view(values.shape)
    return values * noise.to(values.dtype).mul_(1 / (1 - p))


def _kept(count: int, p: float) -> np.ndarray:
    """(count,) bool, False with probability p."""
    source = np.random.SFC64(int(torch.randint(2**62, ())))
    drawn = source.random_raw(-(-count // 8)).view(np.uint8)[:count]
    whole, part = divmod(256 * p, 1)
    kept = drawn >= whole
    # One byte in 256 lies on the border, and is dropped with the rest of the probability.
    border = np.flatnonzero(drawn == whole)
    kept[border[np.random.Generator(source).random(len(border)) < part]] = False
    return kept


class Dropout(nn.Dropout):
    """nn.Dropout, by `dropout` while it trains on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Drop entries, in training mode alone."""
        if self.training and input.is_cpu and 0 < self.p < 1:
            return dropout(input, self.p)
        return super().forward(input)


class Exchange:
    """Has a model's nn.Dropout modules drop by `dropout` until `remove` is called."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = [module for module in model.modules() if type(module) is nn.Dropout]
        for module in self.modules:
            module.__class__ = Dropout

    def remove(self) -> None:
        """Make them torch's again."""
        for module in self.modules:
            module.__class__ = nn.Dropout


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    attn_mask: Tensor | None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """torch's scaled_dot_product_attention, which on a CPU drops by `dropout`.

    attn_mask: bool, False for keys that are not seen; each query sees at least one. is_causal: must
    be False, as in encoders.
    """
    assert not is_causal
    if not (query.is_cpu and 0 < dropout_p < 1):
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, scale=scale
        )
    scores = (query * (scale or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    return dropout(scores.softmax(-1), dropout_p) @ value
