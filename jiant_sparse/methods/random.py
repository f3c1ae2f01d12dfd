"""Random: weights chosen uniformly at random, once; Fu et al. 2023 (2211.15583), section 2.

Exactly floor(m p) weights are drawn, as the text says. The authors' program draws each weight with
probability p (`draw: bernoulli`). The count then varies by about sqrt(m p): 787 around 623,228 in
RoBERTa-base.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Density, Scope
from jiant_sparse.methods.readings import anything
from jiant_sparse.sparse import selection, surgery


@dataclass
class Random(Method):
    """A fixed, uniformly random choice of weights.

    density: fraction of the encoder's weights that trains.
    scope: `global` draws floor(density m) of all m weights; `per_tensor` floor(density n) of each
        tensor's n weights.
    draw: `exact`; or `bernoulli`, each weight by itself, for which `scope` makes no difference.
    """

    title = "Random"
    paper = "Fu et al. 2023, arXiv 2211.15583"
    category = "random"
    readings = {"draw": ("exact", "bernoulli"), "scope": ("global", anything)}

    density: Density = 0.005
    scope: Scope = "global"
    draw: Literal["exact", "bernoulli"] = "exact"

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Draw the weights that train."""
        sizes = {name: weight.numel() for name, weight in surgery.eligible(model).items()}
        if self.draw == "bernoulli":
            return selection.bernoulli(sizes, self.density, rng)
        return selection.uniform(sizes, self.density, rng, scope=self.scope)
