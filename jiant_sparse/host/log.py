"""`log.jsonl`: losses and scores by step, the same bytes however often the run was stopped."""

import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from jiant.utils.zlog import BaseZLogger

from jiant_sparse import layout
from jiant_sparse.errors import InputError
from jiant_sparse.files import replacing

FILE_NAME = layout.LOG
Position = dict[str, Any]
"""How far a log is: its `bytes`, and the `sha256` over them, in hex."""


class Log(BaseZLogger):
    """One JSON object per entry, flushed at once; also for TensorBoard if wanted.

    at: position to continue from, checked by `reaches`; entries after it are dropped. None begins
    a new log. step: the last step before that position.
    """

    def __init__(
        self, directory: Path, at: Position | None, *, step: int = 0, tensorboard: bool = False
    ) -> None:
        path = directory / FILE_NAME
        beginning = _beginning(path, at["bytes"]) if at else b""
        # A new file: a suspended process that had the cell may still write into the old one.
        with replacing(path) as new:
            new.write_bytes(beginning)
        self._digest = hashlib.sha256(beginning)
        self._bytes = len(beginning)
        self._stream = open(path, "ab")  # noqa: SIM115 - closed in __exit__
        self._board = _Board(directory / "tensorboard", step) if tensorboard else None

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *error: object) -> None:
        with self._stream:
            if self._board is not None:
                self._board.close()

    def write_entry(self, key: str, entry: dict[str, Any]) -> None:
        line = (json.dumps({"event": key, **entry}) + "\n").encode()
        self._stream.write(line)
        self._stream.flush()
        self._digest.update(line)
        self._bytes += len(line)
        if self._board is not None:
            self._board.write_entry(key, entry)

    def flush(self) -> None:
        self._stream.flush()

    def position(self) -> Position:
        """The present position, after a sync to the disk."""
        os.fsync(self._stream.fileno())
        return {"bytes": self._bytes, "sha256": self._digest.hexdigest()}


def reaches(directory: Path, position: Position) -> bool:
    """Whether the log in `directory` still begins with what it held at `position`."""
    try:
        beginning = _beginning(directory / FILE_NAME, position["bytes"])
    except OSError:
        return False
    return hashlib.sha256(beginning).hexdigest() == position["sha256"]


def check_tensorboard() -> None:
    """Raise InputError, with the command that installs it, unless tensorboardX is installed."""
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


class _Board:
    """Event files for TensorBoard, flushed at once, so that a full disk is an error at once.

    TensorBoard hides the entries of earlier parts of the run after `step`.
    """

    def __init__(self, directory: Path, step: int) -> None:
        check_tensorboard()
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        directory.mkdir(exist_ok=True)
        # Names count seconds, and two parts of a run may begin in the same second.
        self._writer = EventsWriter(str(directory / "events"), f".{secrets.token_hex(4)}")
        begun = SessionLog(status=SessionLog.START)
        self._writer.write_event(Event(step=step + 1, session_log=begun))

    def write_entry(self, key: str, entry: dict[str, Any]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name, value in entry.items():
            if name != "step" and value is not None:
                summary = scalar(f"{key}/{name}", value)
                event = Event(step=entry["step"], summary=summary, wall_time=time.time())
                self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
