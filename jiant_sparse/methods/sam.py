"""SAM: the weights of largest squared gradient at the pretrained point train; Fu et al. 2023.

SAM here is the Second-order Approximation Method (2211.15583, Theorem 3), not sharpness-aware
minimisation: with the Hessian replaced by a multiple of the identity, tuning weight i lowers the
loss by a multiple of (dL/dw_i)^2, so the best floor(m p) weights are those of largest |dL/dw_i|.
The gradient is estimated on `burn_in` batches while the model stays as it was.

What the authors' program does differently, by field: per-tensor top-k (`scope`), dropout on
(`dropout`), gradients clipped to norm 1 batch by batch (`clip`). Without a field: it scores the
first burn_in - 1 batches of the training order, replayed, where this file takes fresh ones from an
order of their own; it clips the whole gradient before it masks; and weight decay moves what it has
masked. Published burn-ins, chosen on the dev set: CoLA 600, MRPC 600, STS-B 1000, RTE 700, CB 700,
COPA 700, WSC 2000.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import EarlyChoice
from jiant_sparse.sparse import selection, surgery


@dataclass
class SAM(EarlyChoice):
    """Top-k of the accumulated gradient.

    density: fraction of the encoder's weights that trains, in (0, 1].
    burn_in: batches whose gradients are accumulated, at least 1.
    score: `signed_sum` |sum g|, the gradient of the paper; `fisher` sum g^2; `absolute` sum |g|.
    scope: `global` (the paper) or `per_tensor` (the authors' program).
    dropout: whether dropout is on while scoring.
    clip: norm to which each batch's gradient is clipped, head included; None = not clipped.
    """

    density: float = 0.005
    burn_in: int = 600
    score: str = "signed_sum"
    scope: str = "global"
    dropout: bool = False
    clip: float | None = None

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        if self.burn_in < 1:
            raise InputError(f"burn_in is {self.burn_in}; it must be at least 1 batch")
        if self.score not in selection.SUMS:
            allowed = ", ".join(selection.SUMS)
            raise InputError(f"score is {self.score!r}; it must be one of {allowed}")
        selection.check_scope(self.scope)
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be a positive norm or null")

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Accumulate gradients at the pretrained weights; the largest are chosen."""
        batches = probe(self.burn_in, dropout=self.dropout, max_grad_norm=self.clip)
        totals = selection.accumulate(surgery.eligible(model), batches, selection.SUMS[self.score])
        scores = {name: total.abs_() for name, total in totals.items()}
        return selection.top_k(scores, self.density, scope=self.scope)
