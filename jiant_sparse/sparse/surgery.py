"""Edit a module tree: which weights train, and how. No other module does.

Everything here works on the *encoder*: any `torch.nn.Module` all of whose parameters are eligible
for tuning. The task head lies outside of it and is never touched. Names are those of
`encoder.named_parameters()` before the first edit; `fold` brings them back.

>>> encoder = nn.Linear(3, 2)
>>> select(encoder, {"weight": torch.tensor([0, 4])})
>>> [(name, p.numel()) for name, p in encoder.named_parameters() if p.requires_grad]
[('parametrizations.weight.0.values', 2)]
>>> fold(encoder)
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList
from torch.optim import Optimizer

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import importance, layers, modules, moments, states, tree
from jiant_sparse.sparse.claims import claimed, release
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import (
    Parametrization,
    Schedule,
    SparseWeight,
    first_of,
    stack_of,
)

# The name, among a module's attributes, of the order of its tensors before the first edit.
_ORDER = "_jiant_sparse_order"


def eligible(encoder: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight tensor of an unedited encoder by name, in registration order.

    Raises InputError for an encoder that is edited.
    """
    if any(map(first_of, encoder.modules())):
        raise InputError("the encoder is edited already; fold it first, or take a fresh one")
    return dict(encoder.named_parameters())


def freeze(encoder: nn.Module) -> None:
    """Exclude every weight of the encoder from training."""
    encoder.requires_grad_(False)


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Freeze every weight for a while; afterwards the weights that trained before train again."""
    trained = [p for p in encoder.parameters() if p.requires_grad]
    encoder.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def train_entries(encoder: nn.Module, name: str, index: Tensor) -> None:
    """Train only the entries of tensor `name` at the flat positions `index`; freeze its rest.

    index: (k,) int64, strictly increasing, in [0, numel). An empty index freezes the tensor.
    Raises InputError if there is no such tensor, if it is not contiguous or edited already, if an
    embedding's `max_norm` rewrites it, or if the index is not of that form.
    """
    _train_entries(encoder, {name: index})


def train_tensor(encoder: nn.Module, name: str) -> None:
    """Train the whole tensor `name`. Raises InputError if there is none or it is edited already."""
    tree.find(encoder, name)[2].requires_grad_(True)


def edit(encoder: nn.Module, forms: Mapping[str, Parametrization]) -> None:
    """Train tensors in another form, in every module that holds them.

    forms: tensor name -> its form. Raises InputError as `train_tensor`.
    """
    holders = tree.holders(encoder)
    for name, form in forms.items():
        dense = tree.find(encoder, name)[2]
        dense.requires_grad_(form.trains_original)
        first = holders[dense][0][0]
        for module, leaf in holders[dense]:
            module.__dict__.setdefault(_ORDER, [own for own, _ in tree.own_tensors(module)])
            # Unsafe leaves out torch's trial run, which would draw noise and cost a pass over all.
            parametrize.register_parametrization(module, leaf, form, unsafe=True)
            states.name_plainly(module, leaf, first=module is first)
            if isinstance(form, SparseWeight):
                layers.adapt(module)


def select(encoder: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Freeze the encoder and train exactly the chosen entries.

    chosen: tensor name -> index, as in `train_entries`.
    Raises InputError for an empty choice, and as `train_entries`.
    """
    check_choice(encoder, chosen)
    freeze(encoder)
    _train_entries(encoder, chosen)


def check_choice(encoder: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Raise InputError if no entry is chosen: then the fraction to tune was too small."""
    if not any(index.numel() for index in chosen.values()):
        weights = sum(parameter.numel() for parameter in encoder.parameters())
        raise InputError(f"the fraction to tune is too small: no weight of {weights:,} would train")


def narrow(
    encoder: nn.Module,
    chosen: Mapping[str, Tensor],
    optimizer: Optimizer | None = None,
    *,
    keep_moments: bool = True,
) -> None:
    """Restrict training to `chosen`, keeping current values; for methods that choose late.

    chosen: tensor name -> index, for tensors that train whole or through a `Gated`. The unchosen
    entries of a whole tensor keep their present values, those of a gated one their pretrained
    values, for ever.
    optimizer: trains the entries in the place of the tensors from now on; None if there is none.
    keep_moments: whether the optimizer keeps the entries' moments.
    Raises InputError, and edits nothing, for an empty choice, a tensor or an index as `select`.
    """
    check_choice(encoder, chosen)
    _checked(encoder, chosen, allow=Gated)
    holders = tree.holders(encoder)
    places, old, values = {}, {}, {}
    for name, index in chosen.items():
        module, leaf, dense = tree.find(encoder, name, allow=Gated)
        places[name] = place = index.to(dense.device)
        old[name], values[name] = [dense], dense.detach().flatten()[place]
        gated = first_of(stack_of(module, leaf))
        if gated is not None:
            old[name] = list(gated.parameters())
            values[name] = gated.eval()(dense).detach().flatten()[place]
            _remove(holders[dense])
        dense.grad = None
    _train_entries(encoder, chosen)
    for name, place in places.items():
        entries = first_of(stack_of(*tree.find(encoder, name, allow=SparseWeight)[:2]))
        new = None
        if isinstance(entries, SparseWeight):
            new = entries.values
            new.data.copy_(values[name])
        if optimizer is not None:
            moments.replace(optimizer, old[name], new, place if keep_moments else None)


def fold(encoder: nn.Module, *, unchecked: bool = False) -> None:
    """Turn an encoder back into plain modules: trained values under the weights' own names.

    Low-rank updates are merged into the weights that they belong to; nothing of a method stays, and
    every weight of an encoder that had a method trains again.
    unchecked: fold weights although the training loop has not called the method's hooks.
    Raises InputError, and changes nothing, for adapters, which are no change of a weight, and if
    the training loop has never called a hook of the method.
    """
    modules.check_mergeable(encoder)
    held = claimed(encoder)
    if held is not None and not unchecked:
        held.check_hooks()
    settle(encoder)
    modules.merge(encoder)
    if held is not None:
        encoder.requires_grad_(True)  # as before the method


@torch.no_grad()
def settle(encoder: nn.Module) -> None:
    """Turn every edited tensor into its final plain value, as evaluated, under its own name.

    New modules (LoRA, adapters) stay beside the weights as they are.
    """
    importance.forget(encoder)
    release(encoder)
    # By the stored tensor: the modules that hold a tied one have a list each.
    lists = [m for m in encoder.modules() if isinstance(m, ParametrizationList) and first_of(m)]
    holders = tree.holders(encoder)
    for dense, stack in {tree.stored(stack): stack for stack in lists}.items():
        value = stack.eval()()
        _remove(holders[dense])
        dense.copy_(value)


def abandon(encoder: nn.Module) -> None:
    """Undo every edit and let every weight train, as before a method that does not fit."""
    settle(encoder)
    encoder.requires_grad_(True)


def count(encoder: nn.Module, names: Collection[str]) -> tuple[int, int]:
    """(tuned, added): eligible weights that may change, and trained weights of new modules.

    names: the eligible tensors, by their names before the edits. A tensor of which only some
    entries train counts with these entries. What a parametrization keeps beside (gates) does not
    count.
    """
    tuned = added = 0
    for path, module in encoder.named_modules():
        if isinstance(module, Parametrization):
            tuned += module.tuned
        elif first_of(module) is None:
            for leaf, parameter in module.named_parameters(recurse=False):
                trained = parameter.numel() if parameter.requires_grad else 0
                if (f"{path}.{leaf}" if path else leaf) in names:
                    tuned += trained
                else:
                    added += trained
    return tuned, added


def decay_frozen(encoder: nn.Module, factor: float) -> None:
    """Multiply every frozen entry of every matrix by `factor`: the leak of a masked gradient.

    A program that zeroes gradients instead of freezing lets decoupled weight decay go on.
    """
    frozen: set[nn.Parameter] = set()
    for module in encoder.modules():
        if isinstance(first_of(module), Gated):
            continue  # pretrained values that are part of a sum
        frozen |= {p for p in module.parameters(recurse=False) if not p.requires_grad}
    for parameter in frozen:
        if parameter.dim() >= 2:
            # The entries that train are written over these before anything reads them.
            parameter.data.mul_(factor)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Optimizer groups over what trains: matrices decay, vectors do not.

    Vectors are the biases and LayerNorm weights of a transformer; this is the usual rule of full
    tuning, and entries follow the tensor that they come from. A group of parameters with a learning
    rate of their own has the fields of its `Schedule` as `schedule`, and its rate, if any, as `lr`;
    parameters of a constant rate (gates) do not decay.
    """
    groups: dict[tuple[float, Schedule | None], list[Tensor]] = {}
    for is_matrix, own, parameter in _trainable(model):
        constant = own is not None and own.steps is None
        decay = weight_decay if is_matrix and not constant else 0.0
        groups.setdefault((decay, own), []).append(parameter)
    found = []
    for decay, own in sorted(groups, key=lambda key: (key[1] is not None, -key[0])):
        group: dict = {"params": groups[decay, own], "weight_decay": decay}
        if own is not None:
            group["schedule"] = astuple(own)
            if own.rate is not None:
                group["lr"] = own.rate
        found.append(group)
    return found


def _trainable(model: nn.Module) -> Iterator[tuple[bool, Schedule | None, nn.Parameter]]:
    """(whether it is, or belongs to, a matrix; schedule of its own; parameter), each once."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                if isinstance(module, Parametrization):
                    yield module.is_matrix, module.schedule(parameter), parameter
                else:
                    yield parameter.dim() >= 2, None, parameter


def _checked(
    encoder: nn.Module, chosen: Mapping[str, Tensor], allow: type[Parametrization] | None = None
) -> dict[str, Tensor]:
    """The stored tensors. Raises InputError unless these entries can train. allow: of `find`."""
    holders = tree.holders(encoder)
    found: dict[str, Tensor] = {name: tree.find(encoder, name, allow)[2] for name in chosen}
    for name, dense in found.items():
        tree.check_entries([m for m, _ in holders[dense]], name, dense, chosen[name])
    return found


def _train_entries(encoder: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Train the chosen entries of each tensor, and freeze its rest."""
    dense = _checked(encoder, chosen)
    forms = {n: SparseWeight(dense[n], index) for n, index in chosen.items() if index.numel()}
    for name in chosen.keys() - forms.keys():
        dense[name].requires_grad_(False)
    edit(encoder, forms)


def _remove(holders: Iterable[tuple[nn.Module, str]]) -> None:
    """Undo the edit of a stored tensor in the modules that hold it; it stays as it is stored."""
    for module, leaf in holders:
        # A class of its own again: a deep copy shares the original's, from which the tensor goes.
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
        tree.remove_hooks(module, leaf)
        # Back in its place: choices go by the order of the tensors.
        plain = dict(tree.own_tensors(module))
        for name in module.__dict__[_ORDER]:
            if name in plain:
                delattr(module, name)
                module.register_parameter(name, plain[name])
