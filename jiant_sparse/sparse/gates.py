"""Hard-concrete gates, and a tensor that trains as a gated difference (DiffPruning)."""

import torch
from torch import Tensor, nn

from jiant_sparse.sparse.parametrizations import Noise, Parametrization, Schedule


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
    """Probability of each gate to be nonzero: sigmoid(logit - log(-l / r)) (eq. 12)."""
    low, high = stretch
    return torch.sigmoid(logit - torch.tensor(-low / high).log().item())


class Gated(Parametrization):
    """A frozen tensor plus a gated difference: theta0 + g z w (Guo et al. 2021, DiffPruning).

    w: `difference`, zero at first. z: a hard-concrete gate for every entry, with trained `logit`.
    g: one gate for the whole tensor, with trained `group_logit`; 1 without a group gate.
    Training draws the gates anew each step. Evaluation uses the deterministic gates, and an entry
    whose difference is zero has its pretrained bits.

    logit: first values, of the tensor's shape. group_logit: first value; None = no group gate.
    gates, differences: learning rates of the logits and of w; None = the training's.
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
        self._gates, self._differences = gates, differences
        self.difference = nn.Parameter(torch.zeros_like(dense))
        self.logit = nn.Parameter(logit.to(dense))
        self.group_logit: nn.Parameter | None = None
        if group_logit is not None:
            self.group_logit = nn.Parameter(dense.new_tensor(group_logit))

    def schedule(self, parameter: nn.Parameter) -> Schedule | None:
        return self._differences if parameter is self.difference else self._gates

    def forward(self, dense: Tensor) -> Tensor:
        change = self.change(drawn=self.training)
        if self.training:
            return dense + change
        return torch.where(change == 0, dense, dense + change)

    def change(self, *, drawn: bool) -> Tensor:
        """g z w, with the drawn gates of this step or the deterministic gates."""
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
        """Expected number of open gates, the group gate included: the L0 norm."""
        total = expected_open(self.logit, self.stretch).sum()
        if self.group_logit is None:
            return total
        return total + expected_open(self.group_logit, self.stretch)
