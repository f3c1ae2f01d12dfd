"""ChildTuningF: each step trains a new random child network; Xu et al. 2021 (Child-Tuning_F).

Every gradient is multiplied by b / p, b ~ Bernoulli(p) for each weight and step. Adam's moments
move the other weights as well, so all of the encoder changes; that is the published method. There
it masks the task head too, and after clipping; here the encoder only, and before clipping.
"""

from dataclasses import dataclass

import torch
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.parametrizations import Noise


@dataclass
class ChildTuningF(Method):
    """Random gradient masks, task-free.

    reserve_p: probability p that a weight's gradient is kept in a step, in (0, 1].
    """

    reserve_p: float = 0.3

    def __post_init__(self) -> None:
        if not 0 < self.reserve_p <= 1:
            raise InputError(f"reserve_p is {self.reserve_p}; it must be in (0, 1]")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
        self.weights = surgery.eligible(model)
        self.noise = Noise(rng)

    def before_step(self, step: int) -> None:
        """Draw and apply this step's mask."""
        self.noise.step = step
        for name, weight in self.weights.items():
            if weight.grad is not None:
                generator = self.noise.generator(name, weight.device)
                drawn = torch.rand(weight.shape, generator=generator, device=weight.device)
                weight.grad.mul_((drawn < self.reserve_p) / self.reserve_p)
