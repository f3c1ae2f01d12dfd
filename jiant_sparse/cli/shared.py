"""What all commands share: exit codes for errors, and safe output streams."""

import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from jiant_sparse.errors import InputError, printable
from jiant_sparse.files import check_directory

PRINTED_PROBLEMS = 200


class Commands(TyperGroup):
    """Ends every command, those of sub-groups too, with the exit code of its error.

    InputError: a line for each problem, exit code 2. OSError, as of a full disk: a line, exit code
    1. A closed pipe, as of `| head`: exit code 1 without a line, by typer.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
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
    """Open closed standard streams on the null device; escape what a stream cannot encode.

    Otherwise the first file that is opened would get the number of a closed stream, and with it
    everything that is printed there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            setattr(sys, name, open(number, "r+" if number == 0 else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(errors="backslashreplace")


def check_output(output_dir: Path, cells: Iterable[Path] = ()) -> None:
    """Raise InputError if results cannot be written. cells: directories of the cells to run.

    An existing `output_dir` may be read-only, as a shared one can be, if the cells' are not.
    """
    if not os.path.isdir(output_dir):
        check_directory(output_dir)
    for directory in cells:
        check_directory(directory)
