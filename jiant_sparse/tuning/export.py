"""Export: what training changed, in the files of others: PEFT, serving engines, transformers."""

import json
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import nn

from jiant_sparse import files
from jiant_sparse.errors import InputError, shown
from jiant_sparse.sparse import tree
from jiant_sparse.sparse.bits import flat, form
from jiant_sparse.sparse.delta import Delta
from jiant_sparse.tuning.origin import Writes, read, stored, write
from jiant_sparse.tuning.peft_files import CONFIG, KINDS, PREFIX, WEIGHTS
from jiant_sparse.tuning.saving import revision
from jiant_sparse.tuning.scope import join

Format = Literal["peft", "patch", "full"]
PATCH = "patch.safetensors"
_PATCH = {"jiant_sparse.patch": "1"}  # the header, with the layout's version
_LARGEST = 2**31  # int32 counts up to it


def export(directory: Path, format: str, base: Any, found: Delta, writes: Writes) -> None:
    """Write a delta in another format into a new directory, all or nothing.

    base: plain, with its own values; "full" writes the tuned ones into it. writes: those values.
    Raises InputError, before anything is written, for what does not fit.
    """
    if format not in (known := get_args(Format)):
        raise InputError(f"format is {shown(format)}; it must be {' or '.join(known)}")
    if os.path.lexists(directory):
        raise InputError(f"{directory}: is there already; an export makes a new directory")
    files.check_directory(directory)
    if format == "full" and not hasattr(base, "save_pretrained"):
        raise InputError(f"format is 'full', but {type(base).__name__} has no save_pretrained")
    save = {"peft": _adapter, "patch": _patch, "full": _full}[format](base, found, writes)
    with files.making(directory) as made:
        save(made)


def _full(base: Any, found: Delta, writes: Writes) -> Callable[[Path], Any]:
    for name, (index, values) in writes.items():
        write(stored(base, name), index, values)
    return base.save_pretrained


def _patch(base: Any, found: Delta, writes: Writes) -> Callable[[Path], Any]:
    state = {}
    for name, (index, values) in writes.items():
        tensor = stored(base, name)
        if index is not None and tensor.numel() > _LARGEST:
            raise InputError(f"{name} is {form(tensor)}; a patch has int32 positions")
        if index is not None:
            state[f"{name}.index"] = index.int()
        state[f"{name}.value"] = flat(values).clone()
        state[f"{name}.shape"] = torch.tensor(tensor.shape, dtype=torch.int64)
    return lambda made: save_file(state, made / PATCH, metadata=_PATCH)


def _adapter(base: Any, found: Delta, writes: Writes) -> Callable[[Path], Any]:
    layers = {name.rpartition(".")[0]: name for name in found.entries}
    heads = {name.rpartition(".")[0] for name in found.new}
    heads = {path for path in heads if not any(path.startswith(f"{top}.") for top in heads)}
    counts = [(i.numel(), stored(base, name).numel()) for name, (i, _) in found.entries.items()]
    sparsity = _sparsity(counts) if counts else 0.0
    problems = [*_misfits(base, found), *_ambiguous(base, layers, heads)]
    if any(int(size * (1 - sparsity)) != count for count, size in counts):
        parts = [count / size for count, size in counts]
        problems.append(
            f"from {min(parts):.3g} to {max(parts):.3g} of a layer's weights have been chosen, and "
            "PEFT has one density for all layers, as methods with scope='per_tensor' have"
        )
    if problems or not counts:
        problems = problems or ["no weight of a linear layer has changed"]
        raise InputError(*(f"PEFT's Super-Tuning cannot hold this: {p}" for p in problems))
    value_end, index_end = KINDS["SUPERTUNING"]
    state = {f"{PREFIX}{name}": value.contiguous() for name, value in found.new.items()}
    for path, name in layers.items():
        index, values = found.entries[name]
        difference = values.double() - read(stored(base, name), index).cpu().double()
        state[f"{PREFIX}{path}{value_end}"] = difference.float()
        state[f"{PREFIX}{path}{index_end}"] = index.int()
    known, kind = getattr(base, "config", None), type(base)
    settings = {
        "peft_type": "SUPERTUNING",
        "auto_mapping": {"base_model_class": kind.__name__, "parent_library": kind.__module__},
        "base_model_name_or_path": getattr(known, "name_or_path", None) or None,
        "revision": revision(base),
        "inference_mode": True,
        "target_modules": sorted(layers),
        "modules_to_save": sorted(heads) or None,
        "sparsity": sparsity,
    }

    def save(made: Path) -> None:
        save_file(state, made / WEIGHTS, metadata={"format": "pt"})
        files.write_text(made / CONFIG, json.dumps(settings, indent=2) + "\n")

    return save


def _misfits(base: nn.Module, found: Delta) -> Iterator[str]:
    """What is no chosen entries of a linear layer's own weight, and no module saved whole."""
    holders, saved = tree.holders(base), {*found.new}
    modules = [module for _, module in base.named_modules(remove_duplicate=False)]
    for name, (_, values) in found.entries.items():
        path, _, leaf = name.rpartition(".")
        module, tensor = base.get_submodule(path), stored(base, name)
        if not path or leaf != "weight" or not isinstance(module, nn.Linear):
            yield f"{name} is no weight of a linear layer ({type(module).__name__})"
        elif len(holders[tensor]) > 1 or modules.count(module) > 1:
            yield f"{name} is tied, and PEFT would change one layer alone"
        elif values.element_size() > 4 or tensor.numel() > _LARGEST:
            yield f"{name} is {form(tensor)}; PEFT has float32 values and int32 positions"
    for name in found.new:
        path = name.rpartition(".")[0]
        if name.endswith((".lora_A", ".lora_B")):
            yield f"{name} is a low-rank update"
        elif not path or len(holders.get(stored(base, name), ())) > 1:
            yield f"{name} trained whole, but is tied, or in no module that PEFT could save"
        elif rest := {join(path, n) for n in base.get_submodule(path).state_dict()} - saved:
            yield f"{path} is saved whole by PEFT, but {min(rest)} has not trained"


def _ambiguous(base: nn.Module, layers: Any, heads: Any) -> Iterator[str]:
    """PEFT finds modules by the ends of their names; of a layer's, with a dot before."""
    for other, _ in base.named_modules(remove_duplicate=False):
        for own, dot in ((layers, "."), (heads, "")):
            for path in own:
                if path and other not in own and other.endswith(dot + path):
                    yield f"PEFT would take {other} for {path}, the end of its name"


def _sparsity(counts: list[tuple[int, int]]) -> float:
    """The one for which int(size * (1 - sparsity)), PEFT's formula, gives each count, if any does.

    >>> _sparsity([(2, 8), (4, 16)])
    0.71875
    """
    low = max(Fraction(count, size) for count, size in counts)
    high = min(Fraction(1), *(Fraction(count + 1, size) for count, size in counts))
    return float(1 - (low + high) / 2)
