"""ChildTuningD: the weights of largest Fisher information train; Xu et al. 2021 (Child-Tuning_D).

F = sum of squared batch gradients, each tensor's gradient clipped to norm `clip` by itself, the
model in training mode, all before step 1. Differences to the authors' program: the budget counts
every weight of the encoder, where theirs leaves embeddings and pooler out and trains them whole
(with p = 0.005 that would be 32 % of RoBERTa-base); exactly k entries are chosen, where theirs
takes a percentile; a short last batch weighs by its size, where theirs weighs as a full one; and
what is not chosen does not decay.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import selection, surgery


@dataclass
class ChildTuningD(Method):
    """Top-k of the diagonal Fisher information, task-driven.

    density: fraction of the encoder's weights that trains, in (0, 1].
    burn_in: batches whose squared gradients are summed, at least 1, and at most one pass over the
        training set; null = the whole pass, as theirs.
    clip: norm to which each tensor's gradient is clipped before it is squared, above 0.
    dropout: whether dropout is on while scoring.
    """

    density: float = 0.005
    burn_in: int | None = None
    clip: float = 1.0
    dropout: bool = True

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        if self.burn_in is not None and self.burn_in < 1:
            raise InputError(f"burn_in is {self.burn_in}; it must be at least 1 batch, or null")
        if not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be a positive norm")

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Sum up; the largest are chosen."""
        batches = probe(self.burn_in, repeat=False, dropout=self.dropout)
        scores = selection.accumulate(surgery.eligible(model), batches, self._add)
        return self.most_important(scores, self.density)

    def _add(self, total: Tensor, gradient: Tensor, weight: float) -> None:
        scale = (self.clip / (gradient.norm() + 1e-6)).clamp(max=1)
        total.add_((scale * gradient).square_(), alpha=weight)
