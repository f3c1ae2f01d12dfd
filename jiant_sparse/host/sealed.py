"""Safetensors files named by the SHA-256 of their bytes; each holds tensors and one JSON value.

The name tells whether a file is whole: a write that was cut short and a flipped bit are both found.
Equal content gets an equal name, so that processes that write at the same time agree.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.files import settle, sha256, staging, system_errors

# One key for all metadata: safetensors writes several keys in an order that varies between runs.
_META = "jiant_sparse"
_SUFFIX = ".safetensors"


class Damaged(Exception):
    """The file is not what was written. The message names it and says what is wrong."""


def write(directory: Path, stem: str, tensors: Mapping[str, Tensor], meta: Any) -> Path:
    """Write `<directory>/<stem>.<sha256>.safetensors` atomically, synced. Returns its path.

    tensors: any dtype, shape and device; `read` gives them back contiguous and on the CPU.
    meta: any JSON value. Raises OSError, for a full disk too, and then leaves nothing behind.
    """
    text = json.dumps(meta)
    with staging(directory, stem) as temporary:
        with system_errors(temporary):
            save_file(_separate(tensors), temporary, metadata={_META: text})
        path = directory / f"{stem}.{sha256(temporary)}{_SUFFIX}"
        settle(temporary, path)
    return path


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors, each in memory of its own, and the JSON value. Raises Damaged."""
    check(path)
    with _damage(path), safe_open(path, framework="pt") as file:
        # Clones: a mapped tensor would become invalid with the file.
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    return tensors, meta(path)


def check(path: Path) -> None:
    """Raise Damaged unless the bytes have the SHA-256 in the name."""
    with _damage(path):
        digest = sha256(path)
    if not path.name.endswith(f".{digest}{_SUFFIX}"):
        raise Damaged(f"{path}: damaged: the SHA-256 of its bytes is {digest}, not its name's")


def meta(path: Path) -> Any:
    """The JSON value, from the header alone; does not check the bytes. Raises Damaged."""
    with _damage(path), safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_META)
    if text is None:
        raise Damaged(f"{path}: a safetensors file, but not one that jiant_sparse sealed")
    try:
        return json.loads(text)
    except ValueError as error:
        raise Damaged(f"{path}: its metadata are not JSON: {error}") from error


def found(directory: Path, stem: str) -> list[Path]:
    """The sealed files with this stem, sorted by name; empty if there is no such directory."""
    name = re.compile(rf"{re.escape(stem)}\.[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if name.fullmatch(path.name))


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn a missing file and an error of safetensors into Damaged."""
    try:
        yield
    except FileNotFoundError as error:
        raise Damaged(f"{path}: there is no such file") from error
    except SafetensorError as error:
        raise Damaged(f"{path}: not a readable safetensors file: {error}") from error


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous copies on the CPU that share no memory: safetensors refuses anything else."""
    separate: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.to("cpu").contiguous()
        if own.untyped_storage().data_ptr() in taken:
            own = torch.clone(own, memory_format=torch.contiguous_format)
        taken.add(own.untyped_storage().data_ptr())
        separate[name] = own
    return separate
