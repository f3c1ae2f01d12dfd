"""A delta on disk: how many bytes it takes, and how long it takes to write, read and apply.

Beside it the full checkpoint, a safetensors file. Both are written all or nothing and synced, and
read into memory of their own; files just written come from the system's cache, not from the disk.
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
    """One row per contender: its milliseconds, the bytes of its file, and their ratio to the full
    checkpoint's bytes.

    shape: a model's directory or config file; the weights are random float32. density: fraction of
    them that changed, drawn by chance; there are no new tensors. Base and delta are in memory when
    a clock starts, and as many threads are used as torch may use.
    Raises InputError for a density outside (0, 1] and a shape that transformers cannot build.
    """
    base = _weights(shape)
    found = _delta(base, density)
    with tempfile.TemporaryDirectory() as directory:
        files, calls = _contenders(base, found, Path(directory))
        times = measure.alternate(calls, repeats)
        sizes = {name: files[name].stat().st_size for name in calls}
    shared = {
        "tensors": len(base),
        "weights": sum(map(torch.numel, base.values())),
        "density": density,
        "changed": delta.changed(found),
        "index_bytes_per_entry": round(_index_bytes(found) / delta.changed(found), 3),
    }
    for name in calls:
        yield {
            "bench": "delta",
            "contender": name,
            **shared,
            **measure.summary(times[name]),
            "bytes": sizes[name],
            "ratio_to_checkpoint": round(sizes[name] / sizes["checkpoint_save"], 6),
            "repeats": repeats,
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
) -> tuple[dict[str, Path], dict[str, Callable[[], object]]]:
    """By contender: the file, and what writes, reads or applies it. Writers come first."""
    file, checkpoint = directory / "delta.safetensors", directory / "model.safetensors"
    lossy = {name: delta.rounded(found, name) for name in ROUNDINGS}
    files = {f"save_{name}": directory / f"{name}.safetensors" for name in lossy}

    def save_checkpoint() -> None:
        with replacing(checkpoint) as temporary:
            save_file(dict(base), temporary)

    calls: dict[str, Callable[[], object]] = {"save": lambda: delta.save(found, file)}
    for name in lossy:
        calls[f"save_{name}"] = lambda name=name: delta.save(lossy[name], files[f"save_{name}"])
    calls["checkpoint_save"] = save_checkpoint
    calls["load"] = lambda: delta.load(file)
    calls["apply"] = lambda: delta.apply(found, base)
    calls["load_and_apply"] = lambda: delta.apply(delta.load(file), base)
    # Clones: what is only mapped has not been read.
    calls["checkpoint_load"] = lambda: {k: t.clone() for k, t in load_file(checkpoint).items()}
    files |= dict.fromkeys(("save", "load", "apply", "load_and_apply"), file)
    return files | dict.fromkeys(("checkpoint_save", "checkpoint_load"), checkpoint), calls


def _index_bytes(found: Delta) -> int:
    stored = (index_codes.encode(index)[1] for index, _ in found.entries.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in stored)
