"""MagPruning: the weights of largest pretrained magnitude train; Fu et al. 2023, after Han 2015.

The text chooses by the pretrained values, before step 1. The authors' program tunes everything for
499 steps (`burn_in: 499`), chooses by the values it then has, and leaves the other weights at
theirs; its result is not sparse.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge
from torch import nn
from torch.optim import Optimizer

from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.methods.fields import Density, Scope
from jiant_sparse.methods.readings import but
from jiant_sparse.sparse import surgery


@dataclass
class MagPruning(LateChoice):
    """Top-k of the magnitudes.

    density: fraction of the encoder's weights that trains.
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n weights (the authors' program).
    burn_in: steps of full tuning before the choice; 0 is the paper's text.
    """

    title = "MagPruning"
    paper = "Fu et al. 2023, arXiv 2211.15583; after Han et al. 2015, arXiv 1506.02626"
    category = "rule-based"
    readings = {"scope": ("global", "per_tensor"), "burn_in": (0, but(0))}

    density: Density = 0.005
    scope: Scope = "global"
    burn_in: Annotated[int, Ge(0)] = 0

    @property
    def hooks(self) -> tuple[str, ...]:
        return super().hooks if self.burn_in else ()

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Rank |pretrained weight| and train the largest, unless there is a burn-in."""
        self.begin(model)
        self.weights = surgery.eligible(model)
        if self.burn_in == 0:
            self._choose(None)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """At the end of the burn-in: rank |weight| and continue with the largest."""
        if self.due(step):
            self._choose(optimizer)

    def _choose(self, optimizer: Optimizer | None) -> None:
        scores = {name: weight.detach().abs() for name, weight in self.weights.items()}
        self.fix(self.rank(scores), optimizer, keep_moments=True)
