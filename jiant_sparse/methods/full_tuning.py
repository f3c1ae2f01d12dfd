"""FullTuning: every weight of the encoder trains; the yardstick of Fu et al. 2023 (2211.15583)."""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng


@dataclass
class FullTuning(Method):
    """All of the encoder's weights."""

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
