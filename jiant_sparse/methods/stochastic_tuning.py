"""StochasticTuning: every step moves weights drawn by importance; Akbar-Tajari and Pilehvar 2024.

Stochastic Fine-Tuning of Language Models Using Masked Gradients (Findings of EMNLP 2024), Algorithm
1 and Equation 2. At each step the importance of weight i is I_i = |mu_i theta_i g_i|: the mean
value that the connection carries in the batch, the weight, and its gradient. k distinct weights are
drawn one after another, each with probabilities proportional to I^2, and only these move. There is
no burn-in, and no mask is kept: over a run far more than k weights change.

What the paper leaves open, and what is done here (`sparse.importance` has the details):
- the mean is signed, as "average value" says, although values of both signs cancel; `mean:
  absolute` is the other reading;
- padding does not count in it; `padding: true` lets it;
- a bias carries 1; an embedding's row the frequency of its token in the batch, so that only rows of
  the batch are ever drawn; a LayerNorm weight the mean normalised feature. All of the encoder takes
  part, in one distribution. A weight that is exactly zero has no importance, and is never drawn;
- the head is not drawn from: it trains whole, as with every method here, and as the comparison
  with BitFit, of which k is the number of weights, asks;
- with AdamW, which the experiments use and Equation 2 has not, a weight that is not drawn keeps
  its value and moments, decay included; `momentum: dense` masks the gradient and leaves AdamW as
  it is, so that weights drawn before go on moving and decay moves all;
- gradients are clipped after they are masked, as with every method here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import StepChoice
from jiant_sparse.sparse import sampling
from jiant_sparse.sparse.blocks import Weights
from jiant_sparse.sparse.importance import MEANS, Importance


@dataclass
class StochasticTuning(StepChoice):
    """A new draw by importance at each step.

    density: fraction of the encoder's weights that moves in a step, in (0, 1]; null = as many
        weights as the encoder has biases (the paper: 0.08 %). If fewer have any importance, these.
    mean: `signed` or `absolute`: of which values mu is the mean.
    padding: whether padding tokens count in mu.
    momentum: `lazy`, only the drawn weights move; `dense`, only the gradients are masked.
    """

    density: float | None = None
    mean: str = "signed"
    padding: bool = False
    momentum: str = "lazy"

    def __post_init__(self) -> None:
        self.check_step_choice()
        if self.mean not in MEANS:
            raise InputError(f"mean is {self.mean!r}; it must be one of {', '.join(MEANS)}")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable, and collect what connections carry."""
        self.begin(model)
        self.rng = rng
        self.importance = Importance(model, mean=self.mean, padding=self.padding)

    def draw(self, step: int) -> dict[str, Tensor]:
        """Weigh and draw. Raises NotFinite for an importance that is not a number."""
        try:
            return self.pick(self.importance.take(), step)
        except NotFinite as error:
            raise NotFinite(f"the importance of {error} at step {step}") from None

    def pick(self, weights: Mapping[str, Weights], step: int) -> dict[str, Tensor]:
        """k entries by these weights, sorted; `TopTuning` has another way."""
        return sampling.sample(weights, self.k, self.rng(f"step {step}"), power=2, short=True)
