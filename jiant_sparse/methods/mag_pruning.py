"""MagPruning: the weights of largest pretrained magnitude train; Fu et al. 2023, after Han 2015.

The text chooses by the pretrained values, before step 0. The authors' program tunes everything
for 499 steps (`burn_in: 499`), chooses by the values of then, and leaves the others as they have
become; the result is not sparse.
"""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.sparse import selection, surgery


@dataclass
class MagPruning(LateChoice):
    """Top-k of the magnitudes.

    density: fraction of the encoder's weights that trains, in (0, 1].
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n (the authors' program).
    burn_in: steps of full tuning before the choice; 0, the paper's text, or more.
    """

    density: float = 0.005
    scope: str = "global"
    burn_in: int = 0

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        selection.check_scope(self.scope)
        if self.burn_in < 0:
            raise InputError(f"burn_in is {self.burn_in}; it must be 0 steps or more")

    @property
    def hooks(self) -> tuple[str, ...]:
        return super().hooks if self.burn_in else ()

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Rank |pretrained weight| and train the largest, unless that comes later."""
        self.begin(model)
        self.weights = surgery.eligible(model)
        if self.burn_in == 0:
            self._choose(None)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """At the end of the burn-in: rank |weight| and go on with the largest."""
        if self.due(step):
            self._choose(optimizer)

    def _choose(self, optimizer: Optimizer | None) -> None:
        scores = {name: weight.detach().abs() for name, weight in self.weights.items()}
        self.fix(self.rank(scores), optimizer, keep_moments=True)
