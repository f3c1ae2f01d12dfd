"""ChildTuningF: each step trains a new random child network; Xu et al. 2021 (Child-Tuning_F).

Every gradient is multiplied by b / p, with b ~ Bernoulli(p) for each weight and step. Adam's
moments move the other weights too, so that all of the encoder changes; that is the published
method. The authors mask the task head too, and after clipping; here the encoder alone is masked,
before clipping.
"""

from dataclasses import dataclass

import torch
from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Density
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.parametrizations import Noise


@dataclass
class ChildTuningF(Method):
    """Random gradient masks, task-free.

    reserve_p: probability p that a weight keeps its gradient in a step.
    """

    title = "Child-Tuning_F"
    paper = "Xu et al. 2021, arXiv 2109.05687"
    category = "per-step"

    reserve_p: Density = 0.3

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
        self.weights = surgery.eligible(model)
        self.noise = Noise(rng)

    def before_step(self, step: int) -> None:
        """Draw this step's mask and apply it to the gradients."""
        self.noise.step = step
        for name, weight in self.weights.items():
            if weight.grad is not None:
                generator = self.noise.generator(name, weight.device)
                drawn = torch.rand(weight.shape, generator=generator, device=weight.device)
                weight.grad.mul_((drawn < self.reserve_p) / self.reserve_p)
