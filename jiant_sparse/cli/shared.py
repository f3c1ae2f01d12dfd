"""What all commands share: how bad input ends."""

import contextlib
from collections.abc import Iterator

import typer

from jiant_sparse.errors import InputError, printable


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Bad input: one line for each problem, exit code 2. A full disk or the like: one line, 1."""
    try:
        yield
    except InputError as error:
        for problem in error.problems:
            typer.echo(printable(f"error: {problem}"), err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(printable(f"error: {error}"), err=True)
        raise typer.Exit(1) from None
