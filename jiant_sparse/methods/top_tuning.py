"""TopTuning: every step moves the weights of largest importance; Akbar-Tajari and Pilehvar 2024.

The deterministic counterpart of Stochastic Tuning (Findings of EMNLP 2024): the k largest of
|mu theta g|, over all tensors together, are taken instead of drawn. All else, what the paper leaves
open included, is as in `stochastic_tuning`. Of equal ones the first are taken, and a weight of no
importance never is.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from jiant_sparse.methods.stochastic_tuning import StochasticTuning
from jiant_sparse.sparse import selection


@dataclass
class TopTuning(StochasticTuning):
    """The fields are those of `stochastic_tuning`."""

    def pick(self, weights: dict[str, Any], step: int) -> dict[str, Tensor]:
        """The k largest."""
        return selection.largest(weights, self.k)
