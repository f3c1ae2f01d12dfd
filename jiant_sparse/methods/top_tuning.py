"""TopTuning: every step moves the weights of largest importance; Akbar-Tajari and Pilehvar 2024.

The deterministic counterpart of Stochastic Tuning (Findings of EMNLP 2024): the k largest of
|mu theta g|, over all tensors together, are taken instead of drawn. All else, what the paper leaves
open included, is as in `stochastic_tuning`. Of equal ones the first are taken, and a weight of no
importance never is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jiant_sparse.methods.stochastic_tuning import StochasticTuning
from jiant_sparse.sparse import selection
from jiant_sparse.sparse.blocks import Weights


@dataclass
class TopTuning(StochasticTuning):
    """The fields are those of `stochastic_tuning`."""

    def pick(self, weights: Mapping[str, Weights], step: int) -> dict[str, Tensor]:
        """The k largest."""
        return selection.largest(weights, self.k)
