"""`jiant-sparse report`: tables, figures and a page from records, of one set or of several."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.cli.shared import input_errors
from jiant_sparse.errors import InputError
from jiant_sparse.files import check_directory


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="<output>/<benchmark>; several with --compare."),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            help="Default: <DIR>/report; with --compare <first DIR>/report/compare.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="The method that the t-tests hold against each other one. Default: sam.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Put result sets side by side: two commits, machines or readings."
        ),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="published|DIR",
            help="With --compare: what the others are held against, one of the DIRs or the "
            "published tables. Default: the first DIR.",
        ),
    ] = None,
) -> None:
    """Make tables, figures and index.html from records, and print the tables.

    Needs neither torch nor jiant. Nothing is written if the input is bad. Exit code 0: the report
    is written, whatever it says of failed or missing cells; 1: it could not be; 2: bad input.
    """
    with input_errors():
        _check(directories, compare=compare, baseline=baseline, reference=reference)
        if output_dir is not None:
            check_directory(output_dir)
        if compare:
            from jiant_sparse.report.comparison import compare as build_comparison

            made = build_comparison(directories, baseline=baseline, output_dir=output_dir)
        else:
            from jiant_sparse.report import build

            made = build(directories[0], output_dir, reference=reference)
        typer.echo(made.text)
        typer.echo(f"page: {made.page}", err=True)


def _check(
    directories: list[Path], *, compare: bool, baseline: str | None, reference: str | None
) -> None:
    """Raises InputError for options that do not go together."""
    problems = []
    if not compare and len(directories) > 1:
        got = ", ".join(map(str, directories))
        problems.append(
            f"got {len(directories)} directories: {got}; a report is of one; --compare puts "
            "several side by side"
        )
    if not compare and baseline is not None:
        problems.append(f"--baseline {baseline}: belongs to a comparison; add --compare")
    if compare and reference is not None:
        problems.append(f"--reference {reference}: belongs to a report of one set, not --compare")
    if problems:
        raise InputError(*problems)
