"""What all commands share: how bad input ends, and the streams they print to."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from jiant_sparse.errors import InputError, printable
from jiant_sparse.files import check_directory

PRINTED_PROBLEMS = 200


class Commands(TyperGroup):
    """Commands that end on errors as `input_errors` says."""

    def invoke(self, ctx: Any) -> Any:
        with input_errors():
            return super().invoke(ctx)


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Bad input: one line for each problem, exit code 2. A full disk or the like: one line, 1.

    A closed pipe, as of `| head`, passes: typer ends on it with 1, without a word.
    """
    try:
        yield
    except InputError as error:
        for problem in error.problems[:PRINTED_PROBLEMS]:
            typer.echo(printable(f"error: {problem}"), err=True)
        more = len(error.problems) - PRINTED_PROBLEMS
        if more > 0:
            typer.echo(f"error: and {more:,} more", err=True)
        raise typer.Exit(2) from None
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(printable(f"error: {error}"), err=True)
        raise typer.Exit(1) from None


def open_streams() -> None:
    """Give a standard stream that is closed the null device; what cannot be encoded is escaped.

    The number of a closed stream would go to the first file that is opened, and what anything
    prints to that number with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "r+" if number == 0 else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")


def check_output(output_dir: Path, cells: Iterable[Path] = ()) -> None:
    """Raise InputError if results cannot be written; cells: directories of those that are to run.

    A directory that others share may be closed, as long as what is below it is not.
    """
    if not os.path.isdir(output_dir):
        check_directory(output_dir)
    for directory in cells:
        check_directory(directory)
