"""What training changed: final values of the changed entries, and new tensors as a whole.

A delta belongs to one base model, whose tensors it knows by their digests. Applied to that base it
gives the tuned tensors bit for bit; any other base is refused.

On disk a delta is a safetensors file with `<param>.index` (in the smallest code of `index_codes`)
and `<param>.value` for each changed tensor, each new tensor under its own name, and a JSON header.
Every tensor and the header itself have a digest. A rounded delta has values of 16 bits.
"""

import hashlib
import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_regular, replacing, system_errors
from jiant_sparse.sparse import index_codes, rounding
from jiant_sparse.sparse.bits import bits, differing, flat, form
from jiant_sparse.sparse.rounding import EXACT, ROUNDINGS

FORMAT_VERSION = 3
_READ = (FORMAT_VERSION, 2)  # headers of version 2 have no digest
_MAPPINGS = ("changed", "codes", "rounded", "base", "meta", "stored")
# One key holds the whole header: safetensors writes several in an order that differs from run to
# run, and equal deltas should be equal files.
_HEADER = "jiant_sparse.delta"
_MOST_BYTES = 2**36  # of a file: 16 billion values of 32 bits


@dataclass(frozen=True)
class Delta:
    """The difference between a base model and a tuned model.

    entries: (index, final values) of each pretrained tensor that changed, by name. An index is (k,)
    int64, ascending flat positions, k >= 1; values are (k,) in the tensor's dtype.
    new: tensors that the base does not have.
    base: digest by name of every tensor of the base, changed or not.
    meta: free text about the run.
    values: "exact", or what the entries' values were rounded to: "bfloat16" or "float16".
    """

    entries: dict[str, tuple[Tensor, Tensor]]
    new: dict[str, Tensor]
    base: dict[str, str]
    meta: dict[str, str]
    values: str = EXACT


def fingerprint(base: Mapping[str, Tensor]) -> dict[str, str]:
    """SHA-256 by name, in hex, over each tensor's dtype, shape and bytes."""
    return {name: _digest(tensor) for name, tensor in base.items()}


def extract(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], meta: Mapping[str, str] | None = None
) -> Delta:
    """The delta from `base` to `tuned`; copies, on the CPU.

    Bits are compared: 0.0 to -0.0 is a change, NaN to the same NaN is none.
    Raises InputError for a base tensor that `tuned` lacks or has in another shape or dtype.

    >>> found = extract({"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([1.0, 3.0])})
    >>> found.entries
    {'w': (tensor([1]), tensor([3.]))}
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
    """The tuned model: copies of the tensors that changed, `base`'s other tensors, new tensors.

    base: the model that the delta was made from, no tensor more or less, on any device.
    Raises InputError that names the first tensor of `base` that differs, or one that is missing.
    """
    tuned = dict(base)
    # As many threads as torch uses: hashing and copying release the GIL.
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        check_base(delta, base, pool.map(_digest, base.values()))
        edited = pool.map(lambda name: _edited(base[name], *delta.entries[name]), delta.entries)
        tuned |= zip(delta.entries, edited, strict=True)
    return tuned | {name: tensor.clone() for name, tensor in delta.new.items()}


def rounded(delta: Delta, values: str) -> Delta:
    """A lossy copy of an exact delta, whose file is smaller: two bytes for each value of an entry.

    values: "bfloat16" (8 significant bits) or "float16" (11, but only from 6e-8 to 65504). The
    values of float32 and float64 entries are rounded and keep their dtype. New tensors stay exact.
    Raises InputError for other `values`, for a delta that is not exact, and for a tensor in which
    a finite value would become infinite.
    """
    if values not in ROUNDINGS:
        raise InputError(f"values are to be {values!r}; they must be one of {', '.join(ROUNDINGS)}")
    if delta.values != EXACT:
        raise InputError(f"values are {delta.values} already; only exact ones can be rounded")
    entries = {}
    for name, (index, exact) in delta.entries.items():
        with _about(f"values of {name}"):
            entries[name] = (index, rounding.rounded(exact, values))
    return replace(delta, entries=entries, values=values)


def changed(delta: Delta) -> int:
    """Number of pretrained entries that differ from the base."""
    return sum(index.numel() for index, _ in delta.entries.values())


def save(delta: Delta, path: Path) -> int:
    """Write the delta to `path`, all or nothing, bit for bit. Returns the file's size in bytes.

    Raises InputError for a delta that `load` would refuse, OSError for a full disk or the like.
    """
    stems = _stems(_checked(delta))
    tensors, codes, dtypes = dict(delta.new), {}, {}
    for name, (index, values) in delta.entries.items():
        codes[name], tensors[f"{stems[name]}.index"] = index_codes.encode(index)
        tensors[f"{stems[name]}.value"] = stored = rounding.encode(values, delta.values)
        if stored.dtype != values.dtype:
            dtypes[name] = str(values.dtype).removeprefix("torch.")
    # safetensors takes neither views of shared memory nor other layouts.
    tensors = {key: flat(tensor).clone().view(tensor.shape) for key, tensor in tensors.items()}
    header: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "values": delta.values,
        "changed": stems,
        "codes": codes,
        "rounded": dtypes,
        "base": delta.base,
        "meta": delta.meta,
        "stored": fingerprint(tensors),
    }
    header["digest"] = header_digest(header)
    with system_errors(path), replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_HEADER: json.dumps(header)})
        return temporary.stat().st_size


def load(path: Path) -> Delta:
    """Read a delta file; header and tensors are checked against their digests.

    Raises InputError, naming the file, for a file that is damaged, incomplete or no delta.
    """
    check_regular(path, _MOST_BYTES)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Clones: a mapped tensor would die with the file.
            stored = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    if _HEADER not in metadata:
        raise InputError(f"{path}: a safetensors file, but not a delta of jiant_sparse")
    with _about(path):
        return _decode(_parse_header(metadata[_HEADER]), stored)


def _parse_header(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        digest = header_digest(header) if isinstance(header, dict) else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header is not JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version not in _READ:
        allowed = " or ".join(map(str, _READ))
        raise InputError(f"format version is {reprlib.repr(version)}; it must be {allowed}")
    if header.get("digest") != (digest if version == FORMAT_VERSION else None):
        raise InputError("the header is damaged: its digest does not match")
    for field in _MAPPINGS:
        got = header.get(field)
        if not isinstance(got, dict) or not all(isinstance(v, str) for v in got.values()):
            got = reprlib.repr(got)
            raise InputError(f"header field {field!r} is {got}; it must map names to texts")
    rounding.check_name(header.get("values"))
    return header


def header_digest(header: Mapping[str, Any]) -> str:
    """SHA-256, in hex, over the canonical JSON of all fields but `digest`."""
    fields = {key: value for key, value in header.items() if key != "digest"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{form(tensor)}\n".encode())
    digest.update(flat(tensor).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_base(delta: Delta, base: Mapping[str, Tensor], digests: Iterable[str]) -> None:
    """Raise InputError as `apply`. digests: of the base's tensors, in their order."""
    for name in delta.base:
        if name not in base:
            raise InputError(f"base lacks {name}, which the delta's base has")
    for name, digest in zip(base, digests, strict=True):
        if name not in delta.base:
            raise InputError(f"base has {name}, which the delta's base has not")
        if digest != delta.base[name]:
            raise InputError(f"base is not the delta's base: {name} is the first tensor to differ")
    for name, (index, values) in delta.entries.items():
        last = int(index[-1])
        if values.dtype != base[name].dtype or last >= base[name].numel():
            got = f"{form(values)} up to position {last}"
            raise InputError(f"delta of {name} is {got}; the base has {form(base[name])}")


def _edited(old: Tensor, index: Tensor, values: Tensor) -> Tensor:
    # As integers: no cast or copy of a float may quieten a NaN. And by NumPy, which asks the system
    # for large pages: half the time that torch takes to copy.
    new = bits(flat(old)).numpy().copy()
    new[index.numpy()] = bits(values).numpy()
    return torch.from_numpy(new).view(old.dtype).view(old.shape).to(old.device)


def _checked(delta: Delta) -> Delta:
    rounding.check_name(delta.values)
    for name, (index, values) in delta.entries.items():
        if name not in delta.base:
            raise InputError(f"the delta changes {name}, which its base does not have")
        if index.dtype != torch.int64 or index.dim() != 1 or index.numel() == 0:
            raise InputError(f"index of {name} is {form(index)}; it must be int64 [k], k >= 1")
        if values.shape != index.shape:
            raise InputError(f"{name} has {form(values)} values for {index.numel()} positions")
        if int(index[0]) < 0 or bool((index[1:] <= index[:-1]).any()):
            raise InputError(f"index of {name} is not ascending from 0 or later")
        if values.is_complex():
            raise InputError(f"values of {name} are {form(values)}; they must be real")
        with _about(f"values of {name}"):
            rounding.check_values(values, delta.values)
    if known := [name for name in delta.new if name in delta.base]:
        raise InputError(f"{known[0]} cannot be new: the delta's base has it")
    for key, text in delta.meta.items():
        if not isinstance(text, str):
            raise InputError(f"meta {key} is {text!r}; it must be text")
    return delta


def _stems(delta: Delta) -> dict[str, str]:
    """The file's key of each changed tensor, without ".index" or ".value".

    It is the tensor's name, with "+" behind while a new tensor or another stem has that key.
    """
    stems: dict[str, str] = {}
    for name in delta.entries:
        stem = name
        while stem in stems.values() or delta.new.keys() & {f"{stem}.index", f"{stem}.value"}:
            stem += "+"
        stems[name] = stem
    return stems


def _decode(header: dict, stored: Mapping[str, Tensor]) -> Delta:
    found = fingerprint(stored)
    for key in header["stored"] | found:
        if found.get(key) != header["stored"].get(key):
            raise InputError(f"{key} is missing, foreign or damaged: its digest does not match")
    new = {key: stored[key] for key in header["stored"]}
    entries = {}
    for name, stem in header["changed"].items():
        try:
            index, values = new.pop(f"{stem}.index"), new.pop(f"{stem}.value")
        except KeyError as error:
            raise InputError(f"{error} is missing, though the header names it") from error
        with _about(f"index of {name}"):
            index = index_codes.decode(header["codes"].get(name), index, values.numel())
        if name in header["rounded"]:
            with _about(f"values of {name}"):
                values = rounding.decode(values, header["values"], header["rounded"][name])
        entries[name] = (index, values)
    return _checked(Delta(entries, new, header["base"], header["meta"], header["values"]))


@contextmanager
def _about(name: object) -> Iterator[None]:
    """Begin the message of an InputError with the name of a file or tensor."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
