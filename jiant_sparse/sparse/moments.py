"""Update an optimizer's state when a method changes, in mid-training, what trains."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer

from jiant_sparse.errors import InputError

# The state that goes on moving a weight: Adam's first moment, SGD's momentum.
_MOMENTUM = ("exp_avg", "momentum_buffer")


def forget(optimizer: Optimizer, parameter: Tensor, kept: Tensor) -> None:
    """Zero the momentum of every entry of `parameter` except at the flat positions `kept`.

    Adam's second moment stays: it is the scale of the gradient. At zero, with the step count of the
    tensor, it would move these entries about three times as far as the kept ones for hundreds of
    steps. A parameter without momentum is left alone.
    """
    for key, moment in _moments(optimizer, parameter).items():
        if key in _MOMENTUM:
            remembered = moment.reshape(-1)[kept]
            moment.zero_().view(-1)[kept] = remembered


def replace(
    optimizer: Optimizer, old: Iterable[Tensor], new: Tensor | None, kept: Tensor | None = None
) -> None:
    """Replace the parameters `old` of the optimizer by `new`, at the place of the first.

    new: None only removes. kept: flat positions in the first old parameter whose moments go over
    to `new`, with the step count; None lets `new` begin without moments.
    Raises InputError for an optimizer that does not train the first.
    """
    first, *others = old
    if not any(p is first for group in optimizer.param_groups for p in group["params"]):
        raise InputError(
            "the optimizer that a method was given trains a part of the encoder's weights only; it "
            "must train all of them until the choice is made"
        )
    if new is not None and kept is not None and first in optimizer.state:
        taken = {key: m.reshape(-1)[kept] for key, m in _moments(optimizer, first).items()}
        optimizer.state[new] = optimizer.state[first] | taken
    _put(optimizer, first, [] if new is None else [new])
    for parameter in others:
        _put(optimizer, parameter, [])


def _moments(optimizer: Optimizer, parameter: Tensor) -> dict[str, Tensor]:
    """The tensors of the parameter's own shape in its state; the step count is not one."""
    return {
        key: value
        for key, value in optimizer.state.get(parameter, {}).items()
        if key != "step" and torch.is_tensor(value) and value.shape == parameter.shape
    }


def _put(optimizer: Optimizer, old: Tensor, new: list[Tensor]) -> None:
    """Put `new` where `old` stands in its group; drop the state of `old`."""
    optimizer.state.pop(old, None)
    for group in optimizer.param_groups:
        group["params"] = [q for p in group["params"] for q in (new if p is old else [p])]
