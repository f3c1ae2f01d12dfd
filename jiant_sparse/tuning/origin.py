"""What a model was before training: k values for k chosen entries, a copy of what else moves."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta, tree
from jiant_sparse.sparse.bits import bits, differing, flat, form
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Parametrization, SparseWeight, first_of, stack_of
from jiant_sparse.tuning.scope import View

Writes = Mapping[str, tuple[Tensor | None, Tensor]]
"""Tensor name -> flat positions, (k,) int64, and the values there; or None, and all values."""


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter, once, and every buffer that is saved, by name, of an unedited model."""
    saved = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return dict(model.named_parameters()) | buffers


def stored(model: nn.Module, name: str) -> Tensor:
    """The tensor that is stored under a name that it had before any edit."""
    path, _, leaf = name.rpartition(".")
    buffer = dict(model.get_submodule(path).named_buffers(recurse=False)).get(leaf)
    return tree.find(model, name, allow=Parametrization)[2] if buffer is None else buffer


def read(tensor: Tensor, index: Tensor | None) -> Tensor:
    """A copy of the values at flat positions of a contiguous tensor; None = of all of them."""
    if index is None:
        return tensor.detach().clone()
    return tensor.detach().view(-1)[index.to(tensor.device)]


@torch.no_grad()
def write(tensor: Tensor, index: Tensor | None, values: Tensor) -> None:
    """Write values where `read` reads them, on the tensor's device and in its dtype."""
    if index is None:
        tensor.copy_(values)
    else:
        tensor.view(-1).index_copy_(0, index.to(tensor.device), values.to(tensor))


class Patch:
    """Values written over a model's own, which are kept until `undo` writes them back.

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
        """Write the model's own values back. Raises InputError if others have been written."""
        for name, (index, values) in self.writes.items():
            now = read(self.find(name), index)
            if not torch.equal(bits(now), bits(values.to(now))):
                raise InputError(
                    f"{name} has been changed while a delta was on or off, so that the base's "
                    "values are not known any more; begin with a fresh base model"
                )
        for name, (index, values) in self.own.items():
            write(self.find(name), index, values)


class Origin:
    """The values that a model had when a method was attached. Made right after `attach`.

    names: of the model's tensors before the edits. view: what the method has. head: the names of
    what trains whole beside it.
    values: what can move: positions, None for all, and the first values.
    added: names of the parameters that the method has added to the model.
    """

    def __init__(self, names: Iterable[str], view: View, head: Iterable[str]) -> None:
        self.model, self.names, self.head = view.model, [*names], {*head}
        known = {*self.names}
        self.added = [
            name
            for name, _ in view.named_parameters()
            if name not in known and "parametrizations" not in name.split(".")
        ]
        # `fold` merges an update into the weight beside it.
        beside = {f"{name.rpartition('.')[0]}.weight" for name in self.added}
        self.values: dict[str, tuple[Tensor | None, Tensor]] = {}
        for name in self.names:
            tensor, edit = stored(self.model, name), self.edit(name)
            is_buffer = not isinstance(tensor, nn.Parameter)
            if isinstance(edit, SparseWeight):
                self.values[name] = edit.index, edit.values.detach().clone()
            elif edit or tensor.requires_grad or is_buffer or name in beside:
                self.values[name] = None, tensor.detach().to("cpu", copy=True)

    def edit(self, name: str) -> Parametrization | None:
        """The form in which a tensor trains; None for a plain one."""
        path, _, leaf = name.rpartition(".")
        return first_of(stack_of(self.model.get_submodule(path), leaf))

    @property
    def whole(self) -> list[str]:
        """The parameters that can move as a whole, but for the head's."""
        return self.added + [
            name
            for name, (index, _) in self.values.items()
            if index is None and name not in self.head and self._trains(name)
        ]

    def _trains(self, name: str) -> bool:
        return stored(self.model, name).requires_grad or self.edit(name) is not None

    def digests(self) -> dict[str, str]:
        """The digest of every tensor of the base model but the head's.

        Raises InputError if a tensor has another dtype than it had.
        """
        found: dict[str, str] = {}
        for name in self.names:  # one by one: a copy of one tensor at a time
            if name in self.head:
                continue
            base = stored(self.model, name).detach()
            index, old = self.values.get(name, (None, base))
            if base.dtype != old.dtype:
                raise InputError(
                    f"{name} is {form(base)}, but was {old.dtype} when the method was attached; "
                    "convert a model before"
                )
            if index is not None:
                base = base.clone()
                write(base, index, old)
            found |= delta.fingerprint({name: old if index is None else base})
        return found

    @torch.no_grad()
    def trained(self) -> delta.Delta:
        """The difference to the base model, in evaluation.

        It has chosen entries, moved or not; of other tensors what differs; head and additions.
        """
        entries: dict[str, tuple[Tensor, Tensor]] = {}
        new = {name: self.model.get_parameter(name).detach().cpu().clone() for name in self.added}
        with _evaluating(self.model):
            for name, (index, old) in self.values.items():
                path, _, leaf = name.rpartition(".")
                now = getattr(self.model.get_submodule(path), leaf).detach()
                if name in self.head:
                    new[name] = now.cpu().clone()
                    continue
                found = differing(old, now) if index is None else index.cpu()
                if found.numel():
                    entries[name] = found, flat(now)[found]
        return delta.Delta(entries, new, self.digests(), {})

    def fill(self, found: delta.Delta) -> None:
        """Give a model with the same method, just attached, the values of a delta.

        Raises InputError if other entries train.
        """
        for name, (index, values) in found.entries.items():
            edit = self.edit(name)
            if not isinstance(edit, SparseWeight):
                write(stored(self.model, name), index, values)
            elif torch.equal(edit.index.cpu(), index):
                write(edit.values, None, values)
            else:
                raise InputError(f"{name}: other entries train than those that the delta has")
        for name, value in found.new.items():
            write(self.model.get_parameter(name), None, value)

    def restore(self) -> None:
        """Write the first values into the model when it is plain again."""
        for name, (index, old) in self.values.items():
            write(stored(self.model, name), index, old)

    def hidden(self) -> Patch:
        """Let the attached model compute what the base model computes, until `undo`."""
        places: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (index, old) in self.values.items():
            edit = self.edit(name)
            if isinstance(edit, Gated):
                places[name] = edit.difference, torch.zeros_like(edit.difference)
                continue
            if index is None:
                places[name] = stored(self.model, name), old
            if isinstance(edit, SparseWeight):
                first = read(old, edit.index) if index is None else old
                places[f"{name} entries"] = edit.values, first
        for name in self.added:
            if name.endswith(".lora_B"):
                update = self.model.get_parameter(name)
                places[name] = update, torch.zeros_like(update)
        writes = {name: (None, values) for name, (_, values) in places.items()}
        return Patch(lambda name: places[name][0], writes)

    def check_state(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Raise InputError for a state dict that has other values where nothing trains.

        prefix: of the model's names in the state.
        """
        for name in self.names:
            index, _ = self.values.get(name, (torch.empty(0, dtype=torch.int64), None))
            own, given = stored(self.model, name), state.get(prefix + name)
            if index is None or given is None or form(given) != form(own):
                continue
            if not torch.isin(differing(given, own), index.cpu()).all():
                raise InputError(
                    f"the state is of another base model: {name} is the first tensor to differ "
                    "where nothing trains"
                )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
