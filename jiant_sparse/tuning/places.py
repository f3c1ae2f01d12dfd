"""Find a model's tensors by the names that they had before a method, and write values into them."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import tree
from jiant_sparse.sparse.bits import bits
from jiant_sparse.sparse.parametrizations import Parametrization
from jiant_sparse.tuning.scope import join

Index = Tensor | None
"""Flat positions in a tensor, (k,) int64; None for all of them."""
Writes = Mapping[str, tuple[Index, Tensor]]
"""Tensor name -> positions, and the values there: (k,), or of the tensor's shape."""


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, once, and every buffer that is saved, by name, of an unedited model."""
    found: dict[str, Tensor] = dict(model.named_parameters())
    for path, module in model.named_modules():
        for leaf, buffer in module.named_buffers(recurse=False):
            if leaf not in module._non_persistent_buffers_set:
                found[join(path, leaf)] = buffer
    return found


def stored(model: nn.Module, name: str) -> Tensor:
    """The tensor that is stored under a name that it had before any edit."""
    path, _, leaf = name.rpartition(".")
    buffer = model.get_submodule(path)._buffers.get(leaf)
    return tree.find(model, name, allow=Parametrization)[2] if buffer is None else buffer


def read(tensor: Tensor, index: Index) -> Tensor:
    """A copy of the values at flat positions of a contiguous tensor, or of the whole tensor."""
    if index is None:
        return tensor.detach().clone()
    return tensor.detach().view(-1)[index.to(tensor.device)]


@torch.no_grad()
def write(tensor: Tensor, index: Index, values: Tensor) -> None:
    """Write values where `read` would read them, on the tensor's device and in its dtype."""
    if index is None:
        tensor.copy_(values)
    else:
        tensor.view(-1).index_copy_(0, index.to(tensor.device), values.to(tensor))


class Patch:
    """Values written over a model's own, which are kept and written back by `undo`.

    find: gives the tensor of a name. Everything takes time in proportion to the number of values.
    """

    def __init__(self, find: Callable[[str], Tensor], writes: Writes) -> None:
        self.find, self.writes = find, writes
        for name in writes:
            tree.check_contiguous(name, find(name))
        self.own = {name: (index, read(find(name), index)) for name, (index, _) in writes.items()}
        self.redo()

    def redo(self) -> None:
        """Write the values, as at first, after `undo`."""
        for name, (index, values) in self.writes.items():
            write(self.find(name), index, values)

    def undo(self) -> None:
        """Write the model's own values back.

        Raises InputError, and writes nothing, if a value is not what was written.
        """
        for name, (index, values) in self.writes.items():
            now = read(self.find(name), index)
            if not torch.equal(bits(now), bits(values.to(now))):
                raise InputError(
                    f"{name} has been changed while a delta was on or off, so that the base "
                    "model's values are not known any more; load them into a fresh base model"
                )
        for name, (index, values) in self.own.items():
            write(self.find(name), index, values)
