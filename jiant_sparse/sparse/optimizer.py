"""Lazy AdamW and SGD: per-entry state for sparse gradients whose support changes each step.

A sparse (COO) gradient names the entries that move in this step. Every other entry keeps its value,
its moments and its step count, bit for bit, and does not decay. `restrict` turns a dense gradient
into a sparse one; `AdamW`, `SGD` and `clip_grad_norm_` take the place of torch's, which refuse
sparse gradients.

>>> weight = nn.Parameter(torch.ones(3))
>>> weight.sum().backward()
>>> restrict(weight, torch.tensor([1]))
>>> SGD([weight], lr=0.5).step()
>>> weight.tolist()
[1.0, 0.5, 1.0]
"""

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.sparse._torch_private import without_hooks

_ONE_KIND = "those of a tensor must be of one kind"


def restrict(parameter: nn.Parameter, index: Tensor) -> None:
    """Keep a parameter's gradient at `index` only, as a sparse gradient; None if index is empty.

    index: (k,) int64, sorted, distinct flat positions.
    """
    index = index.to(parameter.device)
    values = _gradient(parameter).reshape(-1)[index]
    parameter.grad = None
    if index.numel():
        where = torch.stack(torch.unravel_index(index, parameter.shape))
        parameter.grad = torch.sparse_coo_tensor(
            where, values, parameter.shape, is_coalesced=True, check_invariants=False
        )


def zero_others(parameter: nn.Parameter, index: Tensor) -> None:
    """Zero a parameter's gradient outside of `index`: a masked, dense gradient.

    Arguments as `restrict`.
    """
    index = index.to(parameter.device)
    gradient = _gradient(parameter)
    values = gradient.reshape(-1)[index]
    gradient.zero_().view(-1)[index] = values


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """torch's function of this name, to the same bits, that takes sparse gradients as well.

    A sparse gradient, as `restrict` makes it, counts with its entries. Returns the norm before.
    """
    return nn.utils.clip_grad_norm_([_values(p) for p in parameters], max_norm)


class _ByEntry(Optimizer):
    """The step that both optimizers share: sparse gradients by entry, dense ones by torch."""

    _refused: ClassVar[tuple[str, ...]]
    _plain_step: ClassVar[Callable]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the weights; `closure`, if given, computes the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._check(group, parameter)
                    if parameter.grad.is_sparse:
                        sparse.append((group, parameter, parameter.grad))
        try:
            for group, parameter, gradient in sparse:
                self._move(group, parameter, _flat(gradient), gradient.values())
                parameter.grad = None
            self._plain_step(self)
        finally:
            for _, parameter, gradient in sparse:
                parameter.grad = gradient
        return loss

    def _check(self, group: dict[str, Any], parameter: Tensor) -> None:
        if not _gradient(parameter).is_sparse:
            return
        for option in self._refused:
            if group[option]:
                got, allowed = ("true", "false") if group[option] is True else ("set", "0")
                raise InputError(f"{option} is {got}; it must be {allowed} for a sparse gradient")
        if _gradient(parameter).dense_dim():
            raise InputError("a gradient is sparse in its rows; it must be so in all dimensions")

    def _move(self, group: dict[str, Any], parameter: Tensor, index: Tensor, g: Tensor) -> None:
        """Update the entries at the flat positions `index`, whose gradient is g."""
        raise NotImplementedError


class AdamW(_ByEntry, torch.optim.AdamW):
    """torch's AdamW, with an Adam of its own for each entry of a sparse gradient.

    When an entry is named for the t-th time, its moments and their corrections are those of Adam's
    t-th step; decay and rate are those of this step. For a parameter with a dense gradient it is
    torch's, to the same bits.
    Raises InputError, and changes nothing, for a sparse gradient under `amsgrad` or `maximize`, one
    that is sparse in rows only (`nn.Embedding(sparse=True)`), and one of another kind than before.
    """

    _refused = ("amsgrad", "maximize")
    _plain_step = staticmethod(without_hooks(torch.optim.AdamW.step))

    def _check(self, group: dict[str, Any], parameter: Tensor) -> None:
        super()._check(group, parameter)
        state = self.state.get(parameter)
        if not state or parameter.dim() == 0:
            return
        by_entry = state["step"].shape == parameter.shape
        is_sparse = _gradient(parameter).is_sparse
        if is_sparse != by_entry:
            now, before = ("sparse", "whole") if is_sparse else ("whole", "sparse")
            raise InputError(f"a gradient is {now} after {before} ones; {_ONE_KIND}")

    def _move(self, group: dict[str, Any], parameter: Tensor, index: Tensor, g: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros_like(parameter, dtype=torch.int32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        # torch's load_state_dict leaves what is called so where it was saved.
        state["step"] = state["step"].to(parameter.device)
        step, mean, square = (state[key].view(-1) for key in ("step", "exp_avg", "exp_avg_sq"))
        beta1, beta2 = group["betas"]
        count = step[index] + 1
        m = mean[index].lerp_(g, 1 - beta1)
        v = square[index].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        step[index], mean[index], square[index] = count, m, v
        # Float64, as torch's corrections are: in float32 1 - 0.999 is off by 5e-5 of itself.
        rate, scale = ((1 - beta ** count.double()).to(g) for beta in (beta1, beta2))
        change = m.div_(rate).div_(v.sqrt_().div_(scale.sqrt_()).add_(group["eps"]))
        weights = parameter.view(-1)
        decayed = weights[index].mul_(1 - group["lr"] * group["weight_decay"])
        weights[index] = decayed.sub_(change.mul_(group["lr"]))


class SGD(_ByEntry, torch.optim.SGD):
    """torch's SGD with momentum; of a sparse gradient only the named entries move.

    An entry's momentum counts the steps in which it was named: buffer = momentum * buffer + g,
    with weight decay in g, and the weight moves by lr * buffer. For a parameter with a dense
    gradient it is torch's, to the same bits.
    Raises InputError, and changes nothing, for a sparse gradient under `nesterov` or `maximize`, or
    with dampening, and for one that is sparse in rows only.
    """

    _refused = ("nesterov", "maximize", "dampening")
    _plain_step = staticmethod(without_hooks(torch.optim.SGD.step))

    def _move(self, group: dict[str, Any], parameter: Tensor, index: Tensor, g: Tensor) -> None:
        state, weights = self.state[parameter], parameter.view(-1)
        old = weights[index]
        change = g.add(old, alpha=group["weight_decay"])
        if group["momentum"]:
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            buffer = state["momentum_buffer"].view(-1)
            change = buffer[index].mul_(group["momentum"]).add_(change)
            buffer[index] = change
        weights[index] = old.sub_(change, alpha=group["lr"])


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _flat(gradient: Tensor) -> Tensor:
    """(k,) int64: the flat positions of a coalesced sparse gradient's entries."""
    flat = torch.zeros_like(gradient.indices()[0])
    for where, size in zip(gradient.indices(), gradient.shape, strict=True):
        flat = flat * size + where
    return flat


def _values(parameter: Tensor) -> Tensor:
    """The parameter, or a vector with the gradient's entries as gradient if that is sparse."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter
    values = parameter.grad.values()
    stand_in = values.detach()
    stand_in.grad = values
    return stand_in
