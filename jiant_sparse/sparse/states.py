"""State dicts of parametrized modules: weights under their own names, and what trains beside them.

torch names a parametrized tensor `parametrizations.weight.original`. A model saved under that name
loads elsewhere as random weights, with no more than a warning. Here `weight` is what the module
computes with in evaluation, so every copy of the state, that of `save_pretrained` too, holds the
tuned model. What the parametrization keeps (values, index, gates) stands beside it under torch's
names. A state in which other entries train is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.bits import bits
from jiant_sparse.sparse.parametrizations import Parametrization, SparseWeight, first_of, stack_of
from jiant_sparse.sparse.tree import keep_hooks, stored

_ORIGINAL = ".original"


def name_plainly(module: nn.Module, leaf: str, *, first: bool) -> None:
    """Keep a parametrized tensor `leaf` under its own name in the module's state dict.

    first: whether the module is the first that holds the tensor; of tied modules it alone saves
    what the parametrization keeps. The module can no longer be pickled.
    """
    keep_hooks(
        module,
        leaf,
        module.register_state_dict_post_hook(partial(_save, leaf, first)),
        module.register_load_state_dict_pre_hook(partial(_load, leaf, first)),
    )
    type(module).__getstate__ = _refuse_pickle  # type: ignore[method-assign]  # of one class


def name_low_rank(layer: nn.Module, merged: Callable[[nn.Module], Tensor]) -> None:
    """Save the merged weight of a layer with a low-rank update as `weight` in its state dict.

    The weight without the update stands beside it as `lora_base`.
    """

    def save(layer: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        state[f"{prefix}lora_base"] = state[f"{prefix}weight"]
        state[f"{prefix}weight"] = merged(layer).detach()

    def load(layer: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        if f"{prefix}lora_base" in state:
            state[f"{prefix}weight"] = state.pop(f"{prefix}lora_base")

    layer.register_state_dict_post_hook(save)
    layer.register_load_state_dict_pre_hook(load)


def drifted(encoder: nn.Module, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Frozen tensors that differ from the base beside their trained entries; saved in checkpoints.

    They moved before they were frozen (a choice in mid-training). base: first values of the
    eligible tensors, on the CPU, by the names that they had before any parametrization.
    Returns the tensors themselves by the names of `encoder.named_parameters()`; frozen tensors that
    the base does not have are left out.
    """
    moved = {}
    modules = dict(encoder.named_modules())
    for name, parameter in encoder.named_parameters():
        stack = name.removesuffix(_ORIGINAL) if name.endswith(_ORIGINAL) else None
        old = base.get(stack.replace(".parametrizations.", ".") if stack else name)
        if parameter.requires_grad or old is None:
            continue
        now = parameter.detach().cpu()
        weight = first_of(modules[stack]) if stack else None
        if isinstance(weight, SparseWeight):
            now, index = now.clone(), weight.index.cpu()
            now.view(-1)[index] = old.view(-1)[index]
        if not torch.equal(bits(now), bits(old)):
            moved[name] = parameter.detach()
    return moved


def _save(
    leaf: str, first: bool, module: nn.Module, state: dict[str, Any], prefix: str, _: Any
) -> None:
    beside, stack = f"{prefix}parametrizations.{leaf}", stack_of(module, leaf)
    assert stack is not None
    found = stack[0]
    if isinstance(found, SparseWeight):
        found.write(stored(stack))
        state[prefix + leaf] = state.pop(f"{beside}.original")
    else:
        training = stack.training
        with torch.no_grad():
            state[prefix + leaf] = stack.eval()().clone()
        stack.train(training)
    if not first:
        for key in [key for key in state if key.startswith(f"{beside}.")]:
            del state[key]


def _load(
    leaf: str, first: bool, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any
) -> None:
    *_, errors = rest
    beside, stack = f"{prefix}parametrizations.{leaf}", stack_of(module, leaf)
    assert stack is not None
    plain = state.pop(prefix + leaf, None)
    own = stack.state_dict(prefix=f"{beside}.")
    if first:
        found = stack[0]
        assert isinstance(found, Parametrization)
        positions = [f"{beside}.0.{name}" for name in found.positions]
        problem = _mismatch(own, state, plain is not None, positions)
        if plain is not None:
            state.setdefault(f"{beside}.original", plain)
        if problem is None:
            return
        errors.append(f"{prefix}{leaf}: {problem}")
    # The tensor keeps what it has: the first holder has loaded it, or it is refused.
    state.update(own)


def _mismatch(
    own: Mapping[str, Any], state: Mapping[str, Any], plain: bool, positions: Sequence[str]
) -> str | None:
    """Why the part of a state that belongs to a parametrized tensor is not loaded, if it is not."""
    if plain and not {key for key in own if not key.endswith(_ORIGINAL)} <= state.keys():
        return "the state is of a model in which this tensor has not been edited; load it before"
    for key in positions:
        if key not in own or key not in state:
            continue
        if not torch.equal(own[key], state[key].to(own[key].device)):
            return (
                f"the state trains {state[key].numel():,} entries, the model {own[key].numel():,}, "
                "and they are not the same; attach the method with the same settings"
            )
    return None


def _refuse_pickle(module: nn.Module) -> None:
    raise InputError(
        "a model with trained entries cannot be pickled; save its state_dict(), or turn it into a "
        "plain model first with surgery.fold"
    )
