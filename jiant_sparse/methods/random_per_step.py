"""RandomPerStep: every step moves weights drawn uniformly; Akbar-Tajari and Pilehvar 2024.

The baseline `Random` of Stochastic Tuning (Findings of EMNLP 2024), which draws a new mask at each
step; the fixed choice of Fu et al. 2023 is `random`. The draw is uniform over all of the encoder's
weights. A drawn weight that the batch does not reach, as in the embedding of an absent token, has
gradient zero: only its own momentum and decay move it.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import Momentum, StepChoice
from jiant_sparse.methods.fields import Density
from jiant_sparse.sparse import sampling


@dataclass
class RandomPerStep(StepChoice):
    """A new uniform choice at each step.

    density: fraction of the encoder's weights that a step moves; null = as many weights as the
        encoder has biases (the paper: 0.08 %).
    momentum: `lazy`, only the drawn weights move; `dense`, only the gradients are masked.
    """

    title = "Random per step"
    paper = "Akbar-Tajari and Pilehvar 2024, Findings of EMNLP"
    category = "per-step"
    left_open = ("momentum",)

    density: Density | None = None
    momentum: Momentum = "lazy"

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
        self.begin(model)
        self.rng = rng

    def draw(self, step: int) -> dict[str, Tensor]:
        """Draw the weights of this step."""
        sizes = {name: weight.numel() for name, weight in self.weights.items()}
        return sampling.sample_uniformly(sizes, self.k, self.rng(f"step {step}"))
