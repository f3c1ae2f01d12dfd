"""Frozen: the task head alone trains; the lower reference.

A baseline of Akbar-Tajari and Pilehvar 2024. The encoder's dropout stays on in training, as with
every method. A pooler that is drawn at random is frozen too: it belongs to the encoder.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery


@dataclass
class Frozen(Method):
    """None of the encoder's weights."""

    title = "Frozen"
    paper = "Akbar-Tajari and Pilehvar 2024, Findings of EMNLP"
    category = "reference"
    left_open = ()

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the whole encoder."""
        surgery.freeze(model)
