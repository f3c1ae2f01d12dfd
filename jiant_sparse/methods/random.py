"""Random: weights chosen uniformly at random, once; Fu et al. 2023 (2211.15583), section 2.

Exactly floor(m p) are drawn, as the text says. The authors' program draws each weight with
probability p (`draw: bernoulli`), so that the count varies by about sqrt(m p): 787 around 623,228
in RoBERTa-base.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import selection, surgery


@dataclass
class Random(Method):
    """A fixed uniform random choice of weights.

    density: fraction of the encoder's weights that trains, in (0, 1].
    scope: `global` draws floor(density m) of all m weights; `per_tensor` floor(density n) of each
        tensor's n.
    draw: `exact`, or `bernoulli`, each weight by itself, for which `scope` makes no difference.
    """

    density: float = 0.005
    scope: str = "global"
    draw: str = "exact"

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        selection.check_scope(self.scope)
        if self.draw not in ("exact", "bernoulli"):
            raise InputError(f"draw is {self.draw!r}; it must be one of exact, bernoulli")

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Draw the weights that train."""
        sizes = {name: weight.numel() for name, weight in surgery.eligible(model).items()}
        if self.draw == "bernoulli":
            return selection.bernoulli(sizes, self.density, rng)
        return selection.uniform(sizes, self.density, rng, scope=self.scope)
