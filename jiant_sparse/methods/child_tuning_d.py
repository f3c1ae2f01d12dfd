"""ChildTuningD: the weights of largest Fisher information train; Xu et al. 2021 (Child-Tuning_D).

F is the sum of squared batch gradients before step 1, in training mode, where each tensor's
gradient is clipped to norm `clip` by itself. Differences from the authors' program:
- the budget counts every weight of the encoder; theirs leaves embeddings and pooler out and trains
  them whole, which with p = 0.005 would be 32 % of RoBERTa-base;
- exactly k weights are chosen; theirs takes a percentile;
- a short last batch counts by its size; theirs counts it as a full one;
- weights that are not chosen do not decay.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt
from torch import Tensor, nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Count, Density
from jiant_sparse.sparse import selection, surgery


@dataclass
class ChildTuningD(Method):
    """Top-k of the diagonal Fisher information, task-driven.

    density: fraction of the encoder's weights that trains.
    burn_in: batches whose squared gradients are summed, one pass over the training set at most;
        null = the whole pass, as in the authors' program.
    clip: norm to which each tensor's gradient is clipped before it is squared.
    dropout: whether dropout is on while scoring.
    """

    title = "Child-Tuning_D"
    paper = "Xu et al. 2021, arXiv 2109.05687"
    category = "approximation"

    density: Density = 0.005
    burn_in: Count | None = None
    clip: Annotated[float, Gt(0)] = 1.0
    dropout: bool = True

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Sum the scores over batches and choose the largest."""
        batches = probe(self.burn_in, repeat=False, dropout=self.dropout)
        scores = selection.accumulate(surgery.eligible(model), batches, self._add)
        return self.most_important(scores, self.density)

    def _add(self, total: Tensor, gradient: Tensor, weight: float) -> None:
        scale = (self.clip / (gradient.norm() + 1e-6)).clamp(max=1)
        total.add_((scale * gradient).square_(), alpha=weight)
