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
from torch import nn

import jiant_sparse.methods
from jiant_sparse.errors import InputError, suggest

Rng = Callable[[str], torch.Generator]
"""rng(name): a fresh CPU generator of the stream (cell seed, method, name).

On the CPU because CUDA draws differ, and a choice of weights must not depend on the device.
"""


class Probe(Protocol):
    """Gradients of fresh training batches, before training."""

    def __call__(
        self, batches: int, *, dropout: bool = False, max_grad_norm: float | None = None
    ) -> Iterator[None]:
        """Yield `batches` times, each time with one more batch's mean gradient in `.grad`.

        dropout: model in train mode. max_grad_norm: clip the whole model's gradient to this norm,
        head included; None leaves it as it is. A tensor that the loss does not reach has no
        `.grad`. No optimiser step is taken; the training's data order, the global generators, the
        gradients and the model's mode are afterwards as they were before.
        """
        ...


@dataclass
class Method:
    """Base of all methods: tunes nothing by itself, and every hook does nothing."""

    # Read by pydantic when a configuration is bound to the fields of a subclass.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def attach(self, model: nn.Module, probe: Probe, rng: Rng) -> None:
        """Choose, freeze and insert, through `sparse.surgery`; called once.

        model: the encoder, pretrained, unedited, all of its weights trainable; each is eligible.
        No optimiser exists yet. Must not draw from the global generators.
        """
        raise NotImplementedError

    def penalty(self) -> torch.Tensor | float:
        """Added to the loss of every micro-batch; finite and not negative."""
        return 0.0

    def before_step(self, step: int) -> None:
        """Gradients of step `step`, from 1, are complete, not yet clipped; may change `.grad`."""

    def after_step(self, step: int) -> None:
        """Weights are new after step `step`; may change weights."""

    @property
    def settled(self) -> bool:
        """False while scores must not compete for the best checkpoint."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that the next step reads: tensors, numbers, strings."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


@cache
def names() -> tuple[str, ...]:
    """The keys of all methods: the files of this folder."""
    modules = pkgutil.iter_modules(jiant_sparse.methods.__path__)
    return tuple(sorted(module.name for module in modules if module.name != "base"))


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
