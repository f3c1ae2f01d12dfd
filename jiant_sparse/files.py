"""Reading and writing files so that a killed process leaves nothing that looks finished."""

import contextlib
import hashlib
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from jiant_sparse.errors import InputError

# The umask can only be read by setting it, which is unsafe once there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)
_PARTIAL = ".partial"

FOLDER_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?"
# File systems allow 255 bytes; a temporary name needs some of them for its ending.
LONGEST_NAME = 200
NAME_RULE = (
    "letters, digits, '.', '_' and '-', begins with a letter or digit, does not end with '.' and "
    f"has at most {LONGEST_NAME} characters"
)


def is_folder_name(text: str) -> bool:
    """Whether `text` can be a label that becomes a folder: see NAME_RULE."""
    return len(text) <= LONGEST_NAME and re.fullmatch(FOLDER_NAME, text) is not None


@contextmanager
def staging(directory: Path, name: str) -> Iterator[Path]:
    """A new temporary file `.<name>.*.partial` in `directory`, removed at the end of the block.

    `settle` gives it its place.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(_PARTIAL, f".{name}.", directory)
    os.close(handle)
    temporary = Path(made)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def settle(temporary: Path, path: Path) -> None:
    """Sync a file of the same directory and rename it to `path`, atomically."""
    with open(temporary, "rb") as written:
        os.fsync(written.fileno())
    make_readable(temporary)
    os.replace(temporary, path)
    sync_directory(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` at the end of the block, whole and synced.

    If the block raises, `path` stays as it was.
    """
    with staging(path.parent, path.name) as temporary:
        yield temporary
        settle(temporary, path)


@contextmanager
def making(directory: Path) -> Iterator[Path]:
    """A temporary directory that becomes the new `directory` at the end of the block, synced.

    If the block raises, nothing stays.
    """
    parent = directory.parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(_PARTIAL, f".{directory.name}.", parent) as outer:
        made = Path(outer) / directory.name
        made.mkdir()
        yield made
        for path in made.iterdir():
            make_readable(path)
            with open(path, "rb") as written:
                os.fsync(written.fileno())
        made.rename(directory)
    sync_directory(parent)


def make_readable(path: Path) -> None:
    """Give `path` the mode of any new file; mkstemp and safetensors leave 0600."""
    path.chmod(0o666 & ~_UMASK)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Turn safetensors' error while writing `path` into the OSError behind it, such as a full disk.

    safetensors gives the system's error number only as text.
    """
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sync_directory(directory: Path) -> None:
    """Sync a directory, so that the names in it survive a power failure."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(directory: Path, older_than: float = 0.0) -> None:
    """Remove the temporary files that killed processes left below `directory`.

    older_than: seconds since the last change, where another process may be writing now.
    """
    for pattern in (f".*{_PARTIAL}", ".tmp*"):  # ours, and the ones of safetensors
        for path in directory.rglob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def check_directory(directory: Path) -> None:
    """Raise InputError unless `directory` is writable or can be made. Makes nothing."""
    there = next(place for place in (directory, *directory.parents) if os.path.lexists(place))
    longest = max(
        (len(os.fsencode(name)) for name in directory.relative_to(there).parts), default=0
    )
    problem = ""
    if not os.path.isdir(there):
        problem = "is not a directory"
    elif not os.access(there, os.W_OK | os.X_OK):
        problem = "cannot be written into"
    if problem and there == directory:
        raise InputError(f"{directory}: {problem}")
    if problem:
        raise InputError(f"{directory}: cannot be made: {there} {problem}")
    name, path = os.pathconf(there, "PC_NAME_MAX"), os.pathconf(there, "PC_PATH_MAX")
    if longest > name:
        problem = f"a name has {longest:,} bytes; at most {name:,} are possible"
    # Leave room for the names of the files in it.
    elif len(os.fsencode(os.path.abspath(directory))) > path - name:
        problem = f"the path has more than {path - name:,} bytes"
    if problem:
        raise InputError(f"{directory}: cannot be made: {problem}")


def check_regular(path: Path, most: int) -> None:
    """Raise InputError unless `path` is a regular file of at most `most` bytes.

    Follows links. Opens nothing: a pipe would block, and a device has no end.
    """
    try:
        about = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if not stat.S_ISREG(about.st_mode):
        raise InputError(f"{path}: is not a regular file")
    if about.st_size > most:
        raise InputError(f"{path}: has {about.st_size:,} bytes; at most {most:,} are read")


def read_input(path: Path, most: int) -> bytes:
    """The bytes of an input file. Raises InputError as `check_regular`."""
    check_regular(path, most)
    try:
        with open(path, "rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def sha256(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
