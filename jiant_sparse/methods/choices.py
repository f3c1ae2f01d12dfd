"""Bases of methods that choose weights during training: once, or anew at every step."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, taken
from jiant_sparse.sparse import selection, surgery, tree
from jiant_sparse.sparse.optimizer import restrict, zero_others

Momentum = Literal["lazy", "dense"]
"""What AdamW does with the weights that a step does not choose.

`lazy`: they keep value and moments, bit for bit. `dense`: their gradient is zero, so that the
momentum of earlier choices moves them, and weight decay moves all weights.
"""


class LateChoice(Method):
    """Base of methods that train every weight at first, and chosen weights later.

    A subclass calls `begin` in `attach`. When a choice is `due` after a step, it calls `rank`; it
    passes the choice of step `burn_in` to `fix`.

    density, scope: as in `selection.top_k`.
    burn_in: the step after which the choice is final; None = never.
    """

    density: float
    scope: str
    burn_in: int | None
    _support_size: int | None = None

    @property
    def interval(self) -> int | None:
        """Steps between temporary choices; None = no temporary choices."""
        return None

    @property
    def support_size(self) -> int | None:
        return self._support_size

    def begin(self, model: nn.Module) -> None:
        """Remember the encoder; nothing is chosen yet."""
        self.encoder = model
        self.chosen = None

    def due(self, step: int) -> bool:
        """Whether to choose after step `step`."""
        temporary = self.interval is not None and step % self.interval == 0
        return self.chosen is None and (temporary or step == self.burn_in)

    def rank(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Choose the largest scores: tensor name -> index. Raises as `most_important`."""
        return self.keep(self.most_important(scores, self.density, scope=self.scope))

    def keep(self, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
        """Note that the evaluated model differs at the chosen weights alone; return them."""
        self._support_size = sum(index.numel() for index in chosen.values())
        return chosen

    def fix(
        self, chosen: Mapping[str, Tensor], optimizer: Optimizer | None, *, keep_moments: bool
    ) -> None:
        """Restrict training to the chosen weights: tensor name -> index."""
        self.chosen = chosen
        surgery.narrow(self.encoder, chosen, optimizer, keep_moments=keep_moments)

    def scores_at(self, step: int) -> bool:
        """From the final choice on; without one, right after each temporary choice."""
        if self.burn_in is not None:
            return step >= self.burn_in
        return self.interval is not None and step % self.interval == 0

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self._support_size is None else state | {"kept": self._support_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._support_size = state.get("kept")
        chosen = taken(state, "chosen")
        if chosen and self.chosen is None:
            self.fix(chosen, None, keep_moments=False)


class StepChoice(Method):
    """Base of methods that choose anew at every step; a subclass says in `draw` which weights.

    A subclass calls `begin` in `attach`. The optimizer holds all weights of the encoder. It must
    be one of `sparse.optimizer`, which updates a step's weights and their moments alone.

    density: fraction of the encoder's m weights that a step updates; None = as many weights as
        the encoder has biases. The head trains at every step and is not counted.
    """

    density: float | None
    momentum: Momentum

    def begin(self, model: nn.Module) -> None:
        """Count the weights that a step updates, and leave every weight trainable.

        Raises InputError if a step would update no weight, or a tensor is not contiguous.
        """
        self.weights = surgery.eligible(model)
        for name, weight in self.weights.items():
            tree.check_contiguous(name, weight)
        sizes = {name: weight.numel() for name, weight in self.weights.items()}
        if self.density is None:
            self.k = sum(n for name, n in sizes.items() if name.split(".")[-1] == "bias")
        else:
            self.k = selection.budget(sum(sizes.values()), self.density)
        if not self.k:
            raise InputError(
                f"the fraction to tune is too small: no weight of {sum(sizes.values()):,} would "
                "train in a step"
            )
        lazy = self.weights if self.momentum == "lazy" else {}
        self.drawn = {n: torch.zeros_like(w, dtype=torch.bool) for n, w in lazy.items()}
        self.moved = self.steps = 0

    def draw(self, step: int) -> dict[str, Tensor]:
        """Choose the weights of step `step`: tensor name -> index, which may be empty.

        Gradients are complete. A tensor without a gradient may be left out.
        """
        raise NotImplementedError

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        """Choose, and restrict the gradients to the chosen weights."""
        chosen = self.draw(step)
        self.steps += 1
        for name, weight in self.weights.items():
            if weight.grad is None:
                continue
            index = chosen[name]
            if self.momentum == "dense":
                zero_others(weight, index)
                continue
            restrict(weight, index)
            self.moved += index.numel()
            self.drawn[name].view(-1)[index.to(self.drawn[name].device)] = True

    @property
    def support_size(self) -> int | None:
        """Number of weights drawn so far."""
        if self.momentum == "dense":
            return None
        return sum(int(drawn.sum()) for drawn in self.drawn.values())

    @property
    def moved_per_step(self) -> float | None:
        if self.momentum == "dense":
            return None
        return self.moved / self.steps if self.steps else float(self.k)

    def state_dict(self) -> dict[str, Any]:
        drawn = {
            f"drawn.{name}": mask.cpu().view(-1).nonzero().view(-1)
            for name, mask in self.drawn.items()
        }
        return drawn | {"moved": self.moved, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, index in taken(state, "drawn").items():
            self.drawn[name].view(-1)[index.to(self.drawn[name].device)] = True
        self.moved, self.steps = state["moved"], state["steps"]
