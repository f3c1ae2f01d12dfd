"""A method on an encoder's shape alone: does it fit, and how many weights does it tune?

The encoder is built on torch's meta device, from its configuration, without weights; the method is
attached to its real modules, with a probe whose gradients have no values.
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
    """Weights by kind: `eligible` the encoder's, `tuned` of these, `added` new ones.

    Of a method that chooses anew at every step `tuned` is what moves in one. probed: the arguments
    with which the method asks for gradients before step 1; empty if it does not.
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
    """A method looks at the values of weights or gradients, not at their order alone."""


def shapes() -> tuple[str, ...]:
    """Names of the configurations that are shipped."""
    return tuple(sorted(path.stem for path in SHAPES.glob("*.json")))


def shape(name: str) -> Path:
    """Where an encoder's configuration lies: a shipped one, or the directory of a model.

    Raises InputError as `model.resolve` for another name than one of `shapes()`.
    """
    return SHAPES / f"{name}.json" if name in shapes() else model.resolve(name).path


def count(method: Method, encoder: nn.Module) -> Counts:
    """What a method tunes of an encoder without weights, which it edits.

    It is taken to its first score, for it may choose in mid-training. Raises InputError if it does
    not fit the encoder, NeedsWeights if it cannot be told.
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
    except Exception as error:  # whatever a method comes to without values, and with one batch
        raise NeedsWeights(f"cannot be counted without weights: {error}") from error
    if method.moved_per_step is not None:
        return Counts(sum(sizes.values()), round(method.moved_per_step), 0, asked)
    return Counts(sum(sizes.values()), *tuned(method, encoder, sizes.keys()), asked)


def tuned(method: Method, encoder: nn.Module, names: Collection[str]) -> tuple[int, int]:
    """(tuned, added) as `surgery.count`, where the model is scored: after the method's choices."""
    trained, added = surgery.count(encoder, names)
    support = method.support_size
    return trained if support is None else support, added


def check_scores(name: str, method: Method, train: Train, steps: int) -> None:
    """Raise InputError if `steps` are too few for the method, or no score among them counts."""
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
    """Raise InputError if nothing would train: the encoder, after `count`, nor the task head.

    probed: of the `Counts`. A frozen head cannot train for the choice either.
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
