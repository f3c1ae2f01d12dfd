"""StochasticTuning: every step moves weights drawn by importance; Akbar-Tajari and Pilehvar 2024.

Stochastic Fine-Tuning of Language Models Using Masked Gradients (Findings of EMNLP 2024), Algorithm
1 and Equation 2. At each step the importance of weight i is I_i = |mu_i theta_i g_i|: the mean
value that the connection carries in the batch, the weight, and its gradient. k distinct weights are
drawn one after another, with probabilities proportional to I^2, and only these weights move. There
is no burn-in and no lasting mask: a run changes far more than k weights.

What the paper leaves open, and what is done here (details in `sparse.importance`):
- the mean is signed, as "average value" says, although values of both signs cancel; `mean:
  absolute` is the other reading;
- padding does not count in the mean; with `padding: true` it does;
- a bias carries 1; an embedding's row carries the frequency of its token in the batch, so that
  only rows of the batch are drawn; a LayerNorm weight carries the mean normalised feature. All of
  the encoder takes part, in one distribution. A weight that is exactly zero has importance zero
  and is never drawn;
- the head is not drawn from: it trains whole, as with every method here, and as the comparison
  with BitFit asks, whose number of weights is k;
- the experiments use AdamW, Equation 2 does not: here a weight that is not drawn keeps value and
  moments, decay included. `momentum: dense` masks the gradient and leaves AdamW as it is, so that
  weights drawn earlier go on moving and all weights decay;
- gradients are clipped after they are masked, as with every method here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from jiant_sparse.errors import NotFinite
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import Momentum, StepChoice
from jiant_sparse.methods.fields import Density
from jiant_sparse.sparse import sampling
from jiant_sparse.sparse.blocks import Weights
from jiant_sparse.sparse.importance import Importance


@dataclass
class StochasticTuning(StepChoice):
    """A new draw by importance at each step.

    density: fraction of the encoder's weights that a step moves; null = as many weights as the
        encoder has biases (the paper: 0.08 %). Fewer move if fewer have an importance.
    mean: whether mu is the mean of the values, or of their absolutes.
    padding: whether padding tokens count in mu.
    momentum: `lazy`, only the drawn weights move; `dense`, only the gradients are masked.
    """

    title = "Stochastic Tuning"
    paper = "Akbar-Tajari and Pilehvar 2024, Findings of EMNLP"
    category = "per-step"
    left_open = ("mean", "padding", "momentum")

    density: Density | None = None
    mean: Literal["signed", "absolute"] = "signed"
    padding: bool = False
    momentum: Momentum = "lazy"

    @property
    def packs(self) -> bool:
        return not self.padding

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable, and start measuring what connections carry."""
        self.begin(model)
        self.rng = rng
        self.importance = Importance(model, mean=self.mean, padding=self.padding)

    def draw(self, step: int) -> dict[str, Tensor]:
        """Draw by importance. Raises NotFinite for an importance that is not a number."""
        try:
            return self.pick(self.importance.take(), step)
        except NotFinite as error:
            raise NotFinite(f"the importance of {error} at step {step}") from None

    def pick(self, weights: Mapping[str, Weights], step: int) -> dict[str, Tensor]:
        """Choose k weights by these importances: tensor name -> index."""
        return sampling.sample(weights, self.k, self.rng(f"step {step}"), power=2, short=True)
