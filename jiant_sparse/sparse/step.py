"""The training step: what happens between the backward passes and the next forward pass.

The order:

    for each micro-batch: forward, loss + method.penalty(), backward     (the caller)
    method.before_step(step)                       gradients are complete, not yet clipped
    clip the gradient norm, once, over all parameters of the model
    optimizer.step(), scheduler.step()
    multiply the encoder's frozen matrices by 1 - frozen_decay   (only if asked for)
    method.after_step(step, optimizer)             weights are new
    model.zero_grad()
"""

from typing import Protocol

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import clip_grad_norm_


class Hooks(Protocol):
    """What a method does around the optimizer's step; see `methods.base.Method`."""

    def before_step(self, step: int) -> None:
        """Change gradients."""
        ...

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Change weights, what trains, and the optimizer's state."""
        ...


def optimizer_step(
    model: nn.Module,
    method: Hooks,
    optimizer: Optimizer,
    step: int,
    *,
    max_grad_norm: float | None = None,
    scheduler: LRScheduler | None = None,
    encoder: nn.Module | None = None,
    frozen_decay: float = 0.0,
) -> None:
    """Update the weights of `model` from the gradients that the backward passes have left.

    model: encoder and head. step: number of this step, from 1.
    max_grad_norm: bound of the gradient's L2 norm; None = no clipping.
    encoder, frozen_decay: the part of `model` whose frozen matrices decay, and learning rate times
    weight decay. For programs whose weight decay reaches weights that are not selected. A frozen
    task head does not decay.
    """
    method.before_step(step)
    if max_grad_norm is not None:
        clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    if scheduler is not None:
        scheduler.step()
    if encoder is not None and frozen_decay:
        surgery.decay_frozen(encoder, 1 - frozen_decay)
    method.after_step(step, optimizer)
    model.zero_grad()
