"""The exclusive lock of a cell's directory, which works between hosts that share the directory.

`filelock.SoftFileLease` fails test_a_killed_owner_is_followed_at_once (a zombie counts as alive)
and test_a_foreign_owner_is_respected_until_stale (each contender waits out the whole lease anew).

The lock is a row of files `lock-<generation>.json`. A generation is free if its owner has released
it, if its owner's process is known to have ended, or if its heartbeat (the file's mtime) is older
than STALE_SECONDS by the file system's own clock. Two rules keep two owners apart:

- To acquire: check that every generation is free; create the next one, which only one process can;
  then check every other generation again, and withdraw if one is held. The second check decides: it
  sees whatever happened between the first check and the new file.
- To go on: write a heartbeat, then look for a higher generation, or for the own file gone. If an
  owner that was suspended meets a process that takes over, at least one of them sees the other.

Taking over removes no file. The files are removed when the cell is done, and only then can a name
be used again. An owner writes to its own open file, never to a path: an owner that wakes up late
can neither restore a removed file nor overwrite the file of another owner.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from jiant_sparse.grid import lock_file
from jiant_sparse.grid.lock_file import Content, Holder
from jiant_sparse.schema.control import Control

BEAT_SECONDS = 10.0
# Every write has at least this size: a shorter text overwrites a longer one, and a heartbeat needs
# no room on a full disk.
_FILE_BYTES = 1024


class Lost(Exception):
    """The lock is no longer held: nothing final may be written."""


class Busy(Exception):
    """Another process holds the lock. holder: None if it was gone again when asked."""

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        super().__init__(directory, holder)
        self.directory = directory
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.directory}: is held by {self.holder or 'another process that was faster'}"


@contextlib.contextmanager
def acquire(directory: Path, control: Control) -> Iterator["Lock"]:
    """Hold the lock of `directory`, which is made if missing, to the end of the block.

    `control` is asked to stop if the lock is lost. Raises Busy if another process holds the lock,
    and OSError if the directory cannot be written.
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
        self._content = Content(
            owner=lock_file.this_process(), since=datetime.now(UTC), progress=control.progress
        )
        directory.mkdir(parents=True, exist_ok=True)
        self._renewed = _clock()
        self._generation, self._path, self._file = _create(directory)
        try:
            self._write(self._content)
            os.utime(self._file)
            others = lock_file.files(directory)
            others.pop(self._generation, None)
            held = self._holders(others)
            if held or self._rival():
                raise Busy(directory, held[0] if held else lock_file.holder(directory))
            self._thread.start()
        except BaseException:
            self._withdraw()
            raise

    def check(self) -> None:
        """Renew the lock and confirm that it is still held; raises Lost if it is not.

        Another process can take over STALE_SECONDS after the last heartbeat at the earliest.
        """
        self._renew()
        if self._lost:
            raise Lost(self._lost)

    def release(self, *, done: bool) -> None:
        """Release the lock; a second call does nothing. done: remove all lock files."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self._renew()
        remove = done and not self._lost
        self._lost = self._lost or f"{self._directory}: the lock was released"
        # If the file cannot be written, the lock is free later: its heartbeat is over.
        with contextlib.suppress(OSError):
            try:
                if not remove:
                    # After a loss too: the next owner need not wait for this file to become stale.
                    self._write(self._content.model_copy(update={"released": True}))
            finally:
                os.close(self._file)  # a network file system reports failed writes here
        if remove:
            with contextlib.suppress(OSError):
                self._remove()

    def _remove(self) -> None:
        """Remove the free files below the own one, then the own one.

        A held file below is of a process that is just acquiring, which will withdraw it. If it were
        removed here, another process could use its name, and lose the file to the withdrawal.
        """
        files = lock_file.files(self._directory)
        lower = {number: path for number, path in files.items() if number < self._generation}
        held = {found.path for found in self._holders(lower)}
        for path in lower.values():
            if path not in held:
                path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)  # last: until here the directory counts as held

    def _withdraw(self) -> None:
        """Remove the file of a failed acquisition, unless its name is another process's by now."""
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), os.fstat(self._file)):
                self._path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _beat(self) -> None:
        """Write heartbeats, in a thread, until the lock is released or lost."""
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self._renew()
                if self._lost:
                    return
                progress = self._control.progress
                self._content = self._content.model_copy(update={"progress": progress})
                # On a full disk the old progress stays: the heartbeat itself needs no room.
                with contextlib.suppress(OSError), self._mutex:
                    self._write(self._content)
            except Exception as error:
                # A heartbeat that stops silently would let a second process run the cell.
                self._lose(f"the lock's heartbeat failed: {error!r}")
                return

    def _renew(self) -> None:
        """Write a heartbeat, then check that the lock is still held."""
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
                # The run has to end before another process may take over.
                if away > lock_file.STALE_SECONDS - BEAT_SECONDS:
                    reason = reason or f"the lock could not be renewed for {away:.0f} s: {error}"
            else:
                self._renewed = began
            if reason:
                self._lose(reason)

    def _rival(self) -> str | None:
        """Return why the lock is no longer held; None if it is."""
        # A new name in the directory makes a network file system's client list it again.
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

    def _holders(self, files: dict[int, Path]) -> list[Holder]:
        return lock_file.holders(files, lambda: lock_file.now(self._directory))

    def _write(self, content: Content) -> None:
        data = content.model_dump_json(indent=1).encode().ljust(_FILE_BYTES - 1) + b"\n"
        written = 0
        while written < len(data):
            written += os.pwrite(self._file, data[written:], written)
        os.fsync(self._file)


def _create(directory: Path) -> tuple[int, Path, int]:
    """Create the next generation if all are free; returns its number, path and file descriptor."""
    files = lock_file.files(directory)
    held = lock_file.holders(files, lambda: lock_file.now(directory))
    if held:
        raise Busy(directory, held[0])
    generation = max(files, default=-1) + 1
    path = directory / f"lock-{generation:06d}.json"
    try:
        return generation, path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise Busy(directory, lock_file.holder(directory)) from None


def _clock() -> float:
    """Return seconds that, on Linux, also pass while the host sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)
