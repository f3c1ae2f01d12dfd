"""Frozen: nothing of the encoder trains, the task head alone does; the floor of the comparison.

A baseline of Akbar-Tajari and Pilehvar 2024. The encoder's dropout stays on in training, as with
every method. The pooler, where it is drawn at random, is frozen too: part of the encoder.
"""

from dataclasses import dataclass

from torch import nn

from jiant_sparse.methods.base import Method, Probe, Rng
from jiant_sparse.sparse import surgery


@dataclass
class Frozen(Method):
    """None of the encoder's weights."""

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Freeze the whole encoder."""
        surgery.freeze(model)
