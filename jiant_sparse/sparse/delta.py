"""What training changed: the final values of the changed entries, and the new tensors whole.

A delta belongs to one base model, whose tensors it knows by their digests. Applied to that base it
gives back the tuned tensors bit for bit; any other base is refused.

On disk a delta is a safetensors file with `<param>.index` (sorted flat positions, or a bit for
each where that is smaller) and `<param>.value` for each changed tensor, each new tensor under its
own name, and a JSON header that says which is which.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.files import replacing
from jiant_sparse.sparse.bits import bits, differing, flat, form

FORMAT_VERSION = 1

# One key holds the whole header: safetensors writes several in an order that differs from run to
# run, and equal deltas should be equal files.
_HEADER = "jiant_sparse.delta"


@dataclass(frozen=True)
class Delta:
    """entries: index and final values by name of the pretrained tensors that changed.
    An index is (k,) int64, ascending flat positions, k >= 1; values are (k,) in the tensor's dtype.
    new: tensors that the base does not have.
    base: digest by name of every tensor of the base, changed or not.
    meta: free text about the run.
    """

    entries: dict[str, tuple[Tensor, Tensor]]
    new: dict[str, Tensor]
    base: dict[str, str]
    meta: dict[str, str]


def fingerprint(base: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 by name, in hex, over each tensor's dtype, shape and bytes."""
    return {name: _digest(tensor) for name, tensor in base.items()}


def extract(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], meta: Mapping[str, str] | None = None
) -> Delta:
    """The delta from `base` to `tuned`; copies, on the CPU.

    Bits are compared: 0.0 to -0.0 is a change, NaN to the same NaN is none.
    Raises InputError for a base tensor that `tuned` lacks or has in another shape or dtype.
    """
    entries = {}
    for name, old in base.items():
        if name not in tuned:
            raise InputError(f"tuned model lacks {name}, which the base has")
        if (got := form(tuned[name])) != form(old):
            raise InputError(f"tuned {name} is {got}; in the base it is {form(old)}")
        index = differing(old, tuned[name])
        if index.numel():
            entries[name] = (index, flat(tuned[name])[index])
    new = {name: tuned[name].detach().cpu().clone() for name in tuned if name not in base}
    return Delta(entries, new, fingerprint(base), dict(meta or {}))


def apply(delta: Delta, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tuned model: copies of the tensors that changed, `base`'s own of the others, the new.

    base: the model that the delta was made from, no tensor more or less, on any device.
    Raises InputError that names the first tensor of `base` that differs, or one that is missing.
    """
    _check_base(delta, base)
    tuned = dict(base)
    for name, (index, values) in delta.entries.items():
        changed = base[name].detach().clone(memory_format=torch.contiguous_format)
        last = int(index[-1])
        if values.dtype != changed.dtype or last >= changed.numel():
            got = f"{form(values)} up to position {last}"
            raise InputError(f"delta of {name} is {got}; the base has {form(changed)}")
        # As integers: no cast or copy of a float may quieten a NaN.
        target = bits(changed.view(-1))
        target[index.to(target.device)] = bits(values).to(target.device)
        tuned[name] = changed
    return tuned | {name: tensor.clone() for name, tensor in delta.new.items()}


def changed(delta: Delta) -> int:
    """Number of pretrained entries that differ from the base."""
    return sum(index.numel() for index, _ in delta.entries.values())


def save(delta: Delta, path: Path) -> int:
    """Write the delta to `path`, all or nothing. Returns the file's size in bytes.

    Raises InputError for a delta that `load` would refuse.
    """
    _check(delta)
    stems = _stems(delta)
    tensors = dict(delta.new)
    for name, (index, values) in delta.entries.items():
        tensors[f"{stems[name]}.index"] = encode_index(index)
        tensors[f"{stems[name]}.value"] = values
    # safetensors takes neither views of shared memory nor other layouts.
    tensors = {key: flat(tensor).clone().view(tensor.shape) for key, tensor in tensors.items()}
    header = {
        "format_version": FORMAT_VERSION,
        "changed": stems,
        "base": delta.base,
        "meta": delta.meta,
        "stored": fingerprint(tensors),
    }
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})
        return temporary.stat().st_size


def load(path: Path) -> Delta:
    """Read a delta, complete and undamaged: every stored tensor is checked against its digest.

    Raises InputError, naming the file, for anything else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Clones: a mapped tensor would die with the file.
            stored = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    if _HEADER not in metadata:
        raise InputError(f"{path}: a safetensors file, but not a delta of jiant_sparse")
    try:
        return _decode(_parse_header(metadata[_HEADER]), stored)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def encode_index(index: Tensor) -> Tensor:
    """An index as it is stored: the smallest of int32, int64 or one bit for each position (uint8).

    Bits, lowest position first, are smaller from one changed entry in 32 on.
    """
    if index.numel() == 0:
        return index
    length = int(index[-1]) + 1
    if length < 32 * index.numel():
        mask = np.zeros(length, dtype=bool)
        mask[index.numpy()] = True
        return torch.from_numpy(np.packbits(mask, bitorder="little"))
    return index.to(torch.int32 if length <= 2**31 else torch.int64)


def decode_index(stored: Tensor) -> Tensor:
    """The index that `encode_index` stored. Raises InputError for another dtype."""
    if stored.dtype == torch.uint8:
        return torch.from_numpy(np.unpackbits(stored.numpy(), bitorder="little").nonzero()[0])
    if stored.dtype not in (torch.int32, torch.int64):
        raise InputError(f"an index is {form(stored)}; it must be int32, int64 or uint8")
    return stored.long()


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{form(tensor)}\n".encode())
    digest.update(flat(tensor).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_base(delta: Delta, base: Mapping[str, Tensor]) -> None:
    for name in delta.base:
        if name not in base:
            raise InputError(f"base lacks {name}, which the delta's base has")
    for name, tensor in base.items():
        if name not in delta.base:
            raise InputError(f"base has {name}, which the delta's base has not")
        if _digest(tensor) != delta.base[name]:
            raise InputError(f"base is not the delta's base: {name} is the first tensor to differ")


def _check(delta: Delta) -> None:
    for name, (index, values) in delta.entries.items():
        if name not in delta.base:
            raise InputError(f"the delta changes {name}, which its base does not have")
        if index.dtype != torch.int64 or index.dim() != 1 or index.numel() == 0:
            raise InputError(f"index of {name} is {form(index)}; it must be int64 [k], k >= 1")
        if values.shape != index.shape:
            raise InputError(f"{name} has {form(values)} values for {index.numel()} positions")
        if int(index[0]) < 0 or bool((index[1:] <= index[:-1]).any()):
            raise InputError(f"index of {name} is not ascending from 0 or later")
    for name in delta.new:
        if name in delta.base:
            raise InputError(f"{name} cannot be new: the delta's base has it")
    for key, text in delta.meta.items():
        if not isinstance(text, str):
            raise InputError(f"meta {key} is {text!r}; it must be text")


def _stems(delta: Delta) -> dict[str, str]:
    """By changed tensor what stands before ".index" and ".value" in the file.

    Its own name, with "+" behind it while a new tensor or another stem is in the way.
    """
    stems = {}
    for name in delta.entries:
        stem = name
        while stem in stems.values() or delta.new.keys() & {f"{stem}.index", f"{stem}.value"}:
            stem += "+"
        stems[name] = stem
    return stems


def _parse_header(text: str) -> dict:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header is not JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise InputError(f"format version is {version!r}; it must be {FORMAT_VERSION}")
    for field in ("changed", "base", "meta", "stored"):
        value = header.get(field)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise InputError(f"header field {field!r} is {value!r:.40}; it must map names to texts")
    return header


def _decode(header: dict, stored: Mapping[str, Tensor]) -> Delta:
    found = fingerprint(stored)
    for key in header["stored"] | found:
        if found.get(key) != header["stored"].get(key):
            raise InputError(f"{key} is missing, foreign or damaged: its digest does not match")
    new = {key: stored[key] for key in header["stored"]}
    try:
        entries = {
            name: (decode_index(new.pop(f"{stem}.index")), new.pop(f"{stem}.value"))
            for name, stem in header["changed"].items()
        }
    except KeyError as error:
        raise InputError(f"{error} is missing, though the header names it") from error
    delta = Delta(entries, new, header["base"], header["meta"])
    _check(delta)
    return delta
