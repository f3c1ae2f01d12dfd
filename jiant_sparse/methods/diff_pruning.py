"""DiffPruning: a difference to the pretrained weights is learnt under gates; Guo et al. 2021.

theta = theta0 + g z w: w a difference for every weight, z a hard-concrete gate for every weight, g
one for each tensor (`structured`), and `l0_weight` times the expected number of open gates is added
to the loss. Gates are drawn anew each step; evaluation uses the deterministic ones. After step
`burn_in` the top k of |g z w| stay, with an optimiser state of their own; all others are the
pretrained weights from then on, bit for bit. The task head is dense all the time.

With `mask_interval` n the differences are also projected every n steps before that: the top k stay
and all others go back to zero, while all go on training. Fu et al. 2023 change the mask every 600
steps in Figure 3 (CB); how is not stated, and their program cannot.

Guo et al. train in three runs: gates, cut, fixed mask. In the first the differences have a learning
rate of their own, which falls linearly from its peak to 0, and the logits a constant one. So it is
here (`gated_schedule: own`), the peak being the training's; after the cut the training's schedule
holds. The penalty alone closes a gate within about 170 steps: where the differences follow a long
warm-up, all gates close before anything is learnt, and the cut is an error.

Guo et al. have no decay, and a clipping norm for each of w and the gates. Here both share one norm,
and weight decay draws the differences to zero before the cut, afterwards, as in every method, the
weights that train. They cut at the last drawn gates, here at the deterministic ones, which are
scored. The program of Fu et al. stretches to (-3, 3), has no group gate, a mean instead of a sum
(`l0_weight: 8.02e-9` for RoBERTa-base), logits that begin as sigmoid(N(0, 1)) (`random_gates`),
one rate and schedule for all (`gate_learning_rate: null`, `gated_schedule: training`), and cuts by
|logit|, per tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.sparse import moments, selection, surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Noise, Schedule

SCORES = ("delta", "logit")
SCHEDULES = ("own", "training")


@dataclass
class DiffPruning(LateChoice):
    """L0-regularised differences, cut to the top k.

    density: fraction of the encoder's weights that may differ after the cut, in (0, 1].
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n.
    score: what is ranked: `delta` |g z w|, or `logit` |logit of z|.
    burn_in: the step after which the cut is made, at least 1; null = never, with `mask_interval`.
    mask_interval: steps from one projection to the next, at least 1; null = none before the cut.
    stretch_low, stretch_high: l < 0 and r > 1 of the hard-concrete gates.
    l0_weight: factor of the expected number of open gates, at least 0.
    structured: whether every tensor has a gate of its own.
    gate_init: first value of the logits. random_gates: sigmoid(N(0, 1)) instead.
    gate_learning_rate: of the logits, constant, above 0, without decay; null = rate, schedule and
        decay of the training.
    gated_schedule: of the differences: `own`, from the peak rate linearly to 0 at `burn_in`
        (constant, without decay, if `burn_in` is null), or `training`, the training's.
    """

    density: float = 0.005
    scope: str = "global"
    score: str = "delta"
    burn_in: int | None = 500
    mask_interval: int | None = None
    stretch_low: float = -1.5
    stretch_high: float = 1.5
    l0_weight: float = 1.25e-7
    structured: bool = True
    gate_init: float = 5.0
    random_gates: bool = False
    gate_learning_rate: float | None = 0.1
    gated_schedule: str = "own"

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        selection.check_scope(self.scope)
        if self.score not in SCORES:
            raise InputError(f"score is {self.score!r}; it must be one of {', '.join(SCORES)}")
        if self.gated_schedule not in SCHEDULES:
            allowed = ", ".join(SCHEDULES)
            raise InputError(
                f"gated_schedule is {self.gated_schedule!r}; it must be one of {allowed}"
            )
        for field in ("burn_in", "mask_interval"):
            steps = getattr(self, field)
            if steps is not None and steps < 1:
                raise InputError(f"{field} is {steps}; it must be at least 1 step, or null")
        if self.burn_in is None and self.mask_interval is None:
            raise InputError("burn_in and mask_interval are null: nothing would ever be cut")
        if None not in (self.burn_in, self.mask_interval) and self.mask_interval >= self.burn_in:
            raise InputError(
                f"mask_interval is {self.mask_interval}; it must be below burn_in ({self.burn_in})"
            )
        if not self.stretch_low < 0:
            raise InputError(f"stretch_low is {self.stretch_low}; it must be below 0")
        if not self.stretch_high > 1:
            raise InputError(f"stretch_high is {self.stretch_high}; it must be above 1")
        if not self.l0_weight >= 0:
            raise InputError(f"l0_weight is {self.l0_weight}; it must be 0 or more")
        if self.gate_learning_rate is not None and not self.gate_learning_rate > 0:
            rate = self.gate_learning_rate
            raise InputError(f"gate_learning_rate is {rate}; it must be above 0, or null")

    @property
    def interval(self) -> int | None:
        return self.mask_interval

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Put a gated difference on every tensor."""
        self.begin(model)
        self.noise = Noise(rng)
        self.gated: dict[str, Gated] = {}
        for name, weight in surgery.eligible(model).items():
            self.gated[name] = self._gated(name, weight, rng)
            surgery.edit(model, name, self.gated[name])

    def penalty(self) -> Tensor | float:
        """The weighted expected number of open gates; 0 after the cut."""
        if self.chosen is not None:
            return 0.0
        return self.l0_weight * sum(gated.expected_open() for gated in self.gated.values())

    @torch.no_grad()
    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Draw anew; project or cut when it is time."""
        self.noise.step = step + 1
        if not self.due(step):
            return
        chosen = self.rank(self._scores())
        if step == self.burn_in:
            self.fix(chosen, optimizer, keep_moments=False)
            self.gated = {}
        else:
            for name, index in chosen.items():
                self._project(self.gated[name].difference, index, optimizer)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"step": self.noise.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.noise.step = state["step"]
        if self.chosen is not None:
            self.gated = {}

    def _gated(self, name: str, weight: Tensor, rng: Rng) -> Gated:
        logit = torch.full_like(weight, self.gate_init)
        if self.random_gates:
            logit = torch.randn(weight.shape, generator=rng(f"gates/{name}")).sigmoid()
        group = self.gate_init if self.structured else None
        stretch = (self.stretch_low, self.stretch_high)
        rate = self.gate_learning_rate
        return Gated(
            weight,
            name,
            self.noise,
            stretch,
            logit,
            group,
            gates=None if rate is None else Schedule(rate),
            differences=Schedule(steps=self.burn_in) if self.gated_schedule == "own" else None,
        )

    def _scores(self) -> dict[str, Tensor]:
        if self.score == "logit":
            return {name: gated.logit.abs() for name, gated in self.gated.items()}
        return {name: gated.change(drawn=False).abs() for name, gated in self.gated.items()}

    def _project(self, difference: Tensor, index: Tensor, optimizer: Optimizer) -> None:
        index = index.to(difference.device)
        kept = difference.view(-1)[index]
        difference.zero_().view(-1)[index] = kept
        moments.forget(optimizer, difference, index)
