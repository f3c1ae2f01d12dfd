"""MagPruning: the weights of largest pretrained magnitude train; Fu et al. 2023, after Han 2015.

The authors' program scores the weights after a burn-in of full tuning and never resets them; the
text chooses by the pretrained values, and so does this file, before step 0.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import selection, surgery


@dataclass
class MagPruning(Method):
    """Top-k of the pretrained magnitudes.

    density: fraction of the encoder's weights that trains, in (0, 1].
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n (the authors' program).
    """

    density: float = 0.005
    scope: str = "global"

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        selection.check_scope(self.scope)

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Rank |pretrained weight| and train the largest."""
        scores = {name: weight.detach().abs() for name, weight in surgery.eligible(model).items()}
        surgery.select(model, selection.top_k(scores, self.density, scope=self.scope))
