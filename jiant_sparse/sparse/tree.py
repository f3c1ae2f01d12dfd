"""Find tensors in a module tree by the names that they had before anything was parametrized."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.parametrizations import Parametrization, stack_of

_HOOKS = "_jiant_sparse_hooks"


def find(
    encoder: nn.Module, name: str, allow: type[Parametrization] | None = None
) -> tuple[nn.Module, str, nn.Parameter]:
    """The module that owns tensor `name`, the tensor's own name there, and the stored tensor.

    allow: the kind of parametrization that the tensor may have.
    Raises InputError if there is no such tensor, or if it is parametrized in another way.
    """
    path, _, leaf = name.rpartition(".")
    try:
        module = encoder.get_submodule(path)
    except AttributeError:
        module = None
    if module is not None:
        plain = dict(own_tensors(module))
        if leaf in plain:
            return module, leaf, plain[leaf]
        stack = stack_of(module, leaf)
        if stack is not None:
            if allow is not None and isinstance(stack[0], allow):
                return module, leaf, stored(stack)
            raise InputError(f"{name}: this tensor has been given a parametrization already")
    raise InputError(f"{name}: the encoder has no such weight tensor")


def holders(encoder: nn.Module) -> dict[Tensor, list[tuple[nn.Module, str]]]:
    """By stored tensor: the modules that hold it, parametrized or not, and its name there.

    Several for tied weights. Edits of the encoder leave it as it is.
    """
    found: dict[Tensor, list[tuple[nn.Module, str]]] = {}
    for module in encoder.modules():
        if isinstance(module, ParametrizationList):
            continue
        stacks = getattr(module, "parametrizations", {}) if is_parametrized(module) else {}
        for leaf, tensor in own_tensors(module) + [(leaf, stored(s)) for leaf, s in stacks.items()]:
            found.setdefault(tensor, []).append((module, leaf))
    return found


def own_tensors(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """A module's own plain parameters by name; one that it holds twice comes twice."""
    return [*module.named_parameters(recurse=False, remove_duplicate=False)]


def stored(stack: ParametrizationList) -> nn.Parameter:
    """The tensor that torch stores in a list of parametrizations."""
    return stack.original  # type: ignore[return-value]  # torch's stubs: Tensor or Module


def check_entries(modules: Iterable[nn.Module], name: str, dense: Tensor, index: Tensor) -> None:
    """Raise InputError unless entries of a stored tensor, at the positions `index`, can train.

    modules: all that hold the tensor.
    """
    for module in modules:
        check_no_max_norm(name, module)
    check_contiguous(name, dense)
    if index.dtype != torch.int64 or index.dim() != 1:
        raise InputError(
            f"{name}: the index has dtype {index.dtype} and shape {tuple(index.shape)}; "
            "it must be a vector of int64"
        )
    if index.numel() and not (
        int(index[0]) >= 0 and int(index[-1]) < dense.numel() and bool((index.diff() > 0).all())
    ):
        raise InputError(
            f"{name}: the index must be strictly increasing within [0, {dense.numel()})"
        )


def check_no_max_norm(name: str, module: nn.Module) -> None:
    """Raise InputError for an embedding that rewrites its weights in the forward pass."""
    if getattr(module, "max_norm", None) is not None:
        raise InputError(
            f"{name}: the embedding has max_norm {module.max_norm}, which rewrites weights as they "
            "are looked up, so that weights that do not train would change; it must be None"
        )


def check_contiguous(name: str, dense: Tensor) -> None:
    """Raise InputError for a tensor whose entries have no flat positions in memory."""
    if not dense.is_contiguous():
        raise InputError(f"{name}: entries of a non-contiguous tensor cannot be trained")


def keep_hooks(module: nn.Module, purpose: str, *handles: Any) -> None:
    """Remember the handles of hooks on the module itself, where a deep copy gets its own."""
    module.__dict__.setdefault(_HOOKS, {}).setdefault(purpose, []).extend(handles)


def remove_hooks(module: nn.Module, purpose: str) -> None:
    """Remove the hooks that were remembered for a purpose."""
    for handle in module.__dict__.get(_HOOKS, {}).pop(purpose, ()):
        handle.remove()
