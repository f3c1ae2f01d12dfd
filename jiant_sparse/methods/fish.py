"""FISH: the weights of largest Fisher information train; Sung et al. 2021 (FISH mask).

The empirical Fisher information is the sum over training examples of the squared gradient of each
single example's loss at its true label, without dropout, before step 1. The authors count the task
head in their budget; here it is the encoder's weights alone, as in all methods, and the head
trains. Their expectation over the model's own labels is not offered.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import selection, surgery


@dataclass
class FISH(Method):
    """Top-k of the empirical Fisher information.

    density: fraction of the encoder's weights that trains, in (0, 1].
    samples: training examples, at least 1; at most one pass over the training set, as theirs.
    score: `fisher` sum g^2; `absolute` sum |g|.
    """

    # 2: a batch weighs by its number of examples; at most one pass.
    revision: ClassVar[int] = 2

    density: float = 0.005
    samples: int = 1024
    score: str = "fisher"

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}; it must be at least 1 example")
        if self.score not in ("fisher", "absolute"):
            raise InputError(f"score is {self.score!r}; it must be one of fisher, absolute")

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Sum up; the largest are chosen."""
        batches = probe(self.samples, batch_size=1, repeat=False)
        scores = selection.accumulate(surgery.eligible(model), batches, selection.SUMS[self.score])
        return self.most_important(scores, self.density)
