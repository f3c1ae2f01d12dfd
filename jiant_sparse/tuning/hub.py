"""The Hub of Hugging Face: deltas sent there and fetched from there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jiant_sparse.errors import InputError
from jiant_sparse.tuning import peft_files, saving
from jiant_sparse.tuning.config import FILE

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = [FILE, saving.DELTA, peft_files.CONFIG, peft_files.WEIGHTS]


def fetch(place: str | Path, revision: str | None) -> Path:
    """The directory `place`; or a download of the Hub's repository of that name, "user/name".

    revision: a branch, tag or commit of the repository; None = its main branch.
    Raises InputError if neither is there, and for the revision of a directory.
    """
    path = Path(place)
    if path.exists() or not isinstance(place, str) or not _NAME.fullmatch(place):
        if revision is not None:
            raise InputError(f"revision is {revision!r}; {place} is no repository of the Hub")
        return path
    with _hub(f"{place}: no directory, and not to be had from the Hub") as api:
        return Path(api.snapshot_download(place, revision=revision, allow_patterns=_FILES))


def push(repo: str, directory: Path, private: bool | None = None, token: str | None = None) -> str:
    """Upload a directory's files. Returns the address of the repository, which may be new.

    Raises InputError with the Hub's answer if it refuses, or cannot be reached.
    """
    with _hub(f"{repo}: cannot be pushed to the Hub", token) as api:
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=made.repo_id, folder_path=directory)
    return str(made)


@contextmanager
def _hub(about: str, token: str | None = None) -> Iterator[Any]:
    """The Hub's client, whose errors become InputErrors that begin with `about`."""
    try:
        from huggingface_hub import HfApi

        yield HfApi(token=token)
    except ImportError as error:
        raise InputError(f"{about}: {error}; pip install huggingface-hub") from error
    except (OSError, ValueError) as error:  # as all of its errors are
        raise InputError(f"{about}: {' '.join(str(error).split())}") from error
