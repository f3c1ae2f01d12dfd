"""SAM: the weights of largest squared gradient at the pretrained point train; Fu et al. 2023.

SAM here is the Second-order Approximation Method (2211.15583, Theorem 3), not sharpness-aware
minimisation: with the Hessian replaced by a multiple of the identity, tuning weight i lowers the
loss by a multiple of (dL/dw_i)^2, so the best floor(m p) weights are those of largest |dL/dw_i|.
The model stays as it was while the gradient is estimated, on `burn_in` batches, or computed, in one
pass over the training set (`burn_in: exact`, which on CB is 15 batches in the place of 700).

The gradient flows through the task head, which is random at first: two heads share about half of
SAM's choice on CB. With `head_steps` the head trains first, for the choice alone; training begins
with the same head as with every other method.

What the authors' program does differently, by field: per-tensor top-k (`scope`), dropout on
(`dropout`), gradients clipped to norm 1 batch by batch (`clip`). Without a field: it scores the
first burn_in - 1 batches of the training order, replayed, where this file takes fresh ones from an
order of their own; a short last batch weighs as much as a full one; it clips the whole gradient
before it masks; and weight decay moves what it has masked. Published burn-ins, chosen on the dev
set: CoLA 600, MRPC 600, STS-B 1000, RTE 700, CB 700, COPA 700, WSC 2000.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng, later
from jiant_sparse.sparse import selection, surgery


@dataclass
class SAM(Method):
    """Top-k of the accumulated gradient.

    density: fraction of the encoder's weights that trains, in (0, 1].
    burn_in: batches whose gradients are accumulated, at least 1; `exact` = each training example
        once, which without dropout gives the gradient itself.
    score: `signed_sum` |sum g|, the gradient of the paper; `fisher` sum g^2; `absolute` sum |g|.
    scope: `global` (the paper) or `per_tensor` (the authors' program).
    dropout: whether dropout is on while scoring; not with `burn_in: exact`.
    clip: norm to which each batch's gradient is clipped, head included; None = not clipped.
    head_steps: steps that the task head trains before scoring, at least 0.
    """

    # 2: a batch weighs by its number of examples.
    revision: ClassVar[int] = 2

    density: float = 0.005
    burn_in: int | Literal["exact"] = 600
    score: str = "signed_sum"
    scope: str = "global"
    dropout: bool = False
    clip: float | None = None
    head_steps: int = later(0)

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        if self.burn_in != "exact" and (isinstance(self.burn_in, str) or self.burn_in < 1):
            raise InputError(
                f"burn_in is {self.burn_in!r}; it must be at least 1 batch, or 'exact'"
            )
        if self.score not in selection.SUMS:
            allowed = ", ".join(selection.SUMS)
            raise InputError(f"score is {self.score!r}; it must be one of {allowed}")
        selection.check_scope(self.scope)
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip is {self.clip}; it must be a positive norm or null")
        if self.burn_in == "exact" and (self.dropout or self.clip is not None):
            raise InputError("burn_in is 'exact'; dropout must be false then, and clip null")
        if self.head_steps < 0:
            raise InputError(f"head_steps is {self.head_steps}; it must be 0 steps or more")

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
