"""What a report leaves on disk: tables and figures as files, and a page, all or nothing."""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_directory, replacing
from jiant_sparse.report import figures
from jiant_sparse.report.figures import Figure
from jiant_sparse.report.render import to_csv, to_latex, to_markdown
from jiant_sparse.report.table import Table

PAGE = "index.html"
_TABLES = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
_FIGURES = ("svg", "png")
# How each kind of page begins; of the one that is there, no more than this is read.
_KINDS = {
    b'<p class="kicker">jiant_sparse \xc2\xb7 benchmark report</p>': "a report",
    b'<p class="kicker">jiant_sparse \xc2\xb7 comparison</p>': "a comparison",
}
_HEAD_BYTES = 100_000


def write(target: Path, tables: Sequence[Table], figures: Sequence[Figure], page: str) -> Path:
    """Write `tables/<name>.{csv,md,tex}`, `figures/<name>.{svg,png}` and the page into `target`;
    returns the page's path.

    A table or figure of an earlier report that this one does not have is removed; files that are
    not named like one stay. Nothing changes before all is written; then the old page goes first
    and the new one comes last, so that a page never stands beside files of another report. Of
    several reports that end at once, the last one's files are there.

    Raises InputError if another kind of page is in `target`, or if it is no directory.
    """
    contents = {target / PAGE: page.encode()}
    for table in tables:
        for suffix, form in _TABLES.items():
            contents[target / "tables" / f"{table.name}.{suffix}"] = form(table).encode()
    for figure in figures:
        contents[target / "figures" / f"{figure.name}.svg"] = figure.svg.encode()
        contents[target / "figures" / f"{figure.name}.png"] = figure.png
    _check(target, page)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target) as sure:
            # What a killed report had begun to write.
            for path in contents if sure else ():
                for left in path.parent.glob(f".{path.name}.*.partial"):
                    left.unlink(missing_ok=True)
            _replace(target, contents)
    except OSError as error:
        # Of a full disk the system does not say where.
        error.filename = error.filename or str(target)
        raise
    return target / PAGE


def _check(target: Path, page: str) -> None:
    check_directory(target)
    try:
        with open(target / PAGE, "rb") as stream:
            there = _kind(stream.read(_HEAD_BYTES))
    except FileNotFoundError:
        return
    if there != _kind(page.encode()):
        is_of = f"of {there}" if there else "not of a report"
        raise InputError(
            f"{target / PAGE}: is {is_of} and would be replaced; give another --output-dir"
        )


def _kind(page: bytes) -> str | None:
    return next((kind for mark, kind in _KINDS.items() if mark in page), None)


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[bool]:
    """Waits until no other report is written into `target`; whether that is certain."""
    handle = os.open(target, os.O_RDONLY)
    try:
        sure = False
        # Some network file systems cannot lock a directory; there, two must not end at once.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
            sure = True
        yield sure
    finally:
        os.close(handle)


def _replace(target: Path, contents: dict[Path, bytes]) -> None:
    with contextlib.ExitStack() as stack:
        # The first to be entered, the page, is the last to take its place.
        for path, content in contents.items():
            stack.enter_context(replacing(path)).write_bytes(content)
        (target / PAGE).unlink(missing_ok=True)
        for folder, names, suffixes in (
            ("tables", Table.NAMES, _TABLES),
            ("figures", figures.ALL, _FIGURES),
        ):
            every = {target / folder / f"{name}.{suffix}" for name in names for suffix in suffixes}
            for path in every - contents.keys():
                path.unlink(missing_ok=True)
