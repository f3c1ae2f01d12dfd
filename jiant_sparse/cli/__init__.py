"""The command line: each command reads its arguments, calls one function and prints.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 something failed, 2 bad input.
Imports stand inside the commands, because torch and jiant take seconds to load.
"""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.cli import bench, data, delta, grid, methods, report, run, status
from jiant_sparse.cli.shared import Commands, open_streams
from jiant_sparse.errors import InputError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Without rich an error is one line, and a narrow terminal shows option names whole.
    rich_markup_mode=None,
)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(delta.app, name="delta")
app.command("methods")(methods.methods)
app.command("run")(run.run)
app.command("grid")(grid.grid)
app.command("status")(status.status)
app.command("report")(report.report)


def _version(wanted: bool) -> None:
    from jiant_sparse.schema import provenance

    if wanted:
        typer.echo(f"jiant-sparse {provenance.versions().get('jiant-sparse', 'not installed')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train pretrained encoders by sparse fine-tuning methods, and compare the methods."""


@app.command()
def check(
    configs: Annotated[list[Path], typer.Argument(help="Benchmarks, as YAML files.")],
) -> None:
    """Check YAML files without running anything; print every error of all files."""
    from jiant_sparse.config import load as config

    problems: list[str] = []
    for path in configs:
        try:
            typer.echo(f"{path}: ok, {config.check(path)}")
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)


def main() -> None:
    """Run the command line, as `jiant-sparse` does."""
    open_streams()
    app()


if __name__ == "__main__":
    main()
