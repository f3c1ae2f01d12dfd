"""The files of a saved delta: sparse_config.json, delta.safetensors and a model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from jiant_sparse import files
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta, modules
from jiant_sparse.sparse.bits import differing, flat, form
from jiant_sparse.tuning.config import FILE, SparseConfig, read_file
from jiant_sparse.tuning.origin import Writes, stored, tensors

DELTA = "delta.safetensors"
CARD = "README.md"
# What a colleague needs of the configuration of a transformers model.
_TASK = ("num_labels", "id2label", "problem_type", "max_position_embeddings", "vocab_size")
_CARD = """---
base_model: {base}
library_name: jiant_sparse
tags: [sparse-fine-tuning, {method}]
---
# A sparse fine-tuning of {base}

{changed:,} of the base model's values are replaced ({method}), and {new:,} values are new or of a
task head. All others are the base model's, bit for bit.

```python
from jiant_sparse import SparseModel

model = SparseModel.from_pretrained(base, "this folder")  # base: the model named above
```
"""


def save(
    directory: Path, found: delta.Delta, config: SparseConfig, model: nn.Module, **further: Any
) -> None:
    """Write the three files, each atomically, sparse_config.json last.

    It has the digest of the delta's file, so that two savings are never mixed up. further: other
    entries of it, as JSON.
    """
    files.check_directory(directory)
    known = getattr(model, "config", None)
    name, kind = getattr(known, "name_or_path", None) or None, type(model).__name__
    base = {"name": name, "revision": revision(model), "class": kind}
    document = {
        "sparse": config.to_dict(),
        "base": base,
        "task": {key: getattr(known, key) for key in _TASK if hasattr(known, key)},
        **further,
    }
    new = sum(tensor.numel() for tensor in found.new.values())
    card = {"base": name or kind, "method": config.method, "changed": delta.changed(found)}
    json.dumps(document)  # raises before anything is written
    delta.save(found, directory / DELTA)
    files.write_text(directory / CARD, _CARD.format(**card, new=new))
    document["sha256"] = files.sha256(directory / DELTA)
    files.write_text(directory / FILE, json.dumps(document, indent=2) + "\n")


def revision(model: nn.Module) -> str | None:
    """The commit that a transformers model was loaded from; None if it is not known."""
    return getattr(getattr(model, "config", None), "__dict__", {}).get("_commit_hash")


class Loaded(NamedTuple):
    """A delta in memory. document: sparse_config.json. writes: what it writes into its base."""

    config: SparseConfig
    delta: delta.Delta
    document: Mapping[str, Any]
    writes: Writes


def load(directory: Path, model: nn.Module, digests: Mapping[str, str]) -> Loaded:
    """Read what `save` wrote. model: plain. digests: of the model's tensors, by name.

    Raises InputError for files that are damaged or do not belong together, and for another base.
    """
    config, document = read_file(directory)
    found = delta.load(directory / DELTA)
    if document.get("sha256") != files.sha256(directory / DELTA):
        raise InputError(f"{directory}: {FILE} was written with another {DELTA}; save again")
    return loaded(directory, config, found, document, model, digests)


def loaded(
    directory: Path,
    config: SparseConfig,
    found: delta.Delta,
    document: Mapping[str, Any],
    model: nn.Module,
    digests: Mapping[str, str],
) -> Loaded:
    """Check that a delta fits the model, as `load` does. directory: for errors."""
    own = tensors(model)
    base = {name: tensor for name, tensor in own.items() if name not in found.new}
    try:
        delta.check_base(found, base, (digests[name] for name in base))
    except InputError as error:
        made = f"the delta was made from {document.get('base')}"
        raise InputError(f"{directory}: {error}; {made}") from error
    for name, value in found.new.items():
        got = form(own[name]) if name in own else "missing"
        if got != form(value) and not name.endswith((".lora_A", ".lora_B")):
            raise InputError(
                f"{directory}: {name} is {form(value)}; in the model it is {got}: make a model of "
                "the same class and number of labels"
            )
    return Loaded(config, found, document, writes(config, found, model))


def writes(config: SparseConfig, found: delta.Delta, model: nn.Module) -> Writes:
    """What a delta writes into its base; low-rank updates are merged into the base's weights."""
    made: dict[str, Any] = dict(found.entries)
    new = dict(found.new)
    paths = [name.removesuffix(".lora_A") for name in new if name.endswith(".lora_A")]
    weights = {f"{path}.weight": stored(model, f"{path}.weight").detach().cpu() for path in paths}
    if paths:
        method: Any = config.make_method()
        new = modules.fold_low_rank({**weights, **new}, method.alpha / method.rank)
    for name, value in new.items():
        index = differing(weights[name], value) if name in weights else None
        made[name] = index, value if index is None else flat(value)[index]
    return made
