"""RandomPerStep: every step moves weights drawn uniformly; Akbar-Tajari and Pilehvar 2024.

The baseline `Random` of Stochastic Tuning (Findings of EMNLP 2024), whose masks are drawn anew each
step; not the fixed choice of Fu et al. 2023, which is `random`. The draw is uniform over all of the
encoder's weights: a drawn one that the batch does not reach, as an embedding of a token that is not
in it, has a gradient of zero and moves by its own momentum and decay, if at all.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import StepChoice
from jiant_sparse.sparse import sampling


@dataclass
class RandomPerStep(StepChoice):
    """A new uniform choice at each step.

    density: fraction of the encoder's weights that moves in a step, in (0, 1]; null = as many
        weights as the encoder has biases (the paper: 0.08 %).
    momentum: `lazy`, only the drawn weights move; `dense`, only the gradients are masked.
    """

    density: float | None = None
    momentum: str = "lazy"

    def __post_init__(self) -> None:
        self.check_step_choice()

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
        self.begin(model)
        self.rng = rng

    def draw(self, step: int) -> dict[str, Tensor]:
        """Draw."""
        sizes = {name: weight.numel() for name, weight in self.weights.items()}
        return sampling.sample_uniformly(sizes, self.k, self.rng(f"step {step}"))
