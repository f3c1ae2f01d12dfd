"""SAM: the weights of largest squared gradient at the pretrained point train; Fu et al. 2023.

SAM here is the Second-order Approximation Method (2211.15583, Theorem 3), not sharpness-aware
minimisation. With a multiple of the identity in the place of the Hessian, tuning weight i lowers
the loss by a multiple of (dL/dw_i)^2: the best floor(m p) weights have the largest |dL/dw_i|. The
model does not change while the gradient is estimated on `burn_in` batches, or computed in one pass
over the training set (`burn_in: exact`; on CB 15 batches instead of 700).

The gradient flows through the task head, which is random at first: two heads share about half of
SAM's choice on CB. With `head_steps` the head trains first, for the choice alone; training starts
from the same head as with every other method.

Differences in the authors' program that have a field: top-k per tensor (`scope`), dropout
(`dropout`), gradients clipped to norm 1 batch by batch (`clip`). Differences without a field: it
scores the first burn_in - 1 batches of the training order, which training replays (here fresh
batches of an order of their own); a short last batch counts as a full one; it clips the whole
gradient before it masks; weight decay moves masked weights. Published burn-ins, chosen on the dev
set: CoLA 600, MRPC 600, STS-B 1000, RTE 700, CB 700, COPA 700, WSC 2000.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.fields import Count, Density, Scope, later
from jiant_sparse.sparse import selection, surgery


@dataclass
class SAM(Method):
    """Top-k of the accumulated gradient.

    density: fraction of the encoder's weights that trains.
    burn_in: batches whose gradients are accumulated; `exact` = each training example once, which
        without dropout gives the gradient itself.
    score: `signed_sum` |sum g|, the gradient of the paper; `fisher` sum g^2; `absolute` sum |g|.
    scope: `global` (the paper) or `per_tensor` (the authors' program).
    dropout: whether dropout is on while scoring; not with `burn_in: exact`.
    clip: norm to which each batch's gradient is clipped, head included; null = no clipping.
    head_steps: steps that the task head trains before scoring.
    """

    title = "SAM"
    paper = "Fu et al. 2023, arXiv 2211.15583"
    category = "approximation"
    revision = 2  # a batch counts by its number of examples
    readings = {
        "scope": ("global", "per_tensor"),
        "score": ("signed_sum", "signed_sum"),
        "dropout": (False, True),
        "clip": (None, 1),
        "head_steps": (0, 0),
    }

    density: Density = 0.005
    burn_in: Count | Literal["exact"] = 600
    score: Literal["signed_sum", "fisher", "absolute"] = "signed_sum"
    scope: Scope = "global"
    dropout: bool = False
    clip: Annotated[float, Gt(0)] | None = None
    head_steps: Annotated[int, Ge(0)] = later(0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burn_in == "exact" and (self.dropout or self.clip is not None):
            raise InputError(
                f"{self.name}: burn_in is 'exact'; dropout must be false then, and clip null"
            )

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Accumulate gradients at the pretrained weights; the largest are chosen."""
        batches = probe(
            None if self.burn_in == "exact" else self.burn_in,
            dropout=self.dropout,
            max_grad_norm=self.clip,
            head_steps=self.head_steps,
        )
        totals = selection.accumulate(surgery.eligible(model), batches, selection.SUMS[self.score])
        scores = {name: total.abs_() for name, total in totals.items()}
        return self.most_important(scores, self.density, scope=self.scope)
