"""Lock files: what they say, who wrote them, and which of them are free."""

import errno
import os
import re
import secrets
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STALE_SECONDS = 120.0
# A file is written right after it is made. One that stays empty is of a process that was killed
# between the two; one that was only slow looks again after writing, and finds whoever came.
EMPTY_SECONDS = 5.0
LARGEST_BYTES = 100_000
"""Of a lock file; what is longer cannot be read."""
_NAME = re.compile(r"lock-([0-9]{6,18})\.json")
_Step = Annotated[int, Field(ge=0, lt=2**63)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Owner(_Part):
    """A process. space: where its pid means it; None if that cannot be told. token: of one lock."""

    host: str
    pid: int = Field(gt=0, lt=2**31)
    space: str | None
    started: int | None = Field(description="clock ticks from the host's boot to its start")
    token: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"


class Progress(_Part):
    """Where the owner's run is, as it said with its last heartbeat."""

    phase: str
    step: _Step
    steps: _Step | None
    score: float | None


class Content(_Part):
    """What a lock file says. released: its owner let it go."""

    owner: Owner
    since: datetime
    progress: Progress
    released: bool = False


@dataclass(frozen=True)
class Seen:
    """A lock file. content: None if it cannot be read. modified: the last heartbeat.

    patience: seconds from that on which it is respected.
    """

    path: Path
    content: Content | None
    modified: float
    patience: float


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. The file of one who is just creating it says nothing yet: `owner` is None.

    age_seconds: of the last heartbeat.
    """

    path: Path
    owner: Owner | None
    since: datetime | None
    progress: Progress | None
    age_seconds: float

    def __str__(self) -> str:
        who = str(self.owner) if self.owner else f"an owner whose {self.path.name} is unreadable"
        since = f"since {self.since:%Y-%m-%d %H:%M:%S} UTC, " if self.since else ""
        return f"{who} ({since}last heartbeat {self.age_seconds:.0f} s ago)"


def holder(directory: Path) -> Holder | None:
    """Who holds the lock of `directory`, or None. Where no file can be made, by the local clock."""

    def clock() -> float:
        try:
            return now(directory)
        except OSError:
            return time.time()

    held = holders(files(directory), clock)
    return held[0] if held else None


def files(directory: Path) -> dict[int, Path]:
    """The lock files of `directory` by generation."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return {}
    matches = filter(None, map(_NAME.fullmatch, names))
    return {int(match[1]): directory / match[0] for match in matches}


def read(path: Path) -> Seen | None:
    """The file as it is, or None if there is none."""
    try:
        # Opening, unlike asking by name, makes a network file system's client ask the server.
        with open(path, "rb", opener=_without_waiting) as stream:
            about = os.fstat(stream.fileno())
            regular, modified = stat.S_ISREG(about.st_mode), about.st_mtime
            data = stream.read(LARGEST_BYTES) if regular else b"unknown"
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
    # A pipe would be waited for.
    return os.open(path, flags | os.O_NONBLOCK)


def holders(paths: dict[int, Path], clock: Callable[[], float]) -> list[Holder]:
    """Those of the files that are not free, the highest generation first."""
    seen = [read(paths[generation]) for generation in sorted(paths, reverse=True)]
    held = [found for found in seen if found and not _given_up(found.content)]
    at = clock() if held else 0.0
    return [_holder(found, at) for found in held if at - found.modified <= found.patience]


def _holder(found: Seen, at: float) -> Holder:
    content, age = found.content, at - found.modified
    if content is None:
        return Holder(found.path, None, None, None, age)
    return Holder(found.path, content.owner, content.since, content.progress, age)


def _given_up(content: Content | None) -> bool:
    """Whether a lock is free however young its heartbeat is."""
    return content is not None and (content.released or _gone(content.owner))


def _gone(owner: Owner) -> bool:
    """Whether the owner's process is known to have ended. Those of other spaces are not known."""
    if owner.space is None or owner.space != _space():
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's process
    found = _process(owner.pid)
    # Processes of other users may be hidden: then the heartbeat decides.
    return found is not None and (found.ended or found.started != owner.started)


def this_process() -> Owner:
    """This process as an owner, with a new token."""
    found = _process(os.getpid())
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        space=_space() if found else None,
        started=found and found.started,
        token=secrets.token_hex(8),
    )


@dataclass(frozen=True)
class _Process:
    """ended: nothing of it runs any more, though nobody may have asked for its exit code yet."""

    ended: bool
    started: int


def _process(pid: int) -> _Process | None:
    """What Linux says of a process; None if it is not seen."""
    try:
        # The name of the program, in brackets, can hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    # The main thread of a killed process can be a zombie while another still ends its last write.
    return _Process(ended=fields[0] in "ZX" and int(fields[17]) <= 1, started=int(fields[19]))


def _space() -> str | None:
    """Where this process's pid means it: this boot of this host, this namespace of pids.

    None where that cannot be told: outside Linux, or if /proc shows another namespace.
    """
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def now(directory: Path) -> float:
    """The time by the clock of the directory's file system: the clocks of hosts differ."""
    with tempfile.TemporaryFile(dir=directory, prefix=".lock-clock.") as probe:
        return os.fstat(probe.fileno()).st_mtime
