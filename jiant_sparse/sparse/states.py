"""State dicts of edited modules: weights under their own names, and what trains beside them.

torch names a parametrized tensor `parametrizations.weight.original`. Saved under that name a model
loads elsewhere as random weights, with no more than a warning. Here `weight` is what the module
computes with when it is evaluated, so that every copy of the state, that of `save_pretrained` too,
holds the tuned model. What the edit keeps (values, index, gates) stands beside it under torch's
names, and a state of other entries than those that train is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.edits import Entries


def name_plainly(module: nn.Module, leaf: str, *, first: bool) -> None:
    """Let the state dict of a module hold its edited tensor `leaf` under the tensor's own name.

    first: whether the module is the first that holds the tensor; tied to others, it alone has what
    the edit keeps. The module can no longer be pickled.
    """
    module.register_state_dict_post_hook(partial(_save, leaf, first))
    module.register_load_state_dict_pre_hook(partial(_load, leaf, first))
    type(module).__getstate__ = _refuse_pickle


def name_low_rank(layer: nn.Module, merged: Callable[[nn.Module], Tensor]) -> None:
    """Let the state dict of a layer with a low-rank update hold the merged weight as `weight`.

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


def forget(module: nn.Module, leaf: str) -> None:
    """Take the hooks of `name_plainly` out."""
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key, hook in [*hooks.items()]:
            call = getattr(hook, "hook", hook)  # torch wraps the hooks of loading
            if isinstance(call, partial) and call.func in (_save, _load) and call.args[0] == leaf:
                del hooks[key]


def _save(
    leaf: str, first: bool, module: nn.Module, state: dict[str, Any], prefix: str, _: Any
) -> None:
    beside, stack = f"{prefix}parametrizations.{leaf}", module.parametrizations[leaf]
    if isinstance(stack[0], Entries):
        stack[0].write(stack.original)
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
    beside, stack = f"{prefix}parametrizations.{leaf}", module.parametrizations[leaf]
    plain = state.pop(prefix + leaf, None)
    own = stack.state_dict(prefix=f"{beside}.")
    if first:
        problem = _mismatch(
            own, state, plain is not None, [f"{beside}.0.{p}" for p in stack[0].positions]
        )
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
    """Why the part of a state that belongs to an edited tensor is not loaded."""
    if plain and not {key for key in own if not key.endswith(".original")} <= state.keys():
        return "the state is of a model in which this tensor has not been edited; load it before"
    for key in positions:
        if (
            key in own
            and key in state
            and not torch.equal(own[key], state[key].to(own[key].device))
        ):
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
