"""What a model was before its training: k values for k chosen entries, a copy of all else."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.bits import bits, differing, flat, form
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Parametrization, SparseWeight, first_of, stack_of
from jiant_sparse.tuning.places import Index, Patch, read, stored, write
from jiant_sparse.tuning.scope import View


class Origin:
    """The values that a model had when a method was attached. Made right after `attach`.

    names: of the model's tensors before the edits. view: what the method has. head: the names of
    what trains whole beside it.
    values: what may move: tensor name -> (positions or None for all, first values).
    added: names of the parameters that the method has added to the model.
    """

    def __init__(self, names: Iterable[str], view: View, head: Iterable[str]) -> None:
        self.model, self.names, self.head = view.model, [*names], {*head}
        self.values: dict[str, tuple[Index, Tensor]] = {}
        for name in self.names:
            tensor, edit = stored(self.model, name), self.edit(name)
            if isinstance(edit, SparseWeight):
                self.values[name] = edit.index, edit.values.detach().clone()
            elif edit or tensor.requires_grad or not isinstance(tensor, nn.Parameter):
                self.values[name] = None, tensor.detach().to("cpu", copy=True)
        known = {*self.names}
        self.added = [
            name
            for name, _ in view.named_parameters()
            if name not in known and "parametrizations" not in name.split(".")
        ]

    def edit(self, name: str) -> Parametrization | None:
        """The form in which a tensor trains; None for a plain one."""
        path, _, leaf = name.rpartition(".")
        return first_of(stack_of(self.model.get_submodule(path), leaf))

    @property
    def whole(self) -> list[str]:
        """The tensors under the method of which more than chosen entries can move."""
        return [
            name
            for name, (index, _) in self.values.items()
            if index is None
            and name not in self.head
            and isinstance(stored(self.model, name), nn.Parameter)
        ]

    def base(self, name: str) -> Tensor:
        """The tensor as it was; a copy, or the model's own. Raises InputError for another dtype."""
        tensor = stored(self.model, name).detach()
        index, old = self.values.get(name, (None, tensor))
        if tensor.dtype != old.dtype:
            raise InputError(
                f"{name} is {form(tensor)}, but {old.dtype} when the method was attached; convert "
                "a model before"
            )
        if index is None:
            return old
        tensor = tensor.clone()
        write(tensor, index, old)
        return tensor

    def digests(self) -> dict[str, str]:
        """The digest of every tensor of the base model but the head's."""
        found: dict[str, str] = {}
        for name in self.names:  # one by one: a copy of one tensor at a time
            if name not in self.head:
                found |= delta.fingerprint({name: self.base(name)})
        return found

    @torch.no_grad()
    def trained(self) -> delta.Delta:
        """What has changed: chosen entries, all that differ of other tensors, head and additions.

        Values are those of evaluation.
        """
        entries: dict[str, tuple[Tensor, Tensor]] = {}
        new = {name: read(self.model.get_parameter(name), None).cpu() for name in self.added}
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
        """Write the first values into a model that is plain again."""
        for name, (index, old) in self.values.items():
            write(stored(self.model, name), index, old)

    def hidden(self) -> Patch:
        """Let the attached model compute what the base model computes, until `undo`."""
        tensors: dict[str, Tensor] = {}
        values: dict[str, Tensor] = {}
        for name, (index, old) in self.values.items():
            edit = self.edit(name)
            if isinstance(edit, Gated):
                tensors[name], values[name] = edit.difference, torch.zeros_like(edit.difference)
                continue
            if isinstance(edit, SparseWeight):
                first = read(old, edit.index) if index is None else old
                tensors[f"{name} entries"], values[f"{name} entries"] = edit.values, first
            if index is None:
                tensors[name], values[name] = stored(self.model, name), old
        for name in self.added:
            if name.endswith(".lora_B"):
                tensors[name] = self.model.get_parameter(name)
                values[name] = torch.zeros_like(tensors[name])
        return Patch(tensors.__getitem__, {name: (None, value) for name, value in values.items()})

    def check_state(self, state: Mapping[str, Tensor], prefix: str) -> None:
        """Raise InputError for a state dict whose frozen values are of another base model.

        prefix: of the model's names in the state.
        """
        for name in self.names:
            index, old = self.values.get(name, (torch.empty(0, dtype=torch.int64), None))
            given = state.get(prefix + name)
            if index is None or given is None:
                continue
            given = given.detach().contiguous().clone()
            if old is not None:
                write(given, index, old)
            now = self.base(name).cpu()
            if form(given) == form(now) and not torch.equal(bits(flat(given)), bits(flat(now))):
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
