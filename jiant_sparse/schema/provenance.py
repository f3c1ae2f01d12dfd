"""Commit, package versions and time of a run."""

import datetime
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

PACKAGES = ("torch", "transformers", "jiant", "adapters", "loralib", "numpy", "scikit-learn")


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages that affect the numbers."""
    found = {"python": platform.python_version()}
    for package in ("jiant-sparse", *PACKAGES):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> tuple[str | None, bool | None]:
    """Return this checkout's commit and whether it has uncommitted changes; None without git."""
    head = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain")
    return head, None if head is None or status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
