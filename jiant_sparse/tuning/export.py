"""Export: what training changed, in the files of others: PEFT, serving engines, transformers."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jiant_sparse import files
from jiant_sparse.errors import InputError, shown
from jiant_sparse.sparse import tree
from jiant_sparse.sparse.bits import flat, form
from jiant_sparse.sparse.delta import Delta
from jiant_sparse.tuning.origin import Writes, stored
from jiant_sparse.tuning.peft_files import CONFIG, KINDS, PREFIX, WEIGHTS
from jiant_sparse.tuning.scope import join

Format = Literal["peft", "patch", "full"]
PATCH = "patch.safetensors"
_PATCH = {"jiant_sparse.patch": "1"}  # the header, with the layout's version
_LARGEST = 2**31  # int32 counts up to it

Write = Callable[[Path], object]
"""Writes prepared files into a directory."""


def check(directory: Path, format: str, model: nn.Module) -> None:
    """Raise InputError for an unknown format, and for a directory that is there already."""
    if format not in (known := get_args(Format)):
        raise InputError(f"format is {shown(format)}; it must be {' or '.join(known)}")
    if os.path.lexists(directory):
        raise InputError(f"{directory}: is there already; an export makes a new directory")
    files.check_directory(directory)
    if format == "full" and not hasattr(model, "save_pretrained"):
        kind = type(model).__name__
        raise InputError(
            f"format is 'full', but {kind} has no save_pretrained; use merge_and_unload"
        )


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """A temporary directory that becomes `directory` at the end of the block, whole and synced."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(".partial", f".{directory.name}.", directory.parent) as outer:
        made = Path(outer) / directory.name
        made.mkdir()
        yield made
        for path in made.iterdir():
            files.make_readable(path)
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        os.rename(made, directory)
    files.sync_directory(directory.parent)


def patch(model: nn.Module, writes: Writes) -> Write:
    """Prepare a patch, `patch.safetensors`: final values to write over the base model's tensors.

    For each tensor NAME that changed there are `NAME.shape`, int64, the tensor's full shape;
    `NAME.index`, (k,) int32, ascending positions in the flat tensor; and `NAME.value`, (k,) in the
    tensor's dtype. A tensor that trained whole has no index, and all of its values.
    Raises InputError for a tensor that is too large for int32.
    """
    state = {}
    for name, (index, values) in writes.items():
        shape = stored(model, name).shape
        if index is not None and shape.numel() > _LARGEST:
            raise InputError(f"{name} has {shape.numel():,} values; int32 counts {_LARGEST:,}")
        if index is not None:
            state[f"{name}.index"] = index.cpu().int()
        state[f"{name}.value"] = flat(values).clone()
        state[f"{name}.shape"] = torch.tensor(shape, dtype=torch.int64)
    return lambda directory: save_file(state, directory / PATCH, metadata=_PATCH)


def peft(model: nn.Module, found: Delta, first: Mapping[str, Tensor]) -> Write:
    """Prepare an adapter of PEFT's type Super-Tuning, which adds differences at our positions.

    first: the base's values where the delta has entries. The differences are float32, as PEFT's.
    Raises one InputError that lists all that such an adapter cannot hold.
    """
    paths = {
        path: module
        for path, module in model.named_modules(remove_duplicate=False)
        if "parametrizations" not in path.split(".")
    }
    layers = {name.rpartition(".")[0]: name for name in found.entries}
    heads = {name.rpartition(".")[0] for name in found.new}
    heads = {path for path in heads if not any(path.startswith(f"{top}.") for top in heads)}
    counts = [
        (index.numel(), stored(model, name).numel()) for name, (index, _) in found.entries.items()
    ]
    sparsity = _sparsity(counts) if counts else None
    problems = [
        *_misfits(model, paths, found),
        *(["no weight of a linear layer has changed"] if not counts else []),
        *_unequal(counts, sparsity),
        *_ambiguous(paths, layers, "."),
        *_ambiguous(paths, heads, ""),
    ]
    if problems:
        raise InputError(*(f"PEFT's Super-Tuning cannot hold this: {p}" for p in problems))
    value_end, index_end = KINDS["SUPERTUNING"]
    state = {f"{PREFIX}{name}": value.contiguous() for name, value in found.new.items()}
    for path, name in layers.items():
        index, values = found.entries[name]
        difference = values.double() - first[name].double().cpu()
        state[f"{PREFIX}{path}{value_end}"] = difference.float()
        state[f"{PREFIX}{path}{index_end}"] = index.int()
    known = getattr(model, "config", None)
    settings = {
        "peft_type": "SUPERTUNING",
        "task_type": None,
        "auto_mapping": {
            "base_model_class": type(model).__name__,
            "parent_library": type(model).__module__,
        },
        "base_model_name_or_path": getattr(known, "name_or_path", None) or None,
        "revision": getattr(known, "_commit_hash", None),
        "inference_mode": True,
        "target_modules": sorted(layers),
        "modules_to_save": sorted(heads) or None,
        "sparsity": sparsity,
        "save_precomputed_indices": True,
    }

    def write(directory: Path) -> None:
        save_file(state, directory / WEIGHTS, metadata={"format": "pt"})
        files.write_text(directory / CONFIG, json.dumps(settings, indent=2) + "\n")

    return write


def _misfits(model: nn.Module, paths: Mapping[str, nn.Module], found: Delta) -> Iterator[str]:
    """Each tensor of a delta that is no weight of a linear layer, nor of a module saved whole."""
    holders, modules = tree.holders(model), [*paths.values()]
    for name, (_, values) in found.entries.items():
        path, _, leaf = name.rpartition(".")
        module = paths[path]
        kind, tensor = type(module).__name__.removeprefix("Parametrized"), stored(model, name)
        if not path or leaf != "weight" or not isinstance(module, nn.Linear):
            yield f"{name} is no weight of a linear layer ({kind})"
        elif len(holders[tensor]) > 1 or modules.count(module) > 1:
            yield f"{name} is tied, and PEFT would change one layer alone"
        elif values.element_size() > 4 or tensor.numel() > _LARGEST:
            yield f"{name} is {form(tensor)}; PEFT has float32 values and int32 positions"
    for name in found.new:
        path = name.rpartition(".")[0]
        if name.endswith((".lora_A", ".lora_B")):
            yield f"{name} is a low-rank update"
        elif not path or len(holders[model.get_parameter(name)]) > 1:
            yield f"{name} trained whole, but is tied, or in no module that PEFT could save"
        elif rest := {join(path, key) for key in paths[path].state_dict()} - found.new.keys():
            yield f"{path} is saved whole by PEFT, but {min(rest)} has not trained"


def _sparsity(counts: list[tuple[int, int]]) -> float:
    """The one for which int(size * (1 - sparsity)), PEFT's formula, gives each count, if any does.

    >>> _sparsity([(2, 8), (4, 16)])
    0.71875
    """
    low = max(Fraction(count, size) for count, size in counts)
    high = min(Fraction(1), *(Fraction(count + 1, size) for count, size in counts))
    return float(1 - (low + high) / 2)


def _unequal(counts: list[tuple[int, int]], sparsity: float | None) -> Iterator[str]:
    if sparsity is not None and any(int(n * (1 - sparsity)) != k for k, n in counts):
        parts = [k / n for k, n in counts]
        yield (
            f"from {min(parts):.3g} to {max(parts):.3g} of a layer's weights have been chosen; "
            "PEFT has one density for all layers, as methods with scope='per_tensor' do"
        )


def _ambiguous(paths: Mapping[str, nn.Module], own: Any, dot: str) -> Iterator[str]:
    """PEFT finds modules by the ends of their names, with a dot before a layer's."""
    for path in own:
        for other in paths:
            if path and other not in own and other.endswith(f"{dot}{path}"):
                yield f"PEFT would take {other} for {path}, the end of its name"
