"""`jiant-sparse report`: tables, figures and a page from the records of benchmarks."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_directory


def report(
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="<output>/<benchmark>; several with --compare."),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(help="Default: <DIR>/report; with --compare <first DIR>/report/compare."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Method that the t-tests compare with each other method. Default: sam.",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Compare result sets: two commits, machines or readings."),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="published|DIR",
            help="With --compare: what every set is compared with, the published tables or one of "
            "the DIRs. Default: the first DIR.",
        ),
    ] = None,
) -> None:
    """Make tables, figures and index.html from records, and print the tables.

    Needs neither torch nor jiant. Exit code 0: the report is written, even if it lists failed or
    missing cells; 1: it could not be written; 2: bad input, and nothing is written.
    """
    problems = []
    if not compare and len(directories) > 1:
        problems.append(
            f"expected one directory, got {len(directories)}: {', '.join(map(str, directories))}; "
            "use --compare for several"
        )
    if not compare and baseline is not None:
        problems.append(f"--baseline {baseline}: belongs to a comparison; add --compare")
    if compare and reference is not None:
        problems.append(f"--reference {reference}: belongs to a report of one set, not --compare")
    if problems:
        raise InputError(*problems)
    if output_dir is not None:
        check_directory(output_dir)
    if compare:
        from jiant_sparse.report.comparison import compare as build_comparison

        compared = build_comparison(directories, baseline=baseline, output_dir=output_dir)
        text, page = compared.text, compared.page
    else:
        from jiant_sparse.report import build

        made = build(directories[0], output_dir, reference=reference)
        text, page = made.text, made.page
    typer.echo(text)
    typer.echo(f"page: {page}", err=True)
