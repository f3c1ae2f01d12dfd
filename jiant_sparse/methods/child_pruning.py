"""ChildPruning: all weights train and are projected onto the k that moved most; Fu et al. 2023.

Every `interval` steps the top k of |theta - theta0| stay; all other weights return to theta0, bit
for bit, and lose their momentum. After step `burn_in` the choice is final, and only the k weights
train. The paper says "iteratively train the full model parameters and then calculates the
projected mask" and gives no numbers. It cites Child-Tuning (Xu et al. 2021), which masks gradients
and is another method: `child_tuning_f`, `child_tuning_d`.

With the benchmark's warm-up of 1,000 epochs, early projections are biased. At the first one on
CoLA, after 100 steps, the learning rate is 2.1e-8, and in float32 a weight near 0.9, where those of
LayerNorms lie, moves by 3.0e-8 (half an ulp) or not at all. Biases near 0 move at any rate. From
step 144 on, all weights can move.

The authors' program (`sgpa`) projects after every step (`interval: 1`), per tensor (`scope`), for
ever (`burn_in: null`), optionally on 0.3 of the new distance and 0.7 of the old (`momentum: 0.7`),
and keeps the momentum. Its first step has rate 0, so that its first choice is one among ties. Here
a projection keeps no weight that has not moved, and where fewer than k have moved, it changes
nothing; a final choice before k weights have moved is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Probe, Rng, taken
from jiant_sparse.methods.choices import LateChoice
from jiant_sparse.methods.fields import Count, Density, Scope
from jiant_sparse.methods.readings import anything, but
from jiant_sparse.sparse import moments, selection, surgery


@dataclass
class ChildPruning(LateChoice):
    """Projection onto the largest changes.

    density: fraction of the encoder's weights that may differ.
    scope: `global` keeps the top floor(density m) of all m weights; `per_tensor` the top
        floor(density n) of each tensor's n weights.
    interval: steps from one projection to the next.
    burn_in: the step after which the choice is final; no earlier score competes for the best step.
        null = never; then the scores right after a projection compete.
    momentum: share of the former distances in the distances that are ranked.
    reset: whether the chosen weights start again from theta0 when the choice is final.
    """

    title = "ChildPruning"
    paper = "Fu et al. 2023, arXiv 2211.15583"
    category = "projection-based"
    readings = {
        "scope": ("global", "per_tensor"),
        "interval": (but(1), 1),
        "burn_in": (but(None), None),
        "momentum": (0, anything),  # the program has both; how it was called is unknown
        "reset": (False, anything),
        "train.decay_unselected": (False, anything),
    }

    density: Density = 0.005
    scope: Scope = "global"
    interval: Count = 100
    burn_in: Count | None = 500
    momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    reset: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reset and self.burn_in is None:
            raise InputError(
                f"{self.name}: reset is true and burn_in null: the choice would never be fixed"
            )

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable and remember the pretrained ones."""
        self.begin(model)
        self.weights = surgery.eligible(model)
        self.pretrained = {name: w.detach().clone() for name, w in self.weights.items()}
        self.distances: dict[str, Tensor] = {}

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Project if due; at the end of the burn-in, for the last time."""
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
                continue  # no entry returns to theta0
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
        """The weights that a temporary projection keeps: at most k, of those that moved."""
        return self.keep(selection.top_positive(moved, self.density, scope=self.scope))

    def _moved(self) -> dict[str, Tensor]:
        """|theta - theta0|, averaged over projections if there is a momentum."""
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
        """Return all entries to theta0, except those at `index` unless `back`."""
        weight = self.weights[name]
        values = weight.view(-1)[index]
        weight.copy_(self.pretrained[name])
        if not back:
            weight.view(-1)[index] = values


def _number_positive(scores: Tensor) -> int:
    """Number of positive scores; on the meta device, which has no values, all of them."""
    return scores.numel() if scores.is_meta else int((scores > 0).sum())
