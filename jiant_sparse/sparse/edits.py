"""Tensors that train in a form of their own: what the forward pass sees as a function of it.

Each edit is a torch parametrization of one tensor: it takes the stored tensor (`original`) and
gives the one that the module computes with. `surgery` puts edits in and takes them out again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Noise:
    """Random draws that change from step to step and are the same all through a step.

    They depend on the stream, the tensor's name and the step alone: a forward pass that is done
    twice (COPA, accumulated gradients) sees one draw, and a resumed run needs the step only.
    """

    def __init__(self, rng: Callable[[str], torch.Generator]) -> None:
        self.rng = rng
        self.step = 1

    def generator(self, name: str, device: torch.device) -> torch.Generator:
        """The generator of this step for tensor `name`, at its beginning, on `device`."""
        seed = self.rng(f"{name}/{self.step}").initial_seed()
        return torch.Generator(device).manual_seed(seed)


@dataclass(frozen=True)
class Schedule:
    """A learning rate of its own.

    rate: peak; None = the training's. steps: from the peak it falls linearly to 0 at this step,
    without a warm-up, and then goes on as the training's; None = it is constant, without decay of
    weights.
    """

    rate: float | None = None
    steps: int | None = None

    def factor(self, step: int, training: float) -> float:
        """Share of the peak after `step` steps; training: that of the training's schedule."""
        if self.steps is None:
            return 1.0
        return 1 - step / self.steps if step < self.steps else training


class Edit(nn.Module):
    """Base of the edits.

    tuned: entries of the tensor that may differ from their pretrained value in the end.
    trains_original: whether the stored tensor itself is trained.
    is_matrix: whether the tensor has two dimensions or more.
    positions: names of the buffers that say which entries these are.
    """

    trains_original = False
    positions: tuple[str, ...] = ()

    def __init__(self, original: Tensor, tuned: int) -> None:
        super().__init__()
        self.tuned = tuned
        self.is_matrix = original.dim() >= 2

    def schedule(self, parameter: nn.Parameter) -> Schedule | None:
        """The learning rate of one of the edit's parameters; None = as everything."""
        return None


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


class Entries(Edit):
    """A frozen tensor whose entries at `index` are the leaf vector `values`.

    The optimiser sees `values`, k numbers; the forward pass sees the dense tensor with these
    written in place. No other entry is ever written, so frozen means bit-equal.

    dense: any shape, frozen. index: (k,) int64, sorted, distinct flat positions.
    Of a matrix, `row_start` (rows + 1,) and `column` (k,) int32 are the index as in the CSR format:
    row r has the entries row_start[r] up to row_start[r + 1].
    """

    positions = ("index",)

    def __init__(self, dense: Tensor, index: Tensor) -> None:
        super().__init__(dense, index.numel())
        self.register_buffer("index", index.to(dense.device))
        self.values = nn.Parameter(dense.detach().flatten()[self.index])
        self._written = -1
        if dense.dim() == 2:
            rows, columns = dense.shape
            starts = torch.searchsorted(
                index, torch.arange(rows + 1, device=index.device) * columns
            )
            for name, part in (("row_start", starts), ("column", index % columns)):
                self.register_buffer(name, part.int().to(dense.device), persistent=False)

    def forward(self, dense: Tensor) -> Tensor:
        return _Scatter.apply(self.values, self.write(dense), self.index)

    def write(self, dense: Tensor) -> Tensor:
        """The dense tensor with the values in it; it does not train."""
        # Through .data: within a step the same values are written again, so the weights that an
        # earlier forward pass saved for its backward (COPA runs two) are still right, and the
        # version counter must not say otherwise. After a step they are not, and it has to.
        dense.data.view(-1).index_copy_(0, self.index, self.values.data)
        if self._written != self.values._version:
            torch.autograd.graph.increment_version(dense)
            self._written = self.values._version
        return dense.detach()


class Mixed(Edit):
    """A trained tensor W that is mixed with its pretrained value W0 (Lee et al. 2020, Mixout).

    Training: W0 + b (W - W0) / (1 - q), b drawn anew each step from Bernoulli(1 - q); the gradient
    with respect to W is the true one, b / (1 - q). Evaluation: W; with `kept`, W there and W0,
    bit for bit, everywhere else.

    q: in (0, 1). mix: `rows` draws b over the last dimension, the input features of a linear
    layer, and shares it among the rows; `elements` draws for every entry; `none` trains W as it is.
    kept: (k,) int64, sorted, distinct flat positions.
    """

    trains_original = True
    positions = ("kept",)

    def __init__(
        self, weight: Tensor, name: str, noise: Noise, q: float, mix: str, kept: Tensor | None
    ) -> None:
        super().__init__(weight, weight.numel() if kept is None else kept.numel())
        self.name, self.noise, self.q, self.mix = name, noise, q, mix
        self.register_buffer("pretrained", weight.detach().clone())
        kept = None if kept is None else kept.to(weight.device)
        self.register_buffer("kept", kept)

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


def hard_concrete(
    logit: Tensor, stretch: tuple[float, float], uniform: Tensor | None = None
) -> Tensor:
    """Hard-concrete gates in [0, 1] at temperature 1 (Louizos et al. 2018, eq. 10 to 13).

    clamp(s (r - l) + l, 0, 1) with s = sigmoid(logit + log u - log(1 - u)).
    stretch: (l, r), l < 0 < 1 < r. uniform: u in (0, 1), the logit's shape; None gives the
    deterministic gate of evaluation, s = sigmoid(logit).
    """
    low, high = stretch
    shifted = logit if uniform is None else logit + uniform.logit()
    return (torch.sigmoid(shifted) * (high - low) + low).clamp(0, 1)


def expected_open(logit: Tensor, stretch: tuple[float, float]) -> Tensor:
    """Probability of each gate not to be zero: sigmoid(logit - log(-l / r)) (eq. 12)."""
    low, high = stretch
    return torch.sigmoid(logit - torch.tensor(-low / high).log().item())


class Gated(Edit):
    """A frozen tensor plus a gated difference: theta0 + g z w (Guo et al. 2021, DiffPruning).

    w: `difference`, zero at first. z: a hard-concrete gate for every entry, with trained `logit`.
    g: one gate for the whole tensor, with trained `group_logit`, or 1 if `structured` is off.
    Training draws the gates anew each step; evaluation uses the deterministic ones, and an entry
    whose difference is zero has its pretrained bits.

    logit: first values, of the tensor's shape. group_logit: first value, or None for no group
    gate. gates, differences: learning rates of the logits and of w; None = as everything.
    """

    def __init__(
        self,
        dense: Tensor,
        name: str,
        noise: Noise,
        stretch: tuple[float, float],
        logit: Tensor,
        group_logit: float | None,
        *,
        gates: Schedule | None = None,
        differences: Schedule | None = None,
    ) -> None:
        super().__init__(dense, dense.numel())
        self.name, self.noise, self.stretch = name, noise, stretch
        self._schedules = gates, differences
        self.difference = nn.Parameter(torch.zeros_like(dense))
        self.logit = nn.Parameter(logit.to(dense))
        self.group_logit = None
        if group_logit is not None:
            self.group_logit = nn.Parameter(dense.new_tensor(group_logit))

    def schedule(self, parameter: nn.Parameter) -> Schedule | None:
        return self._schedules[parameter is self.difference]

    def forward(self, dense: Tensor) -> Tensor:
        change = self.change(drawn=self.training)
        if self.training:
            return dense + change
        return torch.where(change == 0, dense, dense + change)

    def change(self, *, drawn: bool) -> Tensor:
        """g z w, with this step's drawn gates or the deterministic ones."""
        uniform = group_uniform = None
        if drawn:
            device = self.logit.device
            generator = self.noise.generator(self.name, device)
            # The bounds of Guo et al.'s program.
            uniform, group_uniform = (
                torch.empty(shape, device=device).uniform_(1e-4, 1 - 1e-4, generator=generator)
                for shape in (self.logit.shape, ())
            )
        change = hard_concrete(self.logit, self.stretch, uniform) * self.difference
        if self.group_logit is None:
            return change
        return change * hard_concrete(self.group_logit, self.stretch, group_uniform)

    def expected_open(self) -> Tensor:
        """Expected number of gates that are open, the tensor's own among them: the L0 norm."""
        total = expected_open(self.logit, self.stretch).sum()
        if self.group_logit is None:
            return total
        return total + expected_open(self.group_logit, self.stretch)
