"""Checkpoints of a cell: the last two, sealed by their SHA-256, written atomically.

A state is a tree of mappings with text keys whose leaves are tensors or JSON values. Nothing is
pickled: tensors lie in a safetensors file, and everything else in its header.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jiant_sparse import layout
from jiant_sparse.host import sealed
from jiant_sparse.sparse import index_codes

FOLDER = layout.CHECKPOINTS
# Raise it when the same state is written otherwise.
FORMAT_VERSION = 1
_TENSOR, _INDEX = "$tensor", "$index"
_log = logging.getLogger("jiant_sparse")

_IDENTITY = ("settings", "settings_hash", "inputs")
Identity = Mapping[str, Any]
"""What was run: `settings`, their `settings_hash` and `inputs`, as in a record."""


def save(directory: Path, step: int, identity: Identity, state: Mapping[str, Any]) -> Path:
    """Write the state after `step` of the cell in `directory`. Returns the path.

    Keeps the checkpoint of the last step before `step` and removes the rest. Raises OSError, for a
    full disk too, and then removes none.
    """
    tensors: dict[str, Tensor] = {}
    tree = _pack(state, "", tensors)
    meta = {"version": FORMAT_VERSION, "step": step, **_known(identity), "state": tree}
    path = sealed.write(directory / FOLDER, f"step-{step:09d}", tensors, meta)
    # By step, not by age: a damaged checkpoint that `latest` skipped may be of a later step.
    before = [old for old in _files(directory) if old.name < f"step-{step:09d}"]
    for old in _files(directory):
        if old != path and old not in before[:1]:
            old.unlink(missing_ok=True)
    return path


def latest(
    directory: Path, identity: Identity, unusable: Callable[[dict[str, Any]], str | None]
) -> dict[str, Any] | None:
    """The newest whole state of the cell with this identity; None if there is none.

    unusable: says why a run cannot resume from a state, or None. Each newer file that is skipped
    is a warning with its name and the reason.
    """
    for path in _files(directory):
        try:
            tensors, meta = sealed.read(path)
            reason = _mismatch(meta, identity)
        except (sealed.Damaged, OSError) as error:
            _log.warning("%s; it is not used", error)
            continue
        if reason is None:
            state = _unpack(meta["state"], tensors)
            reason = unusable(state)
            if reason is None:
                return state
        _log.warning("%s: %s; it is not used", path, reason)
    return None


def identity(directory: Path) -> dict[str, Any] | None:
    """The identity in the newest whole checkpoint in `directory`; None if there is none."""
    for path in _files(directory):
        try:
            sealed.check(path)
            return _known(sealed.meta(path))
        except (sealed.Damaged, OSError, KeyError, TypeError):
            continue  # `latest` warns about it
    return None


def exists(directory: Path) -> bool:
    """Whether the cell in `directory` has a checkpoint, whole or damaged."""
    return bool(_files(directory))


def clear(directory: Path) -> None:
    """Remove the checkpoints of the cell in `directory`."""
    shutil.rmtree(directory / FOLDER, ignore_errors=True)


def _files(directory: Path) -> list[Path]:
    """The checkpoints, last step first."""
    return sorted((directory / FOLDER).glob("step-*.safetensors"), reverse=True)


def _known(identity: Identity) -> dict[str, Any]:
    return {key: identity[key] for key in _IDENTITY}


def _mismatch(meta: Any, identity: Identity) -> str | None:
    """Why the checkpoint belongs to another cell, or None. Models compare by hash, not by name."""
    if not isinstance(meta, dict) or meta.get("version") != FORMAT_VERSION:
        return "is of another format"
    if any(meta.get(key) != identity[key] for key in ("settings_hash", "inputs")):
        return "is of other settings or data"
    return None


def _pack(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a tree into `tensors` and leave references in their place."""
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
    """Whether it holds ascending positions; an index code needs a seventh of their bytes."""
    return (
        tensor.dtype == torch.int64
        and tensor.dim() == 1
        and tensor.numel() > 0
        and int(tensor[0]) >= 0
        and bool((tensor.diff() > 0).all())
    )
