"""The command line: reads arguments, calls one function, prints. No logic of its own.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 something failed, 2 bad input.
Imports stand inside the commands, because torch and jiant take seconds to load.
"""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.cli import bench, data, delta, methods, report, run, status
from jiant_sparse.cli.shared import input_errors
from jiant_sparse.errors import InputError

app = typer.Typer(
    help="Sparse fine-tuning of pretrained encoders: run, compare, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(delta.app, name="delta")
app.command("methods")(methods.methods)
app.command("run")(run.run)
app.command("grid")(run.grid)
app.command("status")(status.status)
app.command("report")(report.report)


@app.command()
def check(configs: Annotated[list[Path], typer.Argument(help="YAML files.")]) -> None:
    """Check configurations without running anything."""
    from jiant_sparse.benchmark import config

    problems: list[str] = []
    for path in configs:
        try:
            typer.echo(f"{path}: ok, {config.check(path)}")
        except InputError as error:
            problems += error.problems
    with input_errors():
        if problems:
            raise InputError(*problems)


def main() -> None:
    """Entry point of `jiant-sparse`."""
    app()


if __name__ == "__main__":
    main()
