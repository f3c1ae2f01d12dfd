"""Whether a method fits an encoder's shape, and how many weights it tunes.

The encoder is built from its configuration on torch's meta device, without weights. The method
attaches to its real modules, with a probe whose gradients have no values.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.host import container, model
from jiant_sparse.methods.base import Method
from jiant_sparse.schema.cell import Train
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery

SHAPES = Path(__file__).parent / "shapes"


@dataclass(frozen=True)
class Counts:
    """Numbers of weights: `eligible` in the encoder, `tuned` of them, `added` as new ones.

    For a method that selects anew at every step, `tuned` counts the weights of one step. probed:
    the arguments with which the method asks for gradients before step 1; empty if it does not.
    """

    eligible: int
    tuned: int
    added: int
    probed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def percent(self) -> float:
        """Tuned and added weights in percent of the encoder's."""
        return 100 * (self.tuned + self.added) / self.eligible


class NeedsWeights(Exception):
    """A method needs the values of weights or gradients, so it cannot be counted without them."""


def shapes() -> tuple[str, ...]:
    """Names of the configurations that come with the package."""
    return tuple(sorted(path.stem for path in SHAPES.glob("*.json")))


def shape(name: str) -> Path:
    """Path of an encoder's configuration. name: one of `shapes()`, or a model.

    Raises InputError as `model.resolve`.
    """
    return SHAPES / f"{name}.json" if name in shapes() else model.resolve(name).path


def count(method: Method, encoder: nn.Module) -> Counts:
    """Attach a method to an encoder without weights, and count what it tunes.

    Takes the method to its first score, because it may choose in mid-training. Raises InputError if
    it does not fit the encoder, NeedsWeights if it cannot be counted.
    """
    sizes = {name: weight.numel() for name, weight in surgery.eligible(encoder).items()}
    asked: dict[str, Any] = {}

    def probe(batches: int | None, **options: Any) -> Iterator[float]:
        asked.update(options, batches=batches)
        for weight in encoder.parameters():
            weight.grad = torch.zeros_like(weight)
        yield 1.0
        encoder.zero_grad()

    try:
        method.attach(encoder, probe, _rng)
        trained = [p for p in encoder.parameters() if p.requires_grad]
        method.after_step(first_score(method), torch.optim.AdamW([{"params": trained}]))
    except InputError:
        raise
    except Exception as error:  # whatever a method runs into without values, or with one batch
        raise NeedsWeights(f"cannot be counted without weights: {error}") from error
    if method.moved_per_step is not None:
        return Counts(sum(sizes.values()), round(method.moved_per_step), 0, asked)
    return Counts(sum(sizes.values()), *tuned(method, encoder, sizes.keys()), asked)


def tuned(method: Method, encoder: nn.Module, names: Collection[str]) -> tuple[int, int]:
    """(tuned, added) as `surgery.count`, in the evaluated model: after the method's choices."""
    trained, added = surgery.count(encoder, names)
    support = method.support_size
    return trained if support is None else support, added


def check_scores(name: str, method: Method, train: Train, steps: int) -> None:
    """Raise InputError if `steps` are too few for the method, or if none of its scores competes."""
    if steps < method.least_steps:
        raise InputError(
            f"{name} with these fields needs {method.least_steps} steps; the run has {steps}"
        )
    if not any(map(method.scores_at, (*container.evaluations(train, steps), steps))):
        first = first_score(method)
        raise InputError(
            f"{name} can be scored after step {first} for the first time, and at none of the run's "
            f"evaluations (every {train.eval_every} of {steps} steps); change its burn_in or "
            "interval, train.eval_every or the training's length"
        )


def check_trains(encoder: nn.Module, probed: Mapping[str, Any], train: Train) -> None:
    """Raise InputError if neither the encoder, after `count`, nor the task head would train.

    probed: as in `Counts`; a method cannot train a frozen head before it chooses, either.
    """
    if train.freeze_head and probed.get("head_steps"):
        raise InputError(
            f"head_steps is {probed['head_steps']}, but train.freeze_head is true; it must be false"
        )
    if train.freeze_head and not any(p.requires_grad for p in encoder.parameters()):
        raise InputError(
            "nothing would train: the method freezes the whole encoder, and train.freeze_head is "
            "true; it must be false"
        )


def first_score(method: Method) -> int:
    """The first step after which a dev score competes for the best checkpoint."""
    return next(step for step in itertools.count(1) if method.scores_at(step))


def _rng(name: str) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(derive(0, name))
