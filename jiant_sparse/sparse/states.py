"""State dicts of edited modules: weights under their own names, and what trains beside them.

torch names a parametrized tensor `parametrizations.weight.original`. Saved under that name a model
loads elsewhere as random weights, with no more than a warning. Here `weight` is what the module
computes with when it is evaluated, so that every copy of the state, that of `save_pretrained` too,
holds the tuned model. What the edit keeps (values, index, gates) stands beside it under torch's
names, and a state of other entries than those that train is refused.
"""

from functools import partial
from typing import Any

import torch
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.edits import Entries


def name_plainly(module: nn.Module, leaf: str) -> None:
    """Let the state dict of a module hold its edited tensor `leaf` under the tensor's own name."""
    module.register_state_dict_post_hook(partial(_save, leaf))
    module.register_load_state_dict_pre_hook(partial(_load, leaf))
    type(module).__getstate__ = _refuse_pickle


def forget(module: nn.Module, leaf: str) -> None:
    """Take back what `name_plainly` has done."""
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key, hook in [*hooks.items()]:
            call = getattr(hook, "hook", hook)  # torch wraps the hooks of loading
            if isinstance(call, partial) and call.func in (_save, _load) and call.args == (leaf,):
                del hooks[key]


def _save(leaf: str, module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    stored = f"{prefix}parametrizations.{leaf}.original"
    stack = module.parametrizations[leaf]
    if isinstance(stack[0], Entries):
        stack[0].write(stack.original)
        state[prefix + leaf] = state.pop(stored)
        return
    training = stack.training
    with torch.no_grad():
        state[prefix + leaf] = stack.eval()().clone()
    stack.train(training)


def _load(leaf: str, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    *_, errors = rest
    beside = f"{prefix}parametrizations.{leaf}"
    plain = state.pop(prefix + leaf, None)
    if plain is not None:
        state.setdefault(f"{beside}.original", plain)
    edit = module.parametrizations[leaf][0]
    for name in edit.positions:
        own, theirs = getattr(edit, name), state.get(f"{beside}.0.{name}")
        if own is None or theirs is None or torch.equal(own, theirs.to(own.device)):
            continue
        errors.append(
            f"{prefix}{leaf}: the state trains {theirs.numel():,} entries, the model "
            f"{own.numel():,}, and they are not the same; attach the method with the same settings"
        )
        # Nothing of it is loaded.
        own_state = edit.state_dict(prefix=f"{beside}.0.")
        state.update(own_state, **{f"{beside}.original": module.parametrizations[leaf].original})


def _refuse_pickle(module: nn.Module) -> None:
    raise InputError(
        "a model with trained entries cannot be pickled; save its state_dict(), or turn it into a "
        "plain model first with surgery.fold"
    )
