"""A part of a tensor trains at a time: the edit that shows it, and the choice of the part."""

import math
from fractions import Fraction

import torch
from torch import Tensor

from jiant_sparse.sparse.edits import Edit, Noise


class Anchored(Edit):
    """A trained tensor W of which a part N is seen, the rest at an anchor U (DPS_Mix).

    Training: U + N (W - U) / share, with the true gradient, N / share. Evaluation: W.
    Until `pin`, and again after `release`, U is the pretrained W, and N is drawn anew each step
    from Bernoulli(share) over the last dimension, shared by the rows.

    share: in (0, 1); after `pin` the fraction of entries that N has.
    """

    trains_original = True

    def __init__(self, weight: Tensor, name: str, noise: Noise, share: float) -> None:
        super().__init__(weight, weight.numel())
        self.name, self.noise, self.share = name, noise, share
        self.register_buffer("pretrained", weight.detach().clone())
        self.register_buffer("anchor", None, persistent=False)
        self.register_buffer("mask", None, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training:
            return weight
        pinned = self.anchor is not None
        anchor = self.anchor if pinned else self.pretrained
        part = self.mask if pinned else self.drawn()
        return anchor + part * ((weight - anchor) / self.share)

    def drawn(self) -> Tensor:
        """(columns,) bool: the N of this step, the same however often it is asked for."""
        device = self.pretrained.device
        generator = self.noise.generator(self.name, device)
        uniform = torch.rand(self.pretrained.shape[-1:], generator=generator, device=device)
        return uniform < self.share

    def pin(self, anchor: Tensor, mask: Tensor) -> None:
        """From now on U is `anchor` and N is `mask`, both of the tensor's shape."""
        self.anchor, self.mask = anchor, mask

    def release(self) -> None:
        """Back to the pretrained values and to draws."""
        self.anchor = self.mask = None


def largest(scores: Tensor, fraction: float) -> Tensor:
    """Mask of the ceil(fraction * numel) largest scores; of equal ones the first are in.

    scores: any shape and device, and the mask is as they are; on the meta device it has no values.
    fraction: in (0, 1), read as the decimal that its user wrote.
    """
    if scores.is_meta:
        return torch.empty_like(scores, dtype=torch.bool)
    flat = scores.reshape(-1)
    # In floating point 100 * 0.07 is 7.000000000000001, one entry too many.
    count = math.ceil(flat.numel() * Fraction(repr(float(fraction))))
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > threshold
    ties = (flat == threshold).nonzero().view(-1)
    mask[ties[: count - int(mask.sum())]] = True
    return mask.view(scores.shape)
