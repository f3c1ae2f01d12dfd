"""Mixout: weights are mixed with their pretrained values in training; Lee et al. 2020.

In training the forward pass sees W0 + b (W - W0) / (1 - q) with b ~ Bernoulli(1 - q), drawn anew
each step, by default once for each input feature of a linear layer and shared by its rows. The
gradient is that of this formula. (The authors' own backward pass leaves out 1 / (1 - q); that
reading is not offered: Adam hardly sees it, clipping does.) Their example also sets the dropout
before a mixed layer to zero, and mixes the task head; here neither is touched.

Fu et al. 2023 call Mixout p-sparse because it resets a part of the deltas: with `reset`, every
evaluation and the final model have W at floor((1 - q) m) entries, drawn once per run from all m of
the encoder, and the pretrained bits everywhere else. Their program does nothing in training and
resets at evaluation, with a new draw each time: `mix: none` is that, but for the one draw, without
which the model that is selected is not the one that is tested. Its q is not published; Table 4's
0.5 % of tuned weights makes it 0.995, the default. Lee et al. evaluate W itself (`reset: false`)
and take q = 0.7 to 0.9.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import modules, selection, surgery
from jiant_sparse.sparse.parametrizations import Mixed, Noise

MIX = ("rows", "elements", "none")
TENSORS = ("linear", "all")


@dataclass
class Mixout(Method):
    """All weights train, mixed with the pretrained ones.

    q: probability of the pretrained value, in (0, 1).
    mix: `rows` one draw for an input feature (official); `elements` one for each entry; `none`.
    tensors: which are mixed: `linear`, the weights of linear layers (official), or `all`.
    reset: whether all but floor((1 - q) m) entries are pretrained again when evaluated.
    """

    q: float = 0.995
    mix: str = "rows"
    tensors: str = "linear"
    reset: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise InputError(f"q is {self.q}; it must be in (0, 1)")
        for field, value, allowed in (("mix", self.mix, MIX), ("tensors", self.tensors, TENSORS)):
            if value not in allowed:
                raise InputError(f"{field} is {value!r}; it must be one of {', '.join(allowed)}")
        if self.mix == "none" and not self.reset:
            raise InputError("mix is 'none' and reset is false: that is full_tuning")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Draw what survives the reset, and put the mixing in."""
        self.noise = Noise(rng)
        weights = surgery.eligible(model)
        kept = {}
        if self.reset:
            sizes = {name: weight.numel() for name, weight in weights.items()}
            # 1 - 0.9 is 0.09999999999999998 in floating point, one weight short.
            kept = selection.uniform(sizes, float(1 - Fraction(repr(self.q))), rng)
            surgery.check_choice(model, kept)
        mixed = weights if self.tensors == "all" else modules.linear_weights(model)
        for name, weight in weights.items():
            mix = self.mix if name in mixed else "none"
            if mix != "none" or self.reset:
                edit = Mixed(weight, name, self.noise, self.q, mix, kept.get(name))
                surgery.edit(model, name, edit)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """The next step draws anew."""
        self.noise.step = step + 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.noise.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.noise.step = state["step"]
