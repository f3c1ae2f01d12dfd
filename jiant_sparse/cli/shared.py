"""What all commands share: how bad input ends."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import typer

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_directory

PRINTED_PROBLEMS = 200


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Bad input: one line for each problem, exit code 2. A full disk or the like: one line, 1."""
    try:
        yield
    except InputError as error:
        for problem in error.problems[:PRINTED_PROBLEMS]:
            typer.echo(f"error: {problem}", err=True)
        more = len(error.problems) - PRINTED_PROBLEMS
        if more > 0:
            typer.echo(f"error: and {more:,} more", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


def check_output(output_dir: Path, cells: Iterable[Path] = ()) -> None:
    """Raise InputError if results cannot be written; cells: directories of those that are to run.

    A directory that others share may be closed, as long as what is below it is not.
    """
    if not os.path.isdir(output_dir):
        check_directory(output_dir)
    for directory in cells:
        check_directory(directory)
