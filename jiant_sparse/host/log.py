"""`log.jsonl`: what happened at which step, the same bytes however often the run was stopped."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from jiant.utils.zlog import BaseZLogger

from jiant_sparse.errors import InputError

FILE_NAME = "log.jsonl"
Position = dict[str, Any]
"""Where a log is: its `bytes`, and the `sha256` over them, in hex."""


class Log(BaseZLogger):
    """One JSON object per entry, there as soon as it is written; numbers to TensorBoard if asked.

    at: the position to go on from, checked by `reaches`; what was written after it is dropped.
    None begins a new log.
    """

    def __init__(
        self, directory: Path, at: Position | None, *, step: int = 0, tensorboard: bool = False
    ) -> None:
        path = directory / FILE_NAME
        self._digest = hashlib.sha256(_beginning(path, at["bytes"]) if at else b"")
        self._bytes = at["bytes"] if at else 0
        self._stream = open(path, "r+b" if at else "wb")  # noqa: SIM115 - closed in __exit__
        self._stream.truncate(self._bytes)
        self._stream.seek(self._bytes)
        self._board = _board(directory / "tensorboard", step) if tensorboard else None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        if self._board is not None:
            self._board.close()

    def write_entry(self, key: str, entry: dict[str, Any]) -> None:
        line = (json.dumps({"event": key, **entry}) + "\n").encode()
        self._stream.write(line)
        self._stream.flush()
        self._digest.update(line)
        self._bytes += len(line)
        if self._board is not None:
            for name, value in entry.items():
                if name != "step" and value is not None:
                    self._board.add_scalar(f"{key}/{name}", value, entry["step"])

    def flush(self) -> None:
        self._stream.flush()

    def position(self) -> Position:
        """Where the log is now; all up to there is on the disk."""
        os.fsync(self._stream.fileno())
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


def reaches(directory: Path, position: Position) -> bool:
    """Whether the log in `directory` begins with what it held at `position`."""
    try:
        beginning = _beginning(directory / FILE_NAME, position["bytes"])
    except OSError:
        return False
    return hashlib.sha256(beginning).hexdigest() == position["sha256"]


def check_tensorboard() -> None:
    """Raise InputError with the command that mends it unless tensorboardX is installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise InputError(
            "--log tensorboard: tensorboardX is not installed. "
            "Run: pip install 'jiant-sparse[tensorboard]'"
        ) from error


def _beginning(path: Path, count: int) -> bytes:
    with open(path, "rb") as stream:
        return stream.read(count)


def _board(directory: Path, step: int) -> Any:
    """A TensorBoard writer; of an earlier run's entries those after `step` are hidden."""
    check_tensorboard()
    from tensorboardX import SummaryWriter

    return SummaryWriter(str(directory), purge_step=step + 1)
