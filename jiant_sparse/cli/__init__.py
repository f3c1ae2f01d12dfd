"""The command line: reads arguments, calls one function, prints. No logic of its own.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 something failed, 2 bad input.
Imports stand inside the commands, because torch and jiant take seconds to load.
"""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse.cli import bench, data, delta, methods
from jiant_sparse.cli.shared import input_errors
from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.benchmark.record import Record
    from jiant_sparse.host.job import Job

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

Config = Annotated[Path, typer.Argument(help="A benchmark's YAML file.")]
Output = Annotated[Path, typer.Option("--output-dir", help="Where results go.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key of the file: train.learning_rate=3e-4."),
]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Instead of the file's data_dir.")]
Model = Annotated[str | None, typer.Option("--model", help="Instead of the file's model.")]


@app.command()
def run(
    task: Annotated[str, typer.Option(help="Label of the task.")],
    method: Annotated[str, typer.Option(help="Label of the method.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    model: Model = None,
    data_dir: DataDir = None,
    output_dir: Output = Path("results"),
    config: Annotated[
        Path | None, typer.Option("--config", help="Take settings from this YAML file.")
    ] = None,
    set_: Set = None,
) -> None:
    """Run one cell here, in this process, and print its result."""
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark import grid, plan
    from jiant_sparse.benchmark.record import describe

    with input_errors():
        benchmark = config_module.single(
            task, method, seed, config, overrides=set_ or (), given=_given(model, data_dir)
        )
        (job,) = plan.plan(benchmark, output_dir)
        if plan.missing([job], retry_failed=True):
            plan.write_data([job], output_dir)
            result = grid.run_here(job, verbose=sys.stderr.isatty())
        else:
            typer.echo("done before; nothing was run", err=True)
            result = plan.read_record(job)
    typer.echo(f"{describe(result)}\n{job.directory}")
    raise typer.Exit(0 if result.status == "ok" else 1)


@app.command("grid")
def grid_command(
    config: Config,
    output_dir: Output = Path("results"),
    only: Annotated[
        str | None, typer.Option(help="Cells to run: task=cb,method=sam,seed=0 (repeat a key).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: one per core, at most 4.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    model: Model = None,
    data_dir: DataDir = None,
    set_: Set = None,
) -> None:
    """Run every cell of a benchmark that has no record yet; prints the benchmark's directory."""
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark import plan
    from jiant_sparse.benchmark.record import describe

    with input_errors():
        benchmark = config_module.load(config, set_ or (), _given(model, data_dir))
        jobs = plan.plan(benchmark, output_dir, plan.parse_only(only))
        todo = plan.missing(jobs, retry_failed=retry_failed)
        if dry_run:
            _print_plan(jobs, todo)
            return
        directory = plan.write_manifest(benchmark, output_dir)
        plan.write_data(todo, output_dir)
        if todo:
            _run_grid(todo, workers)
    records = [plan.read_record(job) for job in jobs]
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(describe(record), err=True)
    typer.echo(
        f"{benchmark.name}: {len(jobs)} cells, {len(jobs) - len(todo)} ended before, "
        f"{len(todo)} run now, {len(failed)} failed",
        err=True,
    )
    typer.echo(directory)
    raise typer.Exit(1 if failed else 0)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="<output>/<benchmark>")],
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Default: <directory>/report.")
    ] = None,
) -> None:
    """Write index.html, table.csv and table.md, and print the table."""
    from jiant_sparse.report import build

    with input_errors():
        built = build(directory, output_dir)
    typer.echo(built.text)


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


def _given(model: str | None, data_dir: str | None) -> dict[str, str]:
    given = {"model": model, "data_dir": data_dir}
    return {key: value for key, value in given.items() if value is not None}


def _print_plan(jobs: "list[Job]", todo: "list[Job]") -> None:
    from jiant_sparse.benchmark import plan

    for job, state in zip(jobs, plan.states(jobs), strict=True):
        key = job.cell.key
        typer.echo(f"{key.task}/{key.method}/seed-{key.seed}: {state}")
    typer.echo(f"{len(jobs)} cells, {len(todo)} to run")


def _run_grid(todo: "list[Job]", workers: int | None) -> None:
    from jiant_sparse.benchmark import grid
    from jiant_sparse.benchmark.record import describe

    ended = 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does

    def notify(record: "Record") -> None:
        nonlocal ended
        ended += 1
        typer.echo(f"[{ended}/{len(todo)}] {describe(record)}", err=True)

    try:
        grid.run(todo, workers=workers or grid.default_workers(), notify=notify)
    except KeyboardInterrupt:
        typer.echo(
            f"stopped with {ended} of {len(todo)} cells ended; the same command goes on", err=True
        )
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point of `jiant-sparse`."""
    app()


if __name__ == "__main__":
    main()
