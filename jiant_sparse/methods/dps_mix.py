"""DpsMix: weights are mixed with earlier values, in turns random and chosen; Zhang et al. 2022.

Dynamic Parameter Selection, the variant that mixes as Mixout does. In training a linear layer's
weight is U + N (W - U) / p with p = `updated_fraction`; its gradient is that of this formula, in N
only. In stage I, U is the pretrained weight, and N is drawn at each step from Bernoulli(p), once
for each input feature and shared by the rows; F sums the squares of each step's gradient, and c
counts the draws, both from zero in every stage I. In stage II, U is the weight at the stage's
start, and N are the entries of the largest F / max(c, 1), times exp(-max(c, 1) / stage_steps) if a
stage has 50 steps or more. Evaluation and the final model have W itself, without mixing.

Tensors, stages and differences from the authors' program are those of `dps_dense`. So is what
moves: plain AdamW, whose momentum and decay move W outside of N too. In stage II training does not
see those moves; evaluation and the next stage I do. The authors draw at each forward pass (here: at
each step) and leave 1 / p out of the gradient; in F that is the same factor for every entry, and
changes no order.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.methods.base import Probe, Rng
from jiant_sparse.methods.dps_dense import DpsDense
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.parametrizations import Anchored, Noise

# From this length on, the authors' program ranks often drawn entries lower.
_LONG_STAGE = 50


@dataclass
class DpsMix(DpsDense):
    """All weights train, mixed with pretrained values and with values of the last stage's end.

    updated_fraction: p, the share of N in both stages. The authors' `reserve_p`, 0.3 in their
        script, is 1 - updated_fraction.
    stage_steps: length of a stage.
    """

    title = "DPS Mix"
    left_open = ("updated_fraction", "stage_steps")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Insert the mixing and start with stage I."""
        super().attach(model, probe, rng)
        self.noise = Noise(rng)
        self.counts: dict[str, Tensor] = {}
        self.edits = {
            name: Anchored(weight, name, self.noise, self.updated_fraction)
            for name, weight in self.weights.items()
        }
        surgery.edit(model, self.edits)

    def before_step(self, step: int) -> None:
        """Stage I: add to F and c. In stage II the formula masks the gradients."""
        if not self.masks:
            super().before_step(step)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Let the next step draw anew; at the end of a stage, start the other one."""
        self.noise.step = step + 1
        super().after_step(step, optimizer)
        if step % self.stage_steps == 0:
            self.counts = {}
            self._pin({name: w.detach().clone() for name, w in self.weights.items() if self.masks})

    def observe(self, name: str, gradient: Tensor) -> None:
        super().observe(name, gradient)
        drawn = self.edits[name].drawn()
        self.counts[name] = self.counts.get(name, 0) + drawn.int()

    def scores(self, name: str) -> Tensor:
        drawn = self.counts[name].clamp(min=1)
        scores = self.squares[name] / drawn
        if self.stage_steps >= _LONG_STAGE:
            scores *= torch.exp(-drawn / self.stage_steps)
        return scores

    def state_dict(self) -> dict[str, Any]:
        counts = {f"counts.{name}": tensor for name, tensor in self.counts.items()}
        anchors = {f"anchors.{name}": self.edits[name].anchor for name in self.masks}
        return super().state_dict() | counts | anchors | {"step": self.noise.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.noise.step = state["step"]
        self.counts = self.read(state, "counts")
        self._pin(self.read(state, "anchors"))

    def _pin(self, anchors: Mapping[str, Tensor]) -> None:
        """Enter stage II with these anchors; without anchors, stage I."""
        for name, edit in self.edits.items():
            if anchors:
                edit.pin(anchors[name], self.masks[name])
            else:
                edit.release()
