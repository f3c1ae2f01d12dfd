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

# It can only be read by setting it, which is not safe once there are threads.
_UMASK = os.umask(0)
os.umask(_UMASK)
_PARTIAL = ".partial"

FOLDER_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_-])?"
# File systems have 255 bytes, of which the ending of a temporary name needs some.
LONGEST_NAME = 200
NAME_RULE = (
    "letters, digits, '.', '_' and '-', begins with a letter or digit, does not end with '.' and "
    f"has at most {LONGEST_NAME} characters"
)


def is_folder_name(text: str) -> bool:
    """Whether `text` can be a label that becomes a folder: see NAME_RULE."""
    return len(text) <= LONGEST_NAME and re.fullmatch(FOLDER_NAME, text) is not None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place, synced, when the block ends well.

    If the block raises, `path` is left as it was and the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(_PARTIAL, f".{path.name}.", path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        make_readable(temporary)
        os.replace(temporary, path)
        sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_readable(path: Path) -> None:
    """Give a file, which mkstemp and safetensors leave 0600, the mode of its owner's others."""
    path.chmod(0o666 & ~_UMASK)


@contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise the OSError that safetensors, writing below `path`, has met with: of a full disk, say.

    Its own error has only the system's number in its words.
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
    """Make the names in `directory` outlast a power failure."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial(directory: Path, older_than: float = 0.0) -> None:
    """Remove what killed writes have left below `directory`.

    older_than: seconds since they were touched, for where others may be writing now.
    """
    for pattern in (f".*{_PARTIAL}", ".tmp*"):  # ours, and those of safetensors
        for path in directory.rglob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than:
                    path.unlink()


def check_directory(directory: Path) -> None:
    """Raise InputError unless `directory` can be written into, or can be made; makes nothing."""
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
    # There have to be names of files below it.
    elif len(os.fsencode(os.path.abspath(directory))) > path - name:
        problem = f"the path has more than {path - name:,} bytes"
    if problem:
        raise InputError(f"{directory}: cannot be made: {problem}")


def check_regular(path: Path, most: int) -> None:
    """Raise InputError unless `path` is a regular file of at most `most` bytes.

    Links are followed. A pipe would be waited for, and a device has no end; neither is opened.
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
    """The bytes of a file that somebody else has written; raises InputError as `check_regular`."""
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
