"""The files of a saved delta: sparse_config.json, delta.safetensors and a model card."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from jiant_sparse import files
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta
from jiant_sparse.tuning.config import FILE, SparseConfig, read_file

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
    base = {"name": name, "revision": getattr(known, "_commit_hash", None), "class": kind}
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


def load(directory: Path) -> tuple[SparseConfig, delta.Delta, Mapping[str, Any]]:
    """Read what `save` wrote: settings, delta, and the whole of sparse_config.json.

    Raises InputError for files that are damaged or do not belong together.
    """
    config, document = read_file(directory)
    found = delta.load(directory / DELTA)
    if document.get("sha256") != files.sha256(directory / DELTA):
        raise InputError(f"{directory}: {FILE} was written with another {DELTA}; save again")
    return config, found, document
