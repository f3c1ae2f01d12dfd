"""Lock files: what they say, who wrote them, and who holds the lock of a directory. No torch."""

import errno
import os
import re
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError

from jiant_sparse.schema.control import Progress
from jiant_sparse.schema.document import Strict

STALE_SECONDS = 120.0
"""Age of the last heartbeat after which another process may take over."""
EMPTY_SECONDS = 5.0
"""The same for an empty file: its owner writes at once, or was killed before it could."""
LARGEST_BYTES = 100_000
"""Of a lock file; a longer one is unreadable."""
_NAME = re.compile(r"lock-([0-9]{6,18})\.json")
_ENDED = -1


class Owner(Strict):
    """A process that holds, or has held, a lock.

    pid_namespace: boot id and PID namespace in which `pid` is valid; None = unknown. started:
    clock ticks from boot to the start of the process. token: drawn anew for each lock.
    """

    host: str
    pid: int = Field(gt=0, lt=2**31)
    pid_namespace: str | None = Field(validation_alias=AliasChoices("pid_namespace", "space"))
    started: int | None
    token: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Content(Strict):
    """What a lock file says. released: its owner has released the lock."""

    owner: Owner
    since: datetime
    progress: Progress
    released: bool = False


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. content: None if the file is unreadable, or empty because it is new."""

    path: Path
    content: Content | None
    age_seconds: float

    @property
    def owner(self) -> Owner | None:
        return self.content.owner if self.content else None

    @property
    def progress(self) -> Progress | None:
        """The progress of the owner's run at its last heartbeat."""
        return self.content.progress if self.content else None

    def __str__(self) -> str:
        beat = f"last heartbeat {self.age_seconds:.0f} s ago"
        if self.content is None:
            return f"an owner whose {self.path.name} is unreadable ({beat})"
        return f"{self.owner} (since {self.content.since:%Y-%m-%d %H:%M:%S} UTC, {beat})"


def holder(directory: Path) -> Holder | None:
    """Return who holds the lock of `directory`; None if it is free.

    Ages are by the file system's clock, or by the local one where no file can be created.
    """

    def clock() -> float:
        try:
            return now(directory)
        except OSError:
            return time.time()

    held = holders(files(directory), clock)
    return held[0] if held else None


def files(directory: Path) -> dict[int, Path]:
    """Return the lock files of `directory` by generation."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    matches = filter(None, map(_NAME.fullmatch, names))
    return {int(match[1]): directory / match[0] for match in matches}


def holders(paths: Mapping[int, Path], clock: Callable[[], float]) -> list[Holder]:
    """Return who holds the locks in these files, the highest generation first."""
    seen = [read(paths[generation]) for generation in sorted(paths, reverse=True)]
    held = [found for found in seen if found and not found.is_given_up()]
    at = clock() if held else 0.0
    return [
        Holder(found.path, found.content, at - found.modified)
        for found in held
        if at - found.modified <= found.patience
    ]


@dataclass(frozen=True)
class Seen:
    """A lock file as it was read.

    content: None if it is unreadable. modified: time of the last heartbeat. patience: seconds
    after it for which the lock is respected.
    """

    path: Path
    content: Content | None
    modified: float
    patience: float

    def is_given_up(self) -> bool:
        """Whether the lock is free, however young its heartbeat is."""
        found = self.content
        return found is not None and (found.released or _has_ended(found.owner))


def read(path: Path) -> Seen | None:
    """Read a lock file; None if there is none. Only a regular file is readable."""
    try:
        # Opening the file, unlike stat, makes a network file system's client ask the server.
        with open(path, "rb", opener=_without_waiting) as stream:
            about = os.fstat(stream.fileno())
            modified = about.st_mtime
            data = stream.read(LARGEST_BYTES) if stat.S_ISREG(about.st_mode) else b"unknown"
    except PermissionError:
        data, modified = b"unknown", path.stat().st_mtime
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return None
    try:
        return Seen(path, Content.model_validate_json(data), modified, STALE_SECONDS)
    except ValidationError:
        return Seen(path, None, modified, STALE_SECONDS if data else EMPTY_SECONDS)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would block


def now(directory: Path) -> float:
    """Return the time by the clock of the directory's file system: the clocks of hosts differ."""
    with tempfile.TemporaryFile(dir=directory, prefix=".lock-clock.") as probe:
        return os.fstat(probe.fileno()).st_mtime


def this_process() -> Owner:
    """Return this process as an owner, with a new token."""
    started = _started(os.getpid())
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_namespace=None if started is None else _pid_namespace(),
        started=started,
        token=secrets.token_hex(8),
    )


def _has_ended(owner: Owner) -> bool:
    """Whether the owner's process is known to have ended; never in another PID namespace."""
    if owner.pid_namespace is None or owner.pid_namespace != _pid_namespace():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process
    started = _started(owner.pid)
    # /proc may hide processes of other users: then the heartbeat decides.
    return started is not None and started != owner.started


def _started(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; _ENDED if no thread of it runs any more.

    None outside Linux, or if /proc does not show the process.
    """
    try:
        # The name of the program, in brackets, can hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # The main thread of a killed process can be a zombie while another one still ends its write.
    return _ENDED if fields[0] in "ZX" and int(fields[17]) <= 1 else int(fields[19])


def _pid_namespace() -> str | None:
    """This boot of this host and this PID namespace.

    None where it is unknown: outside Linux, or if /proc shows another namespace.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None
