"""FISH: the weights of largest Fisher information train; Sung et al. 2021 (FISH mask).

The empirical Fisher information is the sum over training examples of the squared gradient of the
example's loss at its true label, without dropout, before step 1. The authors count the task head
in their budget; here the budget counts the encoder's weights alone, as in all methods, and the
head trains. Their variant with labels sampled from the model is not offered.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Count, Density
from jiant_sparse.sparse import selection, surgery


@dataclass
class FISH(Method):
    """Top-k of the empirical Fisher information.

    density: fraction of the encoder's weights that trains.
    samples: training examples; one pass over the training set is the limit, as in the authors'
        program.
    score: `fisher` sum g^2; `absolute` sum |g|.
    """

    title = "FISH Mask"
    paper = "Sung et al. 2021, arXiv 2111.09839"
    category = "approximation"
    revision = 2  # a batch counts by its number of examples; one pass is the limit

    density: Density = 0.005
    samples: Count = 1024
    score: Literal["fisher", "absolute"] = "fisher"

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Sum the scores over examples and choose the largest."""
        batches = probe(self.samples, batch_size=1, repeat=False)
        scores = selection.accumulate(surgery.eligible(model), batches, selection.SUMS[self.score])
        return self.most_important(scores, self.density)
