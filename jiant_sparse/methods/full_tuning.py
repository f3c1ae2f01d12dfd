"""FullTuning: every weight of the encoder trains; the upper reference of Fu et al. 2023."""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.methods.readings import anything


@dataclass
class FullTuning(Method):
    """All of the encoder's weights."""

    title = "FullTuning"
    paper = "Fu et al. 2023, arXiv 2211.15583"
    category = "reference"
    readings = {"train.decay_unselected": (anything, anything)}

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Leave every weight trainable."""
