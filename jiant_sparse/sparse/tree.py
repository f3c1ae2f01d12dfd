"""Tensors of a module tree by their first names, plain or edited."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.edits import Edit


def find(
    encoder: nn.Module, name: str, allow: type[Edit] | None = None
) -> tuple[nn.Module, str, nn.Parameter]:
    """The module that owns tensor `name`, the tensor's own name there, and the stored tensor.

    allow: the kind of edit that the tensor may have already.
    """
    path, _, leaf = name.rpartition(".")
    try:
        module = encoder.get_submodule(path)
    except AttributeError:
        module = None
    dense = module._parameters.get(leaf) if module is not None else None
    if dense is not None:
        return module, leaf, dense
    if module is not None and parametrize.is_parametrized(module, leaf):
        stack = module.parametrizations[leaf]
        if allow is not None and isinstance(stack[0], allow):
            return module, leaf, stack.original
        raise InputError(f"{name}: this tensor has been given a parametrization already")
    raise InputError(f"{name}: the encoder has no such weight tensor")


def holders(encoder: nn.Module, dense: Tensor) -> list[tuple[nn.Module, str]]:
    """Every module that holds the stored tensor, plain or edited, and the tensor's name there.

    More than one for tied weights.
    """
    found = []
    for module in encoder.modules():
        found += [(module, leaf) for leaf, p in module._parameters.items() if p is dense]
        if parametrize.is_parametrized(module):
            stacks = module.parametrizations.items()
            found += [(module, leaf) for leaf, stack in stacks if stack.original is dense]
    return [(m, leaf) for m, leaf in found if not isinstance(m, parametrize.ParametrizationList)]


def check_entries(encoder: nn.Module, name: str, dense: Tensor, index: Tensor) -> None:
    """Raise InputError unless entries of a stored tensor, at the positions `index`, can train."""
    for module, _ in holders(encoder, dense):
        if getattr(module, "max_norm", None) is not None:
            raise InputError(
                f"{name}: the embedding has max_norm {module.max_norm}, which rewrites weights as "
                "they are looked up, so that frozen ones would change; it must be None"
            )
    if not dense.is_contiguous():
        raise InputError(f"{name}: entries of a non-contiguous tensor cannot be trained")
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
