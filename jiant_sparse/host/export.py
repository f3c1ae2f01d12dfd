"""A delta back into a model directory that transformers loads."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.host.model import VOCABULARY_FILES, ModelSource, resolve
from jiant_sparse.sparse import delta, modules


def export(delta_file: Path, name: str, output_dir: Path, *, fold: bool = False) -> None:
    """Write the model of `name` with a delta applied, as a model directory that transformers loads.

    The task head goes into `head.safetensors`, and the encoder's new tensors (LoRA's A and B,
    adapters) into `added.safetensors`; with `fold` LoRA's go into the weights instead.
    Raises InputError if the directory exists, if the delta belongs to another model, or if there
    is nothing that can be folded.
    """
    if output_dir.exists():
        raise InputError(f"{output_dir}: exists already; give a new directory")
    source = resolve(name)
    found = delta.load(delta_file)
    encoder = transformers.AutoModel.from_pretrained(source.path)
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
            parameter.copy_(tuned.pop(key))
    head = {key.removeprefix("head."): t for key, t in tuned.items() if key.startswith("head.")}
    added = {key: tensor for key, tensor in tuned.items() if not key.startswith("head.")}
    _write(encoder, source, output_dir, {"head": head, "added": added})


def _folded(delta_file: Path, meta: dict[str, str], tuned: dict[str, Tensor]) -> dict[str, Tensor]:
    method = json.loads(meta.get("settings", "{}"))
    if method.get("name") != "lora":
        used = method.get("name", "unknown")
        raise InputError(f"{delta_file}: has nothing that can be folded: its method is {used}")
    return modules.fold_low_rank(tuned, method["alpha"] / method["rank"])


def _write(
    encoder: torch.nn.Module,
    source: ModelSource,
    output_dir: Path,
    beside: dict[str, dict[str, Tensor]],
) -> None:
    """The directory, all or nothing."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output_dir.parent) as temporary:
        made = Path(temporary) / "model"
        encoder.save_pretrained(made)
        for stem, tensors in beside.items():
            if tensors:
                save_file(tensors, made / f"{stem}.safetensors")
        for file in (*VOCABULARY_FILES[encoder.config.model_type], "tokenizer_config.json"):
            if (source.path / file).is_file():
                shutil.copy(source.path / file, made / file)
        made.rename(output_dir)
