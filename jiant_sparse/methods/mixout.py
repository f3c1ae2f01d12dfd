"""Mixout: weights are mixed with their pretrained values in training; Lee et al. 2020.

In training the forward pass sees W0 + b (W - W0) / (1 - q) with b ~ Bernoulli(1 - q), drawn anew at
each step; by default there is one draw for each input feature of a linear layer, shared by its
rows. The gradient is that of this formula. (The authors' own backward pass leaves out 1 / (1 - q).
This is not offered: Adam hardly notices the factor, clipping does.) Their example also sets the
dropout before a mixed layer to zero and mixes the task head; neither is done here.

Fu et al. 2023 call Mixout p-sparse because it resets a part of the deltas. With `reset`, every
evaluation and the final model have W at floor((1 - q) m) entries, drawn once per run from all m of
the encoder, and the pretrained bits everywhere else. Their program does nothing in training and
resets at evaluation, with a new draw each time. `mix: none` is that program with a single draw, so
that the model that is selected is the model that is tested. Its q is not published; Table 4's 0.5 %
of tuned weights makes it 0.995, the default. Lee et al. evaluate W itself (`reset: false`) and take
q = 0.7 to 0.9.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from annotated_types import Interval
from torch import nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.readings import anything
from jiant_sparse.sparse import modules, selection, surgery
from jiant_sparse.sparse.parametrizations import Mixed, Noise


@dataclass
class Mixout(Method):
    """All weights train, mixed with the pretrained ones.

    q: probability of the pretrained value.
    mix: `rows`, one draw for each input feature (official); `elements`, one for each entry; `none`.
    tensors: which are mixed: `linear`, the weights of linear layers (official); or `all`.
    reset: whether an evaluated model is pretrained at all but floor((1 - q) m) entries.
    """

    title = "Mixout"
    paper = "Lee et al. 2020, arXiv 1909.11299"
    category = "random"
    readings = {
        "mix": ("rows", "none"),
        "tensors": ("linear", anything),
        "reset": (True, True),  # without it, Mixout is that of Lee et al.: nothing is sparse
        "train.decay_unselected": (anything, anything),
    }

    q: Annotated[float, Interval(gt=0, lt=1)] = 0.995
    mix: Literal["rows", "elements", "none"] = "rows"
    tensors: Literal["linear", "all"] = "linear"
    reset: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mix == "none" and not self.reset:
            raise InputError(f"{self.name}: mix is 'none' and reset is false: that is full_tuning")

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Draw the entries that the reset keeps, and insert the mixing."""
        self.noise = Noise(rng)
        weights = surgery.eligible(model)
        kept = {}
        if self.reset:
            sizes = {name: weight.numel() for name, weight in weights.items()}
            # 1 - 0.9 is 0.09999999999999998 in floating point, one weight short.
            kept = selection.uniform(sizes, float(1 - Fraction(repr(self.q))), rng)
            surgery.check_choice(model, kept)
        mixed = weights if self.tensors == "all" else modules.linear_weights(model)
        edits = {}
        for name, weight in weights.items():
            mix = self.mix if name in mixed else "none"
            if mix != "none" or self.reset:
                edits[name] = Mixed(weight, name, self.noise, self.q, mix, kept.get(name))
        surgery.edit(model, edits)

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Let the next step draw anew."""
        self.noise.step = step + 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.noise.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.noise.step = state["step"]
