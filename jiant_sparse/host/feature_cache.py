"""Features on disk: made once per model, task, file and length, then read by every cell.

An entry is a sealed file whose stem is a hash of everything that decides the features. It stores
each field of the rows as one column: arrays stacked, in the narrowest integers that hold them,
numbers as a vector, words as positions in a list of words, anything else as JSON. What is read
equals what jiant made, field by field and type by type. Any entry may be removed at any time.

Not Arrow (`datasets`): its cells have one axis, its arrays are read-only, and it turns 1 beside 0.5
into 1.0, so that every column would still need this packing, and the file its digest.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Callable
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jiant.tasks.core import Task
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.files import remove_partial, sha256
from jiant_sparse.host import features, sealed
from jiant_sparse.host.features import Phase
from jiant_sparse.host.model import ModelSource

# Raise it with every change of this format and of what `features.load_phase` makes of an example.
FORMAT_VERSION = 1
_DECIDING = ("jiant", "transformers", "tokenizers")
_INTEGERS = (np.uint8, np.int16, np.int32, np.int64)
_ABANDONED_SECONDS = 86400.0
_LOG = logging.getLogger("jiant_sparse")
_told: set[Path] = set()

Column = list | np.ndarray
"""One field of all rows: (rows,), or (rows, ...) for arrays of one shape."""


def load_phase(
    task: Task,
    path: Path,
    digest: str,
    max_seq_length: int,
    *,
    directory: Path,
    source: ModelSource,
    tools: Callable[[], tuple[Any, Any]],
) -> Phase:
    """`features.load_phase` of the file at `path`, read from the cache in `directory` if possible.

    digest: the file's SHA-256. tools: makes jiant's tokenizer and encoder of `source`; called only
    if there is no entry. A damaged entry and an unusable directory are warnings. Raises InputError
    as `features.load_phase`, and for a file with another digest.
    """
    stem = key(task, digest, max_seq_length, source)
    found = _find(directory, stem, task)
    if found is not None:
        return found
    phase = features.load_phase(task, path, *tools(), max_seq_length)
    if sha256(path) != digest:
        raise InputError(f"{path}: changed since it was checked; start again")
    tensors, meta = pack(phase)
    try:
        remove_partial(directory, older_than=_ABANDONED_SECONDS)
        sealed.write(directory, stem, tensors, meta)
    except OSError as error:
        _warn_once(directory, error)
    # Not `phase`: each of jiant's rows keeps arrays of the longest allowed length alive.
    return unpack(tensors, meta, task)


def key(task: Task, digest: str, max_seq_length: int, source: ModelSource) -> str:
    """The stem of an entry: SHA-256 in hex over everything that decides the features."""
    versions = [importlib.metadata.version(package) for package in _DECIDING]
    parts = [FORMAT_VERSION, versions, source.sha256, task.name, digest, max_seq_length]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def pack(phase: Phase) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A phase as tensors and a JSON value.

    Raises TypeError, or OverflowError for large integers, if `unpack` would not give the same.
    """
    rows = [row["data_row"] for row in phase.rows]
    names = [field.name for field in dataclasses.fields(rows[0])]
    columns = {f"rows.{name}": [getattr(row, name) for row in rows] for name in names}
    tensors: dict[str, Tensor] = {}
    kinds = {}
    for name, column in {**columns, "labels": phase.labels}.items():
        kinds[name], parts = _pack_column(name, column)
        tensors |= {f"{name}{end}": torch.from_numpy(part) for end, part in parts.items()}
    meta = {"row": _name(type(rows[0])), "dropped": phase.dropped, "kinds": kinds}
    return tensors, meta


def unpack(tensors: dict[str, Tensor], meta: dict[str, Any], task: Task) -> Phase:
    """The phase that `pack` was given. The rows' arrays are views of one array per field."""
    known = {_name(known): known for known in type(task).DataRow.__mro__}
    row_class = known[meta["row"]]
    columns = {name: _unpack_column(name, kind, tensors) for name, kind in meta["kinds"].items()}
    labels = columns.pop("labels")
    fields = [columns[f"rows.{field.name}"] for field in dataclasses.fields(row_class)]
    rows = [
        {"data_row": row_class(*values), "metadata": {"example_id": position}}
        for position, values in enumerate(zip(*fields, strict=True))
    ]
    return Phase(rows, labels, dropped=meta["dropped"])


def _find(directory: Path, stem: str, task: Task) -> Phase | None:
    try:
        for path in sealed.found(directory, stem):
            try:
                return unpack(*sealed.read(path), task)
            except sealed.Damaged as error:
                _LOG.warning("%s; it is removed and made anew", error)
                path.unlink(missing_ok=True)
    except OSError as error:
        _warn_once(directory, error)
    return None


def _warn_once(directory: Path, error: OSError) -> None:
    """Warn that the directory is unusable. A cell does not fail for want of a cache."""
    if directory not in _told:
        _told.add(directory)
        _LOG.warning("%s: no use as feature cache, every cell tokenises: %s", directory, error)


def _name(row_class: type) -> str:
    return f"{row_class.__module__}.{row_class.__qualname__}"


def _pack_column(name: str, column: Column) -> tuple[list[str], dict[str, np.ndarray]]:
    """(kind and, for arrays and numbers, dtype; arrays to store by the end of their names)."""
    types = {type(value) for value in column}
    if isinstance(column, np.ndarray):
        return ["array", column.dtype.str], {"": _narrow(column)}
    if types == {np.ndarray} and len({(v.dtype, v.shape) for v in column}) == 1 and column[0].ndim:
        return _pack_column(name, np.stack(column))
    if types in ({int}, {float}):
        vector = np.array(column, np.int64 if types == {int} else np.float64)
        return ["number", vector.dtype.str], {"": _narrow(vector)}
    if types == {list} and all(type(word) is str for word in chain.from_iterable(column)):
        words = sorted(set(chain.from_iterable(column)))
        place = {word: position for position, word in enumerate(words)}
        index = np.array([place[word] for word in chain.from_iterable(column)], dtype=np.int64)
        counts = np.array([len(value) for value in column])
        parts = {".words": _json(words), ".index": _narrow(index), ".counts": _narrow(counts)}
        return ["words"], parts
    text = _json(column)
    # Compared by repr: 1, 1.0, True and NumPy's scalars are equal, but not the same.
    if repr(_value(text)) != repr(column):
        raise TypeError(f"{name}: holds {types}, which do not come back as they were")
    return ["json"], {"": text}


def _unpack_column(name: str, kind: list[str], tensors: dict[str, Tensor]) -> Column:
    if kind[0] == "words":
        words = np.array(_value(tensors[f"{name}.words"].numpy()), dtype=object)
        flat = words[tensors[f"{name}.index"].numpy()].tolist()
        ends = accumulate(tensors[f"{name}.counts"].tolist(), initial=0)
        return [flat[start:end] for start, end in pairwise(ends)]
    stored = tensors[name].numpy()
    if kind[0] == "json":
        return _value(stored)
    array = stored.astype(np.dtype(kind[1]), copy=False)
    return array if kind[0] == "array" else array.tolist()


def _narrow(values: np.ndarray) -> np.ndarray:
    """A contiguous array in the narrowest integers that hold the values; other types unchanged."""
    if values.dtype.kind not in "iu" or not values.size:
        return np.ascontiguousarray(values)
    low, high = int(values.min()), int(values.max())
    fits = (k for k in _INTEGERS if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return np.ascontiguousarray(values, next(fits, values.dtype))


def _json(value: Any) -> np.ndarray:
    """The bytes of `value` as JSON."""
    return np.frombuffer(bytearray(json.dumps(value).encode()), np.uint8)


def _value(text: np.ndarray) -> Any:
    return json.loads(text.tobytes())
