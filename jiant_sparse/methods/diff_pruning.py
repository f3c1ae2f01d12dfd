"""DiffPruning: a difference to the pretrained weights is learnt under gates; Guo et al. 2021.

theta = theta0 + g z w, with a difference w and a hard-concrete gate z for every weight, and a gate
g for each tensor (`structured`). The loss gets `l0_weight` times the expected number of open gates.
Gates are drawn anew at each step; evaluation uses the deterministic gates. After step `burn_in` the
top k of |g z w| stay, with fresh optimizer state; all other weights are the pretrained ones from
then on, bit for bit. The task head is always dense.

With `mask_interval` n the differences are also projected every n steps before the cut: the top k
stay, all others return to zero, and all go on training. Fu et al. 2023 change the mask every 600
steps in Figure 3 (CB); how is not stated, and their program cannot.

Guo et al. train in three runs: gates, cut, fixed mask. In the first run the differences have a
learning rate of their own, which falls linearly from its peak to 0, and the logits a constant one.
`gated_schedule: own` does this, with the training's peak; after the cut the training's schedule
holds. The penalty alone closes a gate within about 170 steps: if the differences follow a long
warm-up, all gates close before anything is learnt, and the cut is an error.

Guo et al. have no decay, and a clipping norm each for w and the gates. Here both share one norm.
Weight decay draws the differences to zero before the cut, and afterwards, as in every method, the
weights that train. They cut at the last drawn gates; here the cut is at the deterministic gates,
which are scored. The program of Fu et al. stretches to (-3, 3), has no group gate, a mean in the
place of a sum (`l0_weight: 8.02e-9` for RoBERTa-base), logits that start as sigmoid(N(0, 1))
(`random_gates`), one rate and schedule for everything (`gate_learning_rate: null`,
`gated_schedule: training`), and cuts by |logit|, per tensor.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.methods.fields import Count, Density, Scope
from jiant_sparse.methods.readings import anything, but
from jiant_sparse.sparse import moments, surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Noise, Schedule


def _one_over_weights(l0_weight: float, run: Mapping[str, Any]) -> bool:
    """The program's penalty is a mean: its factor is 1 over the weights of the model.

    The settings tell the number of weights for RoBERTa-base alone.
    """
    return run["model"] == "roberta-base" and math.isclose(l0_weight, 8.02e-9, rel_tol=0.01)


@dataclass
class DiffPruning(LateChoice):
    """L0-regularised differences, cut to the top k.

    density: fraction of the encoder's weights that may differ after the cut.
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n weights.
    score: what is ranked: `delta` |g z w|, or `logit` |logit of z|.
    burn_in: the step after which the cut is made; null = never, with `mask_interval`.
    mask_interval: steps from one projection to the next; null = no projection before the cut.
    stretch_low, stretch_high: the interval to which hard-concrete gates are stretched.
    l0_weight: factor of the expected number of open gates.
    structured: whether every tensor has a gate of its own.
    gate_init: first value of the logits. random_gates: sigmoid(N(0, 1)) instead.
    gate_learning_rate: of the logits, constant, without decay; null = rate, schedule and decay of
        the training.
    gated_schedule: of the differences: `own`, from the peak rate linearly to 0 at `burn_in`
        (constant, without decay, if `burn_in` is null), or `training`, the training's.
    """

    title = "DiffPruning"
    paper = "Guo et al. 2021, arXiv 2012.07463"
    category = "projection-based"
    readings = {
        "scope": ("global", "per_tensor"),
        "score": ("delta", "logit"),
        # Figure 3 changes the mask for ever, which the program cannot.
        "burn_in": (anything, but(None)),
        "mask_interval": (anything, None),
        "stretch_low": (-1.5, -3),
        "stretch_high": (1.5, 3),
        "l0_weight": (1.25e-7, _one_over_weights),
        "structured": (True, False),
        "random_gates": (False, True),
        "gate_learning_rate": (but(None), None),
        "gated_schedule": ("own", "training"),
        # What is frozen as a whole does not decay in the program either.
        "train.decay_unselected": (False, False),
    }

    density: Density = 0.005
    scope: Scope = "global"
    score: Literal["delta", "logit"] = "delta"
    burn_in: Count | None = 500
    mask_interval: Count | None = None
    stretch_low: Annotated[float, Lt(0)] = -1.5
    stretch_high: Annotated[float, Gt(1)] = 1.5
    l0_weight: Annotated[float, Ge(0)] = 1.25e-7
    structured: bool = True
    gate_init: float = 5.0
    random_gates: bool = False
    gate_learning_rate: Annotated[float, Gt(0)] | None = 0.1
    gated_schedule: Literal["own", "training"] = "own"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.burn_in is None and self.mask_interval is None:
            raise InputError(
                f"{self.name}: burn_in and mask_interval are null: nothing would ever be cut"
            )
        if self.burn_in and self.mask_interval and self.mask_interval >= self.burn_in:
            raise InputError(
                f"{self.name}: mask_interval is {self.mask_interval}; it must be below burn_in "
                f"({self.burn_in})"
            )

    @property
    def interval(self) -> int | None:
        return self.mask_interval

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Give every tensor a gated difference."""
        self.begin(model)
        self.noise = Noise(rng)
        weights = surgery.eligible(model)
        self.gated = {name: self._gated(name, weight, rng) for name, weight in weights.items()}
        surgery.edit(model, self.gated)

    def penalty(self) -> Tensor | float:
        """`l0_weight` times the expected number of open gates; 0 after the cut."""
        if self.chosen is not None:
            return 0.0
        return self.l0_weight * sum(gated.expected_open() for gated in self.gated.values())

    @torch.no_grad()
    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Let the next step draw anew; project or cut if due."""
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
