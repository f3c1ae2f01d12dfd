"""Bases of methods that choose in the midst of training, or anew at every step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, taken
from jiant_sparse.sparse import selection, surgery, tree
from jiant_sparse.sparse.optimizer import restrict, zero_others

MOMENTA = ("lazy", "dense")


class LateChoice(Method):
    """Base of methods that train every weight at first and the chosen entries from then on.

    A subclass calls `begin` in `attach`, and `rank` where a choice is `due` after a step; the one
    after step `burn_in` it hands to `fix`.

    density, scope: as in `selection.top_k`.
    burn_in: the step after which the choice is fixed; None = never.
    interval: steps from one passing choice to the next; None = there are none.
    """

    density: float
    scope: str
    burn_in: int | None
    interval: int | None = None

    def begin(self, model: nn.Module) -> None:
        """Remember the encoder; nothing is chosen yet."""
        self.encoder = model
        self.chosen = None

    def due(self, step: int) -> bool:
        """Whether a choice is to be made after step `step`."""
        passing = self.interval is not None and step % self.interval == 0
        return self.chosen is None and (passing or step == self.burn_in)

    def rank(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The entries of the largest scores: tensor name -> index. Raises as `most_important`."""
        return self.keep(self.most_important(scores, self.density, scope=self.scope))

    def keep(self, chosen: dict[str, Tensor]) -> dict[str, Tensor]:
        """Note that only the chosen entries can differ where the model is scored; returns them."""
        self.kept = sum(index.numel() for index in chosen.values())
        return chosen

    def fix(
        self, chosen: Mapping[str, Tensor], optimizer: Optimizer | None, *, keep_moments: bool
    ) -> None:
        """From now on only the chosen entries train: tensor name -> index."""
        self.chosen = chosen
        surgery.narrow(self.encoder, chosen, optimizer, keep_moments=keep_moments)

    def scores_at(self, step: int) -> bool:
        """From the fixed choice on; if it is never fixed, right after each passing one."""
        return step % self.interval == 0 if self.burn_in is None else step >= self.burn_in

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self.kept is None else state | {"kept": self.kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = state.get("kept")
        chosen = taken(state, "chosen")
        if chosen and self.chosen is None:
            self.fix(chosen, None, keep_moments=False)


class StepChoice(Method):
    """Base of methods that choose anew at every step: `draw` says what, and only that moves.

    A subclass calls `begin` in `attach`. Its encoder's weights are all in the optimizer, which has
    to be of `sparse.optimizer`: it moves the entries of a step, and their moments, alone.

    density: chosen fraction of the encoder's m weights in a step, in (0, 1]; None = as many as it
        has biases. The head is not among them; it trains as always.
    momentum: `lazy`, where an entry that is not chosen keeps its value and its moments, bit for
        bit; `dense` zeroes its gradient only, so that momentum goes on moving it if it was
        chosen before, and weight decay moves all.
    """

    density: float | None
    momentum: str

    def check_step_choice(self) -> None:
        """Raise InputError for a field that is not allowed."""
        if self.density is not None:
            selection.check_density(self.density)
        if self.momentum not in MOMENTA:
            allowed = ", ".join(MOMENTA)
            raise InputError(f"momentum is {self.momentum!r}; it must be one of {allowed}")

    def begin(self, model: nn.Module) -> None:
        """Count, and leave every weight trainable.

        Raises InputError if no weight would move, and for a tensor that is not contiguous.
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
        """The entries that move in step `step`: tensor name -> index, possibly an empty one.

        Gradients are complete. Tensors without one may be left out.
        """
        raise NotImplementedError

    @torch.no_grad()
    def before_step(self, step: int) -> None:
        """Choose, and leave the gradients of the chosen entries only."""
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
    def kept(self) -> int | None:
        """The entries drawn so far; of these alone the values may differ."""
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
