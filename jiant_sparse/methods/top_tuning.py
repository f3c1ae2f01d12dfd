"""TopTuning: every step moves the weights of largest importance; Akbar-Tajari and Pilehvar 2024.

The deterministic counterpart of Stochastic Tuning (Findings of EMNLP 2024): the k largest of
|mu theta g| over all tensors are taken instead of drawn. Everything else is as in
`stochastic_tuning`, what the paper leaves open included. Of equal importances the first are taken;
a weight of importance zero is never taken.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from jiant_sparse.methods.stochastic_tuning import StochasticTuning
from jiant_sparse.sparse import selection
from jiant_sparse.sparse.blocks import Weights


@dataclass
class TopTuning(StochasticTuning):
    """The k most important weights at each step. Fields are those of `stochastic_tuning`."""

    title = "Top Tuning"

    def pick(self, weights: Mapping[str, Weights], step: int) -> dict[str, Tensor]:
        """Take the k largest."""
        return selection.largest(weights, self.k)
