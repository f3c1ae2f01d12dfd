"""DpsDense: every other stage zeroes gradients outside of a subnetwork; Zhang et al. 2022.

Dynamic Parameter Selection (NeurIPS 35), the variant without mixing. Two kinds of stages of
`stage_steps` steps alternate. In stage I everything trains, and the squares of each step's gradient
are summed: the empirical Fisher information F, from zero in every stage I. In stage II only the
entries of the largest F in each tensor get a gradient. AdamW is unchanged, so that momentum and
decay still move the other entries: all of the encoder may change.

The choice is among the weights of linear layers; embeddings, LayerNorms, biases and the task head
always train. The authors choose in the classifier too, which is no part of the encoder here; they
set every dropout to 0, which the model's own configuration decides here.

Differences from the authors' program:
- it takes every score that is at least the last chosen one, with F = 0 the whole tensor; here the
  count is exact, and the first of equal scores win;
- it counts forward passes and squares each pass's gradient; here it is steps, and the gradient of
  the whole step (accumulated, and of both passes of COPA) before clipping;
- its stages have int(0.05 max_steps) steps, 0 without a limit;
- it divides F by 1000, which changes no order;
- it keeps its sums in the order of the backward pass, which shared or unused layers break, and
  knows BERT alone: for RoBERTa its option does nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Interval
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng, taken
from jiant_sparse.methods.fields import Count
from jiant_sparse.sparse import modules, selection, surgery


@dataclass
class DpsDense(Method):
    """All weights train in turns with the most important ones of each linear layer.

    updated_fraction: of each tensor's n entries, ceil(updated_fraction n) train in stage II. The
        authors' `reserve_p`, 0.3 in their script, is 1 - updated_fraction.
    stage_steps: length of a stage.
    """

    title = "DPS Dense"
    paper = "Zhang et al. 2022, arXiv 2211.01642"
    category = "per-step"

    updated_fraction: Annotated[float, Interval(gt=0, lt=1)] = 0.7
    stage_steps: Count = 50

    @property
    def least_steps(self) -> int:
        """A whole stage I and one step of stage II."""
        return self.stage_steps + 1

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable and start with stage I."""
        linear = modules.linear_weights(model)
        self.weights = {n: w for n, w in surgery.eligible(model).items() if n in linear}
        if not self.weights:
            raise InputError("the encoder has no linear layers; the choice is among their weights")
        self.squares: dict[str, Tensor] = {}
        self.masks: dict[str, Tensor] = {}  # of stage II; empty in stage I

    def before_step(self, step: int) -> None:
        """Stage I: add to F. Stage II: zero the gradients of entries that are not chosen."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if self.masks:
                weight.grad.masked_fill_(~self.masks[name], 0)
            else:
                self.observe(name, weight.grad)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """At the end of a stage, start the other one."""
        if step % self.stage_steps:
            return
        chosen = {} if self.masks else {n: self._choose(n) for n in self.weights}
        self.squares = {}
        self.masks = chosen

    def observe(self, name: str, gradient: Tensor) -> None:
        """Add a step's gradient of a tensor to its F."""
        if name not in self.squares:
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            self.squares[name] = torch.zeros_like(gradient, dtype=dtype)
        self.squares[name].addcmul_(gradient, gradient)

    def scores(self, name: str) -> Tensor:
        """The scores by which the entries of an observed tensor are ranked."""
        return self.squares[name]

    def state_dict(self) -> dict[str, Any]:
        return {
            f"{part}.{name}": tensor
            for part in ("squares", "masks")
            for name, tensor in getattr(self, part).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.squares, self.masks = (self.read(state, part) for part in ("squares", "masks"))

    def read(self, state: Mapping[str, Any], part: str) -> dict[str, Tensor]:
        """Copies of a state's tensors `part.<name>`, each on its weight's device."""
        found = taken(state, part).items()
        return {name: t.to(self.weights[name].device, copy=True) for name, t in found}

    def _choose(self, name: str) -> Tensor:
        # The loss did not reach the tensor in the whole stage: all scores are equal, the first win.
        unseen = name not in self.squares
        scores = torch.zeros_like(self.weights[name]) if unseen else self.scores(name)
        return selection.largest_mask(scores.detach(), self.updated_fraction)
