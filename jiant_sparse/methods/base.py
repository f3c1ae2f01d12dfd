"""What a method is: how the weights to tune are chosen, and what happens around each step.

A new method is one new file in this folder with one dataclass derived from `Method`; its file name
is its key in a configuration and its fields are the keys below it. Nothing else has to be edited.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import jiant_sparse.methods
from jiant_sparse.errors import InputError, suggest

# The files of this folder that hold no method.
_SHARED = ("base", "choices")

Rng = Callable[[str], torch.Generator]
"""rng(name): a fresh CPU generator of the stream (cell seed, method, name).

On the CPU because CUDA draws differ, and a choice of weights must not depend on the device.
"""


class Probe(Protocol):
    """Gradients of fresh training batches, before training."""

    def __call__(
        self,
        batches: int,
        *,
        dropout: bool = False,
        max_grad_norm: float | None = None,
        batch_size: int | None = None,
    ) -> Iterator[None]:
        """Yield `batches` times, each time with one more batch's mean gradient in `.grad`.

        dropout: model in train mode. max_grad_norm: clip the whole model's gradient to this norm,
        head included; None leaves it as it is. batch_size: None is the training's. A tensor that
        the loss does not reach has no `.grad`. No optimiser step is taken; the training's data
        order, the global generators, the gradients and the model's mode are afterwards as they
        were before.
        """
        ...


@dataclass
class Method:
    """Base of all methods: tunes nothing by itself, and every hook does nothing."""

    # Read by pydantic when a configuration is bound to the fields of a subclass.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    # Entries that may differ where the model is scored, if fewer than train; None = what trains.
    kept: ClassVar[int | None] = None

    # Entries that move in a step, the mean over the steps, if they are others each time; None = the
    # same at every step. Before the first one, how many there will be.
    moved_per_step: ClassVar[float | None] = None

    # Steps that a run must have at least for the method to be what its name says.
    least_steps: ClassVar[int] = 1

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Choose, freeze and insert, through `sparse.surgery`; called once.

        model: the encoder, pretrained, unedited, all of its weights trainable; each is eligible.
        No optimiser exists yet. Must not draw from the global generators.
        """
        raise NotImplementedError

    def penalty(self) -> Tensor | float:
        """Added to the loss of every micro-batch; finite and not negative."""
        return 0.0

    def before_step(self, step: int) -> None:
        """Gradients of step `step`, from 1, are complete, not yet clipped; may change `.grad`."""

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Weights are new after step `step`; may change them, what trains, and `optimizer` alike.

        Gradients are those of the step, clipped; they are dropped afterwards.
        """

    def scores_at(self, step: int) -> bool:
        """Whether a score after step `step` competes for the best checkpoint.

        Of the fields alone, so that a run without any is found before it begins.
        """
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that the next step reads: tensors, numbers, strings."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave: after `attach`, before weights and optimiser.

        What trains is afterwards what trained when the state was taken.
        """

    def restore(self, model: nn.Module, rng: Rng, state: Mapping[str, Any]) -> None:
        """In the place of `attach` when a run goes on: the same model and edits, without a probe.

        model, rng: as `attach`; weights and optimiser follow. state: of `state_dict`.
        """
        self.attach(model, _no_probe, rng)
        self.load_state_dict(state)


def _no_probe(*_: Any, **__: Any) -> Iterator[None]:
    raise NotImplementedError("a method that probes has to remember its choice: see EarlyChoice")


def taken(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state whose keys begin with `prefix.`, by the rest of the key."""
    start = f"{prefix}."
    return {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}


@cache
def names() -> tuple[str, ...]:
    """The keys of all methods: the files of this folder."""
    modules = pkgutil.iter_modules(jiant_sparse.methods.__path__)
    return tuple(sorted(module.name for module in modules if module.name not in _SHARED))


def find(name: str) -> type[Method]:
    """The method class in `methods/<name>.py`. Raises InputError with the known names."""
    if name not in names():
        raise InputError(f"unknown method {name!r}; {suggest(name, names())}")
    module = importlib.import_module(f"{jiant_sparse.methods.__name__}.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    )
    return found
