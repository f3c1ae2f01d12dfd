"""Tensors that train in another form: the forward pass sees a function of what is stored.

Each is a torch parametrization of one tensor. It takes the stored tensor (`original`) and returns
the tensor that the module computes with. `surgery` puts parametrizations in and takes them out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from jiant_sparse.sparse._torch_private import version
from jiant_sparse.sparse.bits import bits


class Noise:
    """Random draws that change from step to step and stay the same within a step.

    They depend on the stream, the tensor's name and the step alone: a forward pass that runs twice
    (COPA, accumulated gradients) sees one draw, and a resumed run needs only the step.
    """

    def __init__(self, rng: Callable[[str], torch.Generator]) -> None:
        self.rng = rng
        self.step = 1

    def generator(self, name: str, device: torch.device) -> torch.Generator:
        """A fresh generator on `device` for tensor `name` in this step."""
        seed = self.rng(f"{name}/{self.step}").initial_seed()
        return torch.Generator(device).manual_seed(seed)


@dataclass(frozen=True)
class Schedule:
    """Learning rate of a parameter that does not follow the training's.

    rate: peak; None = the training's peak. steps: the rate falls linearly from its peak to 0 at
    this step, without warm-up, and then follows the training's; None = the rate is constant, and
    the parameter does not decay.

    >>> [Schedule(steps=4).factor(step, training=0.1) for step in (0, 1, 4)]
    [1.0, 0.75, 0.1]
    """

    rate: float | None = None
    steps: int | None = None

    def factor(self, step: int, training: float) -> float:
        """Share of the peak after `step` steps. training: the training schedule's share."""
        if self.steps is None:
            return 1.0
        return 1 - step / self.steps if step < self.steps else training


class Parametrization(nn.Module):
    """Base class.

    tuned: number of entries that can differ from their pretrained values in the end.
    is_matrix: whether the tensor has two dimensions or more.
    trains_original: whether the stored tensor itself trains.
    positions: names of the buffers that say which entries train.
    """

    trains_original = False
    positions: tuple[str, ...] = ()

    def __init__(self, original: Tensor, tuned: int) -> None:
        super().__init__()
        self.tuned = tuned
        self.is_matrix = original.dim() >= 2

    def schedule(self, parameter: nn.Parameter) -> Schedule | None:
        """Learning rate of one of the parametrization's parameters; None = the training's."""
        return None


def stack_of(module: nn.Module, leaf: str) -> ParametrizationList | None:
    """torch's list of the parametrizations of a module's tensor; None if it has none."""
    if not is_parametrized(module, leaf):
        return None
    return cast(nn.ModuleDict, module.parametrizations)[leaf]  # type: ignore[return-value]  # stubs


def first_of(module: nn.Module | None) -> Parametrization | None:
    """Our parametrization in one of torch's lists; None for any other list or module."""
    found = module[0] if isinstance(module, ParametrizationList) else None
    return found if isinstance(found, Parametrization) else None


class _Scatter(torch.autograd.Function):
    """The dense weight as a function of the few entries that train: gradient = gather."""

    @staticmethod
    def forward(ctx, values: Tensor, dense: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return dense.detach()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return gradient.reshape(-1)[index], None, None


class SparseWeight(Parametrization):
    """A frozen tensor whose entries at `index` are the leaf vector `values`.

    The optimizer sees `values`, k numbers. The forward pass sees the dense tensor with the values
    written in place. No other entry is ever written: frozen means bit-equal.

    dense: any shape, frozen. index: (k,) int64, sorted, distinct flat positions.
    `values` may get a wider dtype than `dense` has; they are rounded as they are written.
    A matrix has its index in CSR form too, `row_start` (rows + 1,) and `column` (k,), int32: row r
    has the entries row_start[r] up to row_start[r + 1].
    """

    positions = ("index",)
    index: Tensor
    row_start: Tensor
    column: Tensor

    def __init__(self, dense: Tensor, index: Tensor) -> None:
        super().__init__(dense, index.numel())
        self.register_buffer("index", index.to(dense.device))
        self.values = nn.Parameter(dense.detach().flatten()[self.index])
        self._written: int | None = -1
        if dense.dim() == 2:
            rows, columns = dense.shape
            row_ends = torch.arange(rows + 1, device=index.device) * columns
            starts = torch.searchsorted(index, row_ends).int()
            self.register_buffer("row_start", starts.to(dense.device), persistent=False)
            column = (index % columns).int()
            self.register_buffer("column", column.to(dense.device), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        return _Scatter.apply(self.values, self.write(dense), self.index)

    def write(self, dense: Tensor) -> Tensor:
        """The dense tensor with the values written into it; without gradient."""
        # Through .data: within a step the same values are written again, so the weights that an
        # earlier forward pass saved for its backward (COPA runs two) are still right, and the
        # version counter must not say otherwise. After a step they are not, and it has to.
        flat, now = dense.data.view(-1), version(self.values)
        values = self.values.data.to(dense.dtype)
        if now is None:
            stale = not torch.equal(bits(flat[self.index]), bits(values))
        else:
            stale = now != self._written
        flat.index_copy_(0, self.index, values)
        if stale:
            torch.autograd.graph.increment_version(dense)
            self._written = now
        return dense.detach()


class Mixed(Parametrization):
    """A trained tensor W that is mixed with its pretrained value W0 (Lee et al. 2020, Mixout).

    Training: W0 + b (W - W0) / (1 - q), with b drawn anew each step from Bernoulli(1 - q); the
    gradient with respect to W is the true one, b / (1 - q). Evaluation: W. With `kept`, evaluation
    sees W at these positions and W0, bit for bit, everywhere else.

    q: in (0, 1). mix: `rows` draws b over the last dimension, the input features of a linear
    layer, and shares it among the rows; `elements` draws for every entry; `none` trains W as it is.
    kept: (k,) int64, sorted, distinct flat positions.
    """

    trains_original = True
    positions = ("kept",)
    pretrained: Tensor
    kept: Tensor | None

    def __init__(
        self, weight: Tensor, name: str, noise: Noise, q: float, mix: str, kept: Tensor | None
    ) -> None:
        super().__init__(weight, weight.numel() if kept is None else kept.numel())
        self.name, self.noise, self.q, self.mix = name, noise, q, mix
        self.register_buffer("pretrained", weight.detach().clone())
        self.register_buffer("kept", None if kept is None else kept.to(weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        if self.training:
            return weight if self.mix == "none" else self._mixed(weight)
        if self.kept is None:
            return weight
        dense = self.pretrained.clone()
        dense.view(-1)[self.kept] = weight.reshape(-1)[self.kept]
        return dense

    def _mixed(self, weight: Tensor) -> Tensor:
        shape = weight.shape[-1:] if self.mix == "rows" else weight.shape
        generator = self.noise.generator(self.name, weight.device)
        drawn = torch.rand(shape, generator=generator, device=weight.device) >= self.q
        return self.pretrained + drawn * ((weight - self.pretrained) / (1 - self.q))


class Anchored(Parametrization):
    """A trained tensor W. The forward pass sees a part N of it, and an anchor U elsewhere.

    For DPS_Mix. Training: U + N (W - U) / share, with the true gradient, N / share. Evaluation: W.
    Until `pin`, and again after `release`, U is the pretrained W, and N is drawn anew each step
    from Bernoulli(share) over the last dimension, shared by the rows.

    share: in (0, 1); after `pin` the fraction of entries that N has.
    """

    trains_original = True
    pretrained: Tensor
    anchor: Tensor | None
    mask: Tensor | None

    def __init__(self, weight: Tensor, name: str, noise: Noise, share: float) -> None:
        super().__init__(weight, weight.numel())
        self.name, self.noise, self.share = name, noise, share
        self.register_buffer("pretrained", weight.detach().clone())
        self.register_buffer("anchor", None, persistent=False)
        self.register_buffer("mask", None, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        if not self.training:
            return weight
        if self.anchor is None or self.mask is None:
            anchor, part = self.pretrained, self.drawn()
        else:
            anchor, part = self.anchor, self.mask
        return anchor + part * ((weight - anchor) / self.share)

    def drawn(self) -> Tensor:
        """(columns,) bool: the N of this step; every call within a step gives the same."""
        device = self.pretrained.device
        generator = self.noise.generator(self.name, device)
        uniform = torch.rand(self.pretrained.shape[-1:], generator=generator, device=device)
        return uniform < self.share

    def pin(self, anchor: Tensor, mask: Tensor) -> None:
        """Set U to `anchor` and N to `mask`, both of the tensor's shape."""
        self.anchor, self.mask = anchor, mask

    def release(self) -> None:
        """Return to the pretrained values and to draws."""
        self.anchor = self.mask = None
