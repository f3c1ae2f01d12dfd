"""DpsDense: gradients outside of a subnetwork are zero in every other stage; Zhang et al. 2022.

Dynamic Parameter Selection (NeurIPS 35), the variant without mixing. Stages of `stage_steps` steps
alternate. In stage I everything trains, and the squares of each step's gradient are summed up: the
empirical Fisher information F, from zero in every stage I. In stage II only the entries of the
largest F in each tensor get a gradient; everything else about the step is as ever, so that AdamW's
momentum and decay still move the others. All of the encoder may change.

Chosen among are the weights of linear layers; embeddings, LayerNorms, biases and the task head
always train. The authors choose in the classifier too, which is outside of the encoder here; and
they set every dropout to 0, which is left to the model's own configuration here.

Where this departs from the authors' program: it takes every score that is at least the last
chosen one, with F = 0 the whole tensor (here the count is exact and the first of equals win);
it counts forward passes and squares each one's gradient (here steps, and the gradient of the whole
step, accumulated and of both passes of COPA, before it is clipped); its stages are int(0.05
max_steps) long, 0 without a limit; it divides F by 1000, which changes no order. It keeps its sums
in the order of the backward pass, which shared or unused layers break, and knows BERT alone: for
RoBERTa its option does nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng, taken
from jiant_sparse.sparse import modules, selection, surgery


@dataclass
class DpsDense(Method):
    """All weights train in turns with the most important ones of each linear layer.

    updated_fraction: of each tensor's n entries ceil(updated_fraction n) train in stage II; in
        (0, 1). The authors' `reserve_p`, 0.3 in their script, is the rest: 1 - updated_fraction.
    stage_steps: length of a stage, at least 1.
    """

    updated_fraction: float = 0.7
    stage_steps: int = 50

    def __post_init__(self) -> None:
        if not 0 < self.updated_fraction < 1:
            raise InputError(f"updated_fraction is {self.updated_fraction}; it must be in (0, 1)")
        if self.stage_steps < 1:
            raise InputError(f"stage_steps is {self.stage_steps}; it must be at least 1 step")

    @property
    def least_steps(self) -> int:
        """One of stage II."""
        return self.stage_steps + 1

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable and begin with stage I."""
        linear = modules.linear_weights(model)
        self.weights = {n: w for n, w in surgery.eligible(model).items() if n in linear}
        if not self.weights:
            raise InputError("the encoder has no linear layers; the choice is among their weights")
        self.squares: dict[str, Tensor] = {}
        self.masks: dict[str, Tensor] = {}  # of stage II; empty in stage I

    def before_step(self, step: int) -> None:
        """Stage I: add to F. Stage II: leave the chosen entries' gradients only."""
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            if self.masks:
                weight.grad.masked_fill_(~self.masks[name], 0)
            else:
                self.observe(name, weight.grad)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """At the end of a stage begin the other one."""
        if step % self.stage_steps:
            return
        chosen = {} if self.masks else {n: self._choose(n) for n in self.weights}
        self.squares = {}
        self.masks = chosen

    def observe(self, name: str, gradient: Tensor) -> None:
        """Add a step's gradient of a tensor to what it is ranked by."""
        if name not in self.squares:
            dtype = torch.promote_types(gradient.dtype, torch.float32)
            self.squares[name] = torch.zeros_like(gradient, dtype=dtype)
        self.squares[name].addcmul_(gradient, gradient)

    def scores(self, name: str) -> Tensor:
        """What the entries of an observed tensor are ranked by."""
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
        """Copies of a state's tensors `part.<name>`, each where its weight is."""
        found = taken(state, part).items()
        return {name: t.to(self.weights[name].device, copy=True) for name, t in found}

    def _choose(self, name: str) -> Tensor:
        # A tensor that the loss did not reach in the whole stage: all equal, its first entries.
        unseen = name not in self.squares
        scores = torch.zeros_like(self.weights[name]) if unseen else self.scores(name)
        return selection.largest_mask(scores.detach(), self.updated_fraction)
