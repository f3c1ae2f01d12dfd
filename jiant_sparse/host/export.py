"""Apply a delta and write a model directory that transformers loads."""

import json
import os
import reprlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.files import making, system_errors
from jiant_sparse.host.model import ModelSource, resolve, seen
from jiant_sparse.host.model_files import TOKENIZER, VOCABULARY, number, whole, wrong
from jiant_sparse.host.weights import is_finite
from jiant_sparse.sparse import delta, modules
from jiant_sparse.sparse.bits import form


def export(delta_file: Path, name: str, output_dir: Path, *, fold: bool = False) -> None:
    """Apply a delta to the model `name` and write the result to a new directory.

    `head.safetensors` gets the task head, `added.safetensors` the encoder's new tensors (LoRA's A
    and B, adapters). fold: add LoRA's product to the weights instead.
    Raises InputError if the directory exists, if the delta belongs to another model, if a weight
    would be NaN or infinite, or if there is nothing to fold; OSError for a full disk.
    """
    if os.path.lexists(output_dir):
        raise InputError(f"{output_dir}: exists already; give a new directory")
    source = resolve(name)
    found = delta.load(delta_file)
    with seen(source.path) as directory:
        encoder = transformers.AutoModel.from_pretrained(directory)
    parameters = dict(encoder.named_parameters())
    base = {key: p.detach() for key, p in parameters.items() if key not in source.initialised}
    try:
        tuned = delta.apply(found, base)
    except InputError as error:
        raise InputError(f"{delta_file}: does not belong to model {name}: {error}") from error
    if fold:
        tuned = _folded(delta_file, found.meta, tuned)
    with torch.no_grad():
        for key, parameter in parameters.items():
            _check(delta_file, tuned, key, parameter.shape)
            if not is_finite(tuned[key]):
                raise InputError(
                    f"{delta_file}: {key} would hold NaN or infinity; every weight must be a number"
                )
            parameter.copy_(tuned.pop(key))
    head = {key.removeprefix("head."): t for key, t in tuned.items() if key.startswith("head.")}
    added = {key: tensor for key, tensor in tuned.items() if not key.startswith("head.")}
    with system_errors(output_dir):
        _write(encoder, source, output_dir, {"head": head, "added": added})


def _folded(
    delta_file: Path, meta: Mapping[str, str], tuned: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    settings = _settings(delta_file, meta)
    if settings.get("name") != "lora":
        used = reprlib.repr(settings.get("name"))
        raise InputError(f"{delta_file}: has nothing that can be folded: its method is {used}")
    fields: dict[str, Any] = {key: settings.get(key) for key in ("rank", "alpha")}
    rules = {"rank": whole(1, 2**14), "alpha": number(1e-30, 1e30)}
    if problems := wrong(f"{delta_file}: meta settings", fields, rules):
        raise InputError(*problems)
    paths = [key.rpartition(".")[0] for key in tuned if key.endswith((".lora_A", ".lora_B"))]
    if not paths:
        raise InputError(f"{delta_file}: has nothing that can be folded: no tensor is a lora_A")
    for path in dict.fromkeys(paths):
        weight = tuned.get(f"{path}.weight")
        if weight is None or weight.dim() != 2:
            got = "missing" if weight is None else form(weight)
            raise InputError(f"{delta_file}: {path}.weight is {got}; LoRA changes matrices only")
        rows, columns = weight.shape
        _check(delta_file, tuned, f"{path}.lora_A", (fields["rank"], columns))
        _check(delta_file, tuned, f"{path}.lora_B", (rows, fields["rank"]))
    return modules.fold_low_rank(tuned, fields["alpha"] / fields["rank"])


def _settings(delta_file: Path, meta: Mapping[str, str]) -> dict[str, Any]:
    """The method's fields, from the delta's metadata."""
    try:
        settings = json.loads(meta.get("settings", "{}"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{delta_file}: meta settings is not JSON: {error}") from error
    if not isinstance(settings, dict):
        got = reprlib.repr(settings)
        raise InputError(f"{delta_file}: meta settings is {got}; it must be an object")
    return settings


def _check(delta_file: Path, tuned: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> None:
    """Raise InputError unless the tensor is present, in float32 and of this shape."""
    got = form(tuned[key]) if key in tuned else "missing"
    if got != (expected := f"float32 {list(shape)}"):
        raise InputError(f"{delta_file}: {key} is {got}; it must be {expected}")


def _write(
    encoder: Any,
    source: ModelSource,
    output_dir: Path,
    beside: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write the directory, atomically."""
    with making(output_dir) as made:
        encoder.save_pretrained(made)
        for stem, tensors in beside.items():
            if tensors:
                save_file(dict(tensors), made / f"{stem}.safetensors")
        for file in (*VOCABULARY[encoder.config.model_type], *TOKENIZER):
            if (source.path / file).exists():
                shutil.copyfile(source.path / file, made / file)
