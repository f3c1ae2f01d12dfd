"""ChildPruning: all weights train and are projected onto the k that moved most; Fu et al. 2023.

Every `interval` steps the top k of |theta - theta0| stay and all others go back to theta0, bit for
bit, without their momentum. After step `burn_in` the last choice is fixed and nothing else
trains. The paper says "iteratively train the full model parameters and then calculates the
projected mask" and gives no numbers. It cites Child-Tuning (Xu et al. 2021), which masks gradients
and is another method: `child_tuning_f`, `child_tuning_d`.

With the warm-up of the benchmark, 1,000 epochs, early projections are biased. At the first one on
CoLA, after 100 steps, the learning rate is 2.1e-8, and in float32 a weight near 0.9, where those of
LayerNorms lie, moves by 3.0e-8 (half an ulp) or not at all. Biases near 0 move at any rate. From
step 144 on, all weights can move.

The authors' program (`sgpa`) projects after every step (`interval: 1`), per tensor (`scope`), for
ever (`burn_in: null`), optionally on 0.3 of the new distance and 0.7 of the old (`momentum: 0.7`),
and leaves the momentum. Its first step has rate 0, so its first choice is one among ties. Here a
projection keeps no weight that has not moved, and where fewer than k have, it changes nothing; the
last choice is an error then, if it comes before k weights have moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng, taken
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.sparse import moments, selection, surgery


@dataclass
class ChildPruning(LateChoice):
    """Projection onto the largest changes.

    density: fraction of the encoder's weights that may differ, in (0, 1].
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n.
    interval: steps from one projection to the next, at least 1.
    burn_in: the step after which the choice is fixed, at least 1; null = never. Until then no
        score competes for the best step; with null, those right after a projection do.
    momentum: share of the former distances in those that are ranked, in [0, 1).
    reset: whether the chosen weights start again from theta0 when the choice is fixed.
    """

    density: float = 0.005
    scope: str = "global"
    interval: int = 100
    burn_in: int | None = 500
    momentum: float = 0.0
    reset: bool = False

    def __post_init__(self) -> None:
        selection.check_density(self.density)
        selection.check_scope(self.scope)
        if self.interval < 1:
            raise InputError(f"interval is {self.interval}; it must be at least 1 step")
        if self.burn_in is not None and self.burn_in < 1:
            raise InputError(f"burn_in is {self.burn_in}; it must be at least 1 step, or null")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum}; it must be in [0, 1)")
        if self.reset and self.burn_in is None:
            raise InputError("reset is true and burn_in null: the choice would never be fixed")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable and remember the pretrained ones."""
        self.begin(model)
        self.weights = surgery.eligible(model)
        self.pretrained = {name: w.detach().clone() for name, w in self.weights.items()}
        self.distances: dict[str, Tensor] = {}

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Project when it is time; at the end of the burn-in for the last time."""
        if not self.due(step):
            return
        last, moved = step == self.burn_in, self._moved()
        if last and not any(map(_number_positive, moved.values())):
            raise InputError(
                f"child_pruning: no weight has moved up to step {step}, so there is nothing to "
                "choose by: the learning rate is 0 or too small; raise burn_in or shorten the "
                "warm-up"
            )
        chosen = self.rank(moved) if last else self._passing(moved)
        for name, index in chosen.items():
            weight = self.weights[name]
            if not last and _number_positive(moved[name]) == index.numel():
                continue  # nothing of it is put back
            self._project(name, index.to(weight.device), back=last and self.reset)
            moments.forget(optimizer, weight, index.to(weight.device))
        if last:
            self.fix(chosen, optimizer, keep_moments=not self.reset)
            self.pretrained, self.distances = {}, {}

    def state_dict(self) -> dict[str, Any]:
        distances = {f"distances.{name}": value for name, value in self.distances.items()}
        return super().state_dict() | distances

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        if self.chosen is not None:
            self.pretrained = {}
        self.distances = {
            name: value.to(self.weights[name].device)
            for name, value in taken(state, "distances").items()
        }

    def _passing(self, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a projection that is not the last one leaves as it is: at most k that moved.

        Where fewer than k weights have moved, there is nothing to put back.
        """
        return self.keep(selection.top_positive(moved, self.density, scope=self.scope))

    def _moved(self) -> dict[str, Tensor]:
        """|theta - theta0|, averaged over the projections if there is a momentum."""
        moved = {
            name: (weight.detach() - self.pretrained[name]).abs()
            for name, weight in self.weights.items()
        }
        if not self.momentum:
            return moved
        for name, former in self.distances.items():
            moved[name] = torch.lerp(moved[name], former, self.momentum)
        self.distances = moved
        return moved

    @torch.no_grad()
    def _project(self, name: str, index: Tensor, *, back: bool) -> None:
        """Put all entries but those at `index` back to theta0; with `back` these too."""
        weight = self.weights[name]
        values = weight.view(-1)[index]
        weight.copy_(self.pretrained[name])
        if not back:
            weight.view(-1)[index] = values


def _number_positive(scores: Tensor) -> int:
    """Without values, on the meta device, all of them."""
    return scores.numel() if scores.is_meta else int((scores > 0).sum())
