"""Checkpoints of a cell on disk: the newest two, sealed by their SHA-256, written all or nothing.

A state is a tree of mappings with text keys whose leaves are tensors or JSON values. Nothing is
pickled: tensors lie in a safetensors file, all else in its header.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jiant_sparse.host import sealed
from jiant_sparse.sparse import index_codes

FOLDER = "checkpoint"
KEPT = 2
# Raise it when the same state is written otherwise.
FORMAT_VERSION = 1
_TENSOR, _INDEX = "$tensor", "$index"
_log = logging.getLogger("jiant_sparse")

_IDENTITY = ("settings", "settings_hash", "inputs")
Identity = Mapping[str, Any]
"""What was run: `settings`, their `settings_hash` and `inputs`, as in a record."""


def save(directory: Path, step: int, identity: Identity, state: Mapping[str, Any]) -> Path:
    """Write the state after step `step` of the cell in `directory`; its file.

    Of the former checkpoints the newest stays. Raises OSError, of a full disk too: then all of the
    former ones stay and nothing of the new one.
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, "", tensors)
    meta = {"version": FORMAT_VERSION, "step": step, **_known(identity), "state": tree}
    path = sealed.write(directory / FOLDER, f"step-{step:09d}", tensors, meta)
    for old in _files(directory)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def latest(
    directory: Path, identity: Identity, usable: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The newest state of the cell that is whole, of this identity and `usable`; None = none.

    Every newer file that is passed over is reported, by name, as a warning.
    """
    for path in _files(directory):
        try:
            tensors, meta = sealed.read(path)
        except sealed.Damaged as error:
            _log.warning("%s; it is not used", error)
            continue
        if not _matches(meta, identity):
            _log.warning("%s: of other settings, data or format; it is not used", path)
            continue
        state = _unpack(meta["state"], tensors)
        if usable(state):
            return state
        _log.warning("%s: the log it belongs to is not whole; it is not used", path)
    return None


def identity(directory: Path) -> dict[str, Any] | None:
    """What the newest readable checkpoint in `directory` was made of; None if there is none."""
    for path in _files(directory):
        try:
            return _known(sealed.meta(path))
        except (sealed.Damaged, KeyError, TypeError):
            continue
    return None


def clear(directory: Path) -> None:
    """Remove the checkpoints of the cell in `directory`."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def _files(directory: Path) -> list[Path]:
    """Newest first. Two of one step, a rare thing, differ in their costs only."""
    return sorted((directory / FOLDER).glob("step-*.safetensors"), reverse=True)


def _known(identity: Identity) -> dict[str, Any]:
    return {key: identity[key] for key in _IDENTITY}


def _matches(meta: Any, identity: Identity) -> bool:
    """By hash, for a model's name or path among the settings does not count."""
    return (
        isinstance(meta, dict)
        and meta.get("version") == FORMAT_VERSION
        and all(meta.get(key) == identity[key] for key in ("settings_hash", "inputs"))
    )


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """The tree with references in the place of its tensors, which go to `tensors`."""
    if isinstance(node, Mapping):
        return {key: _pack(value, f"{path}/{key}", tensors) for key, value in node.items()}
    if not isinstance(node, Tensor):
        return node
    name, tensor = path.removeprefix("/"), node.detach().cpu()
    if not _is_index(tensor):
        tensors[name] = tensor
        return {_TENSOR: name}
    code, tensors[name] = index_codes.encode(tensor)
    return {_INDEX: name, "code": code, "count": tensor.numel()}


def _unpack(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if _TENSOR in node:
        return tensors[node[_TENSOR]]
    if _INDEX in node:
        return index_codes.decode(node["code"], tensors[node[_INDEX]], node["count"])
    return {key: _unpack(value, tensors) for key, value in node.items()}


def _is_index(tensor: Tensor) -> bool:
    """Whether it is a vector of ascending positions, which takes a seventh of the bytes in code."""
    return (
        tensor.dtype == torch.int64
        and tensor.dim() == 1
        and tensor.numel() > 0
        and int(tensor[0]) >= 0
        and bool((tensor.diff() > 0).all())
    )
