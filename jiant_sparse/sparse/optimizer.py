"""AdamW for tensors of which other entries move at every step.

A sparse (COO) gradient names the entries that move in this step. All others stay as they are, bit
for bit, and so do their moments, their step counts and what weight decay they will get: each entry
has an Adam of its own, which steps when the entry is named. `restrict` makes such a gradient of a
whole one; `AdamW` and `clip_grad_norm_` take the place of torch's, which know none.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError

_ONE_KIND = "those of a tensor must be of one kind"
# Without the wrapper that torch puts around it once an AdamW of its own has been made, which would
# call the hooks of a step twice.
_torch_step = torch.optim.AdamW.step
if getattr(_torch_step, "hooked", False):
    _torch_step = _torch_step.__wrapped__


def restrict(parameter: nn.Parameter, index: Tensor) -> None:
    """Leave of a parameter's gradient the entries at `index` only, as a sparse gradient.

    index: (k,) int64, sorted, distinct flat positions. Of no entries nothing is left, None.
    """
    index = index.to(parameter.device)
    values = parameter.grad.reshape(-1)[index]
    parameter.grad = None
    if index.numel():
        where = torch.stack(torch.unravel_index(index, parameter.shape))
        parameter.grad = torch.sparse_coo_tensor(
            where, values, parameter.shape, is_coalesced=True, check_invariants=False
        )


def zero_others(parameter: nn.Parameter, index: Tensor) -> None:
    """Leave of a parameter's gradient the entries at `index` only, and zeros: a masked gradient.

    The arguments are those of `restrict`.
    """
    index = index.to(parameter.device)
    values = parameter.grad.reshape(-1)[index]
    parameter.grad.zero_().view(-1)[index] = values


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """torch's function of this name, to the same bits, that takes sparse gradients as well.

    A sparse gradient, as `restrict` makes it, counts with its entries. Returns the norm before.
    """
    return nn.utils.clip_grad_norm_([_values(p) for p in parameters], max_norm)


class AdamW(torch.optim.AdamW):
    """torch's AdamW, but for the parameters that have a sparse gradient (see above).

    Of an entry that is named for the t-th time the moments and their corrections are those of
    Adam's t-th step; decay and rate are those of this step. For a parameter without a sparse
    gradient it is torch's, to the same bits.
    Raises InputError, and changes nothing, for a sparse gradient under `amsgrad` or `maximize`, one
    that is sparse in rows only (`nn.Embedding(sparse=True)`), and one of another kind than before.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure`, if there is one, computes the gradients and returns the loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        named = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._check(group, parameter)
                    named.append((group, parameter, parameter.grad))
                elif parameter.grad is not None and self._by_entry(parameter):
                    raise InputError("a gradient is whole after sparse ones; " + _ONE_KIND)
        try:
            for group, parameter, gradient in named:
                self._move(group, parameter, gradient)
                parameter.grad = None
            _torch_step(self)
        finally:
            for _, parameter, gradient in named:
                parameter.grad = gradient
        return loss

    def _by_entry(self, parameter: Tensor) -> bool:
        """Whether it has a step count for each entry."""
        state = self.state.get(parameter)
        return bool(state) and parameter.dim() > 0 and state["step"].shape == parameter.shape

    def _check(self, group: dict[str, Any], parameter: Tensor) -> None:
        for option in ("amsgrad", "maximize"):
            if group[option]:
                raise InputError(f"{option} is true; it must be false for a sparse gradient")
        if parameter.grad.dense_dim():
            raise InputError("a gradient is sparse in its rows; it must be so in all dimensions")
        if self.state.get(parameter) and not self._by_entry(parameter):
            raise InputError("a gradient is sparse after whole ones; " + _ONE_KIND)

    def _move(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros_like(parameter, dtype=torch.int32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        # torch's load_state_dict leaves what is called so where it was saved.
        state["step"] = state["step"].to(parameter.device)
        index, g = _flat(gradient), gradient.values()
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
        kept = weights[index].mul_(1 - group["lr"] * group["weight_decay"])
        weights[index] = kept.sub_(change.mul_(group["lr"]))


def _flat(gradient: Tensor) -> Tensor:
    """(k,) int64: the flat positions of a coalesced sparse gradient's entries."""
    flat = torch.zeros_like(gradient.indices()[0])
    for where, size in zip(gradient.indices(), gradient.shape, strict=True):
        flat = flat * size + where
    return flat


def _values(parameter: Tensor) -> Tensor:
    """Stands in for a parameter with a sparse gradient: its gradient is that one's entries."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter
    values = parameter.grad.values()
    stand_in = values.detach()
    stand_in.grad = values
    return stand_in
