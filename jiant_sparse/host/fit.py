"""A method on an encoder's shape alone: does it fit, and how many weights does it tune?

The encoder is built on torch's meta device, from its configuration, without weights; the method is
attached to its real modules, with a probe whose gradients have no values.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.host import model
from jiant_sparse.methods.base import Method
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery

SHAPES = Path(__file__).parent / "shapes"


@dataclass(frozen=True)
class Counts:
    """Weights by kind: `eligible` the encoder's, `tuned` of these, `added` new ones."""

    eligible: int
    tuned: int
    added: int

    @property
    def percent(self) -> float:
        """Tuned and added weights in percent of the encoder's."""
        return 100 * (self.tuned + self.added) / self.eligible


def shapes() -> tuple[str, ...]:
    """Names of the configurations that are shipped."""
    return tuple(sorted(path.stem for path in SHAPES.glob("*.json")))


def empty_encoder(name: str) -> nn.Module:
    """An encoder without weights: of a shipped configuration's shape, or of a model's.

    Raises InputError as `model.resolve` for another name than one of `shapes()`.
    """
    if name in shapes():
        fields = json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))
        config = transformers.AutoConfig.for_model(**fields)
        with torch.device("meta"):
            return transformers.AutoModel.from_config(config)
    return model.empty_encoder(model.resolve(name).path)


def count(method: Method, encoder: nn.Module) -> Counts:
    """What a method tunes of an encoder without weights, which it edits.

    A method that chooses in mid-training is taken to that point. Raises InputError if the method
    does not fit the encoder.
    """
    sizes = {name: weight.numel() for name, weight in surgery.eligible(encoder).items()}
    method.attach(encoder, _probe, _rng)
    if method.shortest_run:
        trained = [p for p in encoder.parameters() if p.requires_grad]
        method.after_step(method.shortest_run, torch.optim.AdamW(trained))
    return Counts(sum(sizes.values()), *surgery.count(encoder, sizes.keys()))


def check_length(name: str, method: Method, steps: int) -> None:
    """Raise InputError unless a run of `steps` brings the method to its first score."""
    if steps < method.shortest_run:
        raise InputError(
            f"{name} comes to its first score at step {method.shortest_run}; the run has {steps}. "
            "Change its burn_in or interval, or the training's length"
        )


def _probe(batches: int, **options: Any) -> Iterator[None]:
    yield None


def _rng(name: str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive(0, name))
