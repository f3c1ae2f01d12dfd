"""Attach a method to a part of a model, and let it train on from a delta."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.base import Method, Rng, taken
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import SparseWeight
from jiant_sparse.tuning.config import SparseConfig
from jiant_sparse.tuning.origin import Origin, stored, tensors
from jiant_sparse.tuning.scope import View, select


def attach(
    model: nn.Module, config: SparseConfig, call: Callable[[Method, View, Rng], None]
) -> tuple[Method, View, Origin]:
    """Attach a new instance of the method to the part of the model that `config` names.

    call: attaches it, or restores it. Everything else is frozen, but for what trains whole.
    Returns the method, what it has of the model, and what the model was before.
    Raises InputError, and leaves the model as it was, if they do not fit.
    """
    if config.method == "adapter":
        raise InputError("adapter: AdapterHub edits whole models of its own kinds; use its library")
    trained = trainable(model)
    view, head = select(model, config)
    method, names = config.make_method(), [*tensors(model)]

    def rng(name: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive(config.seed, config.method, name))

    train_only(model, [*trainable(view), *head])
    try:
        call(method, view, rng)
    except BaseException:  # `attach` has undone its own edits
        train_only(model, trained)
        raise
    origin = Origin(names, view, head)
    if config.values_dtype is not None:
        try:
            _widen(view, origin)
        except InputError as error:
            detach(view, origin)
            train_only(model, trained)
            raise InputError(f"{config.method}: {error}") from None
    return method, view, origin


def choosing(state: Mapping[str, Any]) -> Callable[[Method, View, Rng], None]:
    """A call for `attach`: without a probe, with the choice, if any, in a state of the method."""

    def call(method: Method, view: View, rng: Rng) -> None:
        method.chosen = taken(state, "chosen") or None
        method.attach(view, None, rng)

    return call


def detach(view: View, origin: Origin) -> None:
    """Give the model its first values back, under plain names."""
    surgery.fold(view, unchecked=True)
    origin.restore()


def trainable(model: nn.Module) -> list[str]:
    """The names of the parameters that train."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def train_only(model: nn.Module, names: Iterable[str]) -> None:
    """Freeze a plain model but for the parameters of these names."""
    surgery.freeze(model)
    for name in names:
        surgery.train_tensor(model, name)


def resume_state(method: Method, view: View, origin: Origin) -> dict[str, Any] | None:
    """What the method needs beside its delta to train on, as JSON; None if it needs more."""
    state = method.state_dict()
    chosen = [key for key in state if key.startswith("chosen.")]
    plain = {key: v for key, v in state.items() if isinstance(v, int | float | str)}
    gated = any(isinstance(module, Gated) for module in view.modules())
    lost = gated or len(plain) + len(chosen) < len(state) or chosen and origin.whole
    return None if lost else {"state": plain, "chosen": bool(chosen)}


def _widen(view: View, origin: Origin) -> None:
    """Let chosen entries train in float32. Raises InputError if other 16-bit tensors train."""
    for name in origin.whole:
        if (dtype := stored(view.model, name).dtype).itemsize < 4:
            raise InputError(
                f"{name} trains as a whole, in {dtype}; float32 values are for chosen entries "
                "only: set values_dtype=None, or load the model in float32"
            )
    for module in view.modules():
        if isinstance(module, SparseWeight) and module.values.element_size() < 4:
            module.values.data = module.values.data.float()
