"""A delta on disk: how many bytes it takes, and how long it takes to write, read and apply it.

Beside it the full checkpoint, a safetensors file. Both are written atomically and synced, and read
into memory of their own; files just written come from the system's cache, not from the disk.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jiant_sparse.bench import measure
from jiant_sparse.bench.models import rng
from jiant_sparse.files import replacing
from jiant_sparse.host import model
from jiant_sparse.sparse import delta, index_codes, selection
from jiant_sparse.sparse.delta import Delta
from jiant_sparse.sparse.rounding import ROUNDINGS


def run(shape: Path, *, density: float, repeats: int) -> Iterator[dict[str, Any]]:
    """One row per contender: milliseconds, bytes of its file, their ratio to the checkpoint's.

    shape: a model's directory or config file; the weights are random float32. density: fraction of
    them that changed, drawn uniformly; there are no new tensors. Base and delta are in memory when
    a clock starts, and torch uses all threads it may.
    Raises InputError for a density outside (0, 1] and a shape that transformers cannot build.
    """
    base = _weights(shape)
    found = _delta(base, density)
    with tempfile.TemporaryDirectory() as directory:
        contenders = _contenders(base, found, Path(directory))
        calls = {name: call for name, (_, call) in contenders.items()}
        numbers = measure.numbers(measure.alternate(calls, repeats))
        sizes = {name: file.stat().st_size for name, (file, _) in contenders.items()}
    shared = {
        "tensors": len(base),
        "weights": sum(map(torch.numel, base.values())),
        "density": density,
        "changed": delta.changed(found),
        "index_bytes_per_entry": round(_index_bytes(found) / delta.changed(found), 3),
    }
    for name, size in sizes.items():
        yield {
            "bench": "delta",
            "contender": name,
            **shared,
            **numbers[name],
            "bytes": size,
            "ratio_to_checkpoint": round(size / sizes["checkpoint_save"], 6),
        }


def _weights(shape: Path) -> dict[str, Tensor]:
    generator = rng("weights")
    return {
        name: torch.randn(parameter.shape, generator=generator).mul_(0.02)
        for name, parameter in model.empty_encoder(shape).named_parameters()
    }


def _delta(base: Mapping[str, Tensor], density: float) -> Delta:
    sizes = {name: weight.numel() for name, weight in base.items()}
    tuned = {name: weight.clone() for name, weight in base.items()}
    for name, index in selection.uniform(sizes, density, rng).items():
        tuned[name].view(-1)[index] += 1.0
    return delta.extract(base, tuned)


def _contenders(
    base: Mapping[str, Tensor], found: Delta, directory: Path
) -> dict[str, tuple[Path, Callable[[], object]]]:
    """Contender -> its file, and what writes, reads or applies it. Writers come first."""
    file, checkpoint = directory / "delta.safetensors", directory / "model.safetensors"
    lossy = {name: directory / f"{name}.safetensors" for name in ROUNDINGS}

    def save_checkpoint() -> None:
        with replacing(checkpoint) as temporary:
            save_file(dict(base), temporary)

    def saver(saved: Delta, path: Path) -> Callable[[], object]:
        return lambda: delta.save(saved, path)

    return {
        "save": (file, saver(found, file)),
        **{f"save_{n}": (path, saver(delta.rounded(found, n), path)) for n, path in lossy.items()},
        "checkpoint_save": (checkpoint, save_checkpoint),
        "load": (file, lambda: delta.load(file)),
        "apply": (file, lambda: delta.apply(found, base)),
        "load_and_apply": (file, lambda: delta.apply(delta.load(file), base)),
        # Clones: a tensor that is only mapped has not been read.
        "checkpoint_load": (
            checkpoint,
            lambda: {name: tensor.clone() for name, tensor in load_file(checkpoint).items()},
        ),
    }


def _index_bytes(found: Delta) -> int:
    stored = (index_codes.encode(index)[1] for index, _ in found.entries.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in stored)
