"""Tensors and a JSON value in one safetensors file that is named by the SHA-256 of its bytes.

The name tells whether the file is whole: of a write that was cut short, or of a disk that turned a
bit, nothing is believed. Equal content gets an equal name, so that writers at the same time agree.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jiant_sparse.files import make_readable, sha256, sync_directory, system_errors

# One key holds everything: safetensors writes several in an order that differs from run to run.
_META = "jiant_sparse"
_SUFFIX = ".safetensors"


class Damaged(Exception):
    """A sealed file that is not what was written; the message names it and what is wrong."""


def write(directory: Path, stem: str, tensors: Mapping[str, Tensor], meta: Any) -> Path:
    """Write `<directory>/<stem>.<sha256>.safetensors`, all or nothing and synced; its path.

    meta: any JSON value. tensors: of any dtype, shape and device; they come back contiguous, on
    the CPU. Raises OSError, of a full disk too, and then leaves nothing behind.
    """
    text = json.dumps(meta)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f".{stem}.{secrets.token_hex(8)}.partial"
    try:
        with system_errors(temporary):
            save_file(_plain(tensors), temporary, metadata={_META: text})
        make_readable(temporary)
        path = directory / f"{stem}.{sha256(temporary)}{_SUFFIX}"
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        sync_directory(directory)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def read(path: Path) -> tuple[dict[str, Tensor], Any]:
    """The tensors, in memory of their own, and the JSON value. Raises Damaged."""
    check(path)
    with _told(path), safe_open(path, framework="pt") as file:
        # Clones: a mapped tensor would die with the file.
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    return tensors, meta(path)


def check(path: Path) -> None:
    """Raise Damaged unless the bytes are those that the name tells."""
    with _told(path):
        digest = sha256(path)
    if not path.name.endswith(f".{digest}{_SUFFIX}"):
        raise Damaged(f"{path}: damaged: the SHA-256 of its bytes is {digest}, not its name's")


def meta(path: Path) -> Any:
    """The JSON value alone, from the file's header; its bytes are not checked. Raises Damaged."""
    with _told(path), safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_META)
    if text is None:
        raise Damaged(f"{path}: a safetensors file, but not one that jiant_sparse sealed")
    try:
        return json.loads(text)
    except ValueError as error:
        raise Damaged(f"{path}: its metadata are not JSON: {error}") from error


def found(directory: Path, stem: str) -> list[Path]:
    """The sealed files of a stem, sorted by name; none if there is no such directory."""
    name = re.compile(rf"{re.escape(stem)}\.[0-9a-f]{{64}}{re.escape(_SUFFIX)}")
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if name.fullmatch(path.name))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Damaged(f"{path}: there is no such file") from error
    except SafetensorError as error:
        raise Damaged(f"{path}: not a readable safetensors file: {error}") from error


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous, on the CPU, and each in memory of its own: safetensors takes no other."""
    plain: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.to("cpu").contiguous()
        if own.untyped_storage().data_ptr() in taken:
            own = torch.clone(own, memory_format=torch.contiguous_format)
        taken.add(own.untyped_storage().data_ptr())
        plain[name] = own
    return plain
