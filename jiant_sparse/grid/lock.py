"""Who runs a cell: an exclusive lock of a directory, also between hosts that share it.

The lock is a row of files `lock-<generation>.json`. A generation is free when its owner released
it, when its owner's process is known to be gone, or when its heartbeat (the file's mtime) is older
than STALE_SECONDS by the file system's own clock. Two rules keep two owners apart:

- To acquire: every generation is free; create the next one, which only one process can; then look
  again whether every other one is free, and withdraw if not. The second look is what counts:
  whatever came between the first one and the new file is seen by it.
- To go on: beat first, then look for a higher generation or for the own file gone. If an owner
  that was away for long and another who takes over meet, at least one of them sees the other.

Nobody removes a file to take over. The files go when the cell is done, and only then can a name
come back. An owner writes into the file that it created and holds open, never to a name, so that
one who wakes up late cannot bring back a file that is gone, nor write over another's.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from jiant_sparse.grid import lock_file
from jiant_sparse.grid.lock_file import Holder, Progress, holder

BEAT_SECONDS = 10.0
# Every writing has this size at least: a shorter one leaves no end of a longer one, and a full disk
# has the room already.
_FILE_BYTES = 1024


class Lost(Exception):
    """The lock is not held any more: nothing final may be written."""


class Control(Protocol):
    """What the lock wants of a running cell: where it is, and a way to stop it."""

    progress: Any

    def stop(self, reason: str) -> None: ...


class Busy(Exception):
    """Another holds the lock. holder: who; None if that one was gone again when asked."""

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        super().__init__(directory, holder)
        self.directory = directory
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.directory}: is held by {self.holder or 'another, who came a moment before'}"


@contextlib.contextmanager
def acquire(directory: Path, control: Control) -> Iterator["Lock"]:
    """Hold the lock of `directory`, which is made if missing, until released or the block's end.

    `control` is asked to stop if the lock gets lost. Raises Busy if another holds it, and OSError
    if the directory cannot be written.
    """
    held = Lock(directory, control)
    try:
        yield held
    finally:
        held.release(done=False)


class Lock:
    """A lock that is held; made by `acquire`."""

    def __init__(self, directory: Path, control: Control) -> None:
        self._directory = directory
        self._control = control
        self._lost: str | None = None
        self._mutex = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lock {directory}", daemon=True)
        self._content = lock_file.Content(
            owner=lock_file.this_process(), since=datetime.now(UTC), progress=self._progress()
        )
        directory.mkdir(parents=True, exist_ok=True)
        self._renewed = _clock()
        self._generation, self._path, self._file = _create(directory)
        try:
            self._write(self._content)
            os.utime(self._file)
            others = lock_file.files(directory)
            others.pop(self._generation, None)
            held = lock_file.holders(others, lambda: lock_file.now(directory))
            if held or self._rival():
                raise Busy(directory, held[0] if held else holder(directory))
            self._thread.start()
        except BaseException:
            self._withdraw()
            raise

    def check(self) -> None:
        """Renew the lock and make sure that it is still held; raises Lost if it is not.

        Another can take it STALE_SECONDS after the last heartbeat at the earliest.
        """
        self._renew()
        if self._lost:
            raise Lost(self._lost)

    def release(self, *, done: bool) -> None:
        """Let others have the lock; once is enough. done: the cell is, and all lock files go."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self._renew()
        remove = done and not self._lost
        self._lost = self._lost or f"{self._directory}: the lock was released"
        # What cannot be marked or removed frees the lock too, later: its heartbeat is over.
        with contextlib.suppress(OSError):
            try:
                if not remove:
                    # Also after a loss: the next one need not wait for an owner that has wound up.
                    self._write(self._content.model_copy(update={"released": True}))
            finally:
                # A network file system tells here what it could not write.
                os.close(self._file)
        if remove:
            with contextlib.suppress(OSError):
                self._remove()

    def _remove(self) -> None:
        """Remove the own file and the free ones below. One who is just claiming withdraws itself.

        Were its file removed for it, the name could be another's when it withdraws.
        """
        files = lock_file.files(self._directory)
        lower = {
            generation: files[generation] for generation in files if generation < self._generation
        }
        held = {
            found.path for found in lock_file.holders(lower, lambda: lock_file.now(self._directory))
        }
        for path in lower.values():
            if path not in held:
                path.unlink(missing_ok=True)
        # The last: to the end, the others see that somebody is here.
        self._path.unlink(missing_ok=True)

    def _withdraw(self) -> None:
        """Take back the file of a lock that was not got, unless the name is another's by now."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _beat(self) -> None:
        """The heartbeat's thread: until released or lost."""
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._renew()
                if self._lost:
                    return
                content = self._content.model_copy(update={"progress": self._progress()})
                # If this fails the progress stays the old one: the heartbeat itself needs no room.
                with contextlib.suppress(OSError), self._mutex:
                    self._write(content)
            except Exception as error:
                # A heart that stopped unnoticed would let another in beside this run.
                self._lose(f"the lock's heartbeat failed: {error!r}")
                return

    def _renew(self) -> None:
        """Beat, then look whether the lock is still this one's."""
        with self._mutex:
            if self._lost:
                return
            began, reason = _clock(), None
            try:
                try:
                    os.utime(self._file)
                finally:
                    reason = self._rival()
            except OSError as error:
                away = began - self._renewed
                # The run has to end before another may take over.
                if away > lock_file.STALE_SECONDS - BEAT_SECONDS:
                    reason = reason or f"the lock could not be renewed for {away:.0f} s: {error}"
            else:
                self._renewed = began
            if reason:
                self._lose(reason)

    def _rival(self) -> str | None:
        """Why the lock is not this one's any more, or None."""
        # A new name in the directory makes a network file system's client list it anew.
        with contextlib.suppress(OSError):
            lock_file.now(self._directory)
        own = lock_file.read(self._path)
        if not own or not own.content or own.content.owner != self._content.owner:
            return f"{self._path.name} is gone"
        files = lock_file.files(self._directory)
        last = max(files, default=self._generation)
        if last <= self._generation:
            return None
        found = lock_file.read(files[last])
        who = found.content.owner if found and found.content else "another owner"
        return f"the lock was taken over by {who}"

    def _lose(self, reason: str) -> None:
        self._lost = f"{self._directory}: {reason}"
        self._control.stop(self._lost)

    def _progress(self) -> Progress:
        return Progress.model_validate(self._control.progress, from_attributes=True)

    def _write(self, content: lock_file.Content) -> None:
        data = content.model_dump_json(indent=1).encode().ljust(_FILE_BYTES - 1) + b"\n"
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], written)
        os.fsync(self._file)


def _create(directory: Path) -> tuple[int, Path, int]:
    """Create the next generation if all are free: its number, path and open file."""
    files = lock_file.files(directory)
    held = lock_file.holders(files, lambda: lock_file.now(directory))
    if held:
        raise Busy(directory, held[0])
    generation = max(files, default=-1) + 1
    path = directory / f"lock-{generation:06d}.json"
    try:
        return generation, path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise Busy(directory, holder(directory)) from None


def _clock() -> float:
    """Seconds of this host that, on Linux, also pass while it sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
