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
# What a colleague needs to use a model, of transformers' configuration.
_TASK = ("num_labels", "id2label", "problem_type", "max_position_embeddings", "vocab_size")

_CARD = """---
base_model: {base}
library_name: jiant_sparse
tags: [sparse-fine-tuning, {method}]
---
# A sparse fine-tuning of {base}

{changed:,} of the base model's values differ ({method}); {new:,} values are new or belong to the
task head. Every other value is the base model's own, bit for bit.

```python
from jiant_sparse import SparseModel

model = SparseModel.from_pretrained(base, "this folder")  # base: the model named above
```
"""


def save(
    directory: Path,
    found: delta.Delta,
    config: SparseConfig,
    model: nn.Module,
    *,
    resume: Mapping[str, Any] | None,
    about: Mapping[str, Any],
) -> None:
    """Write the three files, sparse_config.json last.

    It has the digest of the delta's file, so that a pair of two savings is never read. resume: what
    the method needs beside the delta to train on; None if it needs more than plain values.
    about: what else is to be said, as JSON.
    """
    files.check_directory(directory)
    known = getattr(model, "config", None)
    base = {
        "name": getattr(known, "name_or_path", None) or None,
        "revision": getattr(known, "_commit_hash", None),
        "class": type(model).__name__,
    }
    delta.save(found, directory / DELTA)
    text = _CARD.format(
        base=base["name"] or base["class"],
        method=config.method,
        changed=delta.changed(found),
        new=sum(tensor.numel() for tensor in found.new.values()),
    )
    files.write_text(directory / CARD, text)
    document = {
        "sparse": config.to_dict(),
        "base": base,
        "task": {name: value for name in _TASK if (value := getattr(known, name, None)) is not None},
        "delta": {"file": DELTA, "sha256": files.sha256(directory / DELTA)},
        "resume": resume,
        "about": dict(about),
    }
    files.write_text(directory / FILE, json.dumps(document, indent=2) + "\n")


def load(directory: Path) -> tuple[SparseConfig, delta.Delta, dict[str, Any]]:
    """Read what `save` wrote: settings, delta, and the whole of sparse_config.json.

    Raises InputError for files that are damaged or do not belong together.
    """
    document = read_file(directory)
    config = SparseConfig.from_dict(document.get("sparse"))
    found = delta.load(directory / DELTA)
    about = document.get("delta")
    if not isinstance(about, dict) or about.get("sha256") != files.sha256(directory / DELTA):
        raise InputError(
            f"{directory}: {DELTA} is not the file that {FILE} was written with; save again"
        )
    return config, found, document
