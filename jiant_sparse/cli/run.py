"""`jiant-sparse run`: one cell, in this process."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse import seeds
from jiant_sparse.cli import options
from jiant_sparse.cli.shared import check_output

if TYPE_CHECKING:
    from jiant_sparse.grid.worker import Outcome
    from jiant_sparse.host.job import Job
    from jiant_sparse.schema.record import Record


def run(
    task: Annotated[str, typer.Option(help="Task, by its label.")],
    method: Annotated[str, typer.Option(help="Method, by its label.")],
    seed: options.Seed = "0",
    model: options.Model = None,
    data_dir: options.DataDir = None,
    output_dir: options.Output = Path("results"),
    config: Annotated[
        Path | None, typer.Option(help="YAML file to take settings from; a benchmark's will do.")
    ] = None,
    dry_run: options.DryRun = False,
    log: options.Log = None,
    set_: options.Set = None,
) -> None:
    """Train and score one cell here, and print its result. Ctrl-C leaves a checkpoint."""
    from jiant_sparse.config import load as config_module
    from jiant_sparse.grid import estimate, plan
    from jiant_sparse.grid.executors.choose import with_threads
    from jiant_sparse.grid.outline import outline
    from jiant_sparse.grid.worker import Halted, Waiting
    from jiant_sparse.schema.record import describe

    check_output(output_dir)
    benchmark = config_module.single(
        task,
        method,
        seeds.parse(seed),
        config,
        overrides=set_ or (),
        given=options.given(model, data_dir),
        output_dir=output_dir,
    )
    jobs = plan.plan(benchmark, output_dir, tensorboard=options.tensorboard(log))
    (job,) = with_threads(jobs, 1)
    (found,) = plan.records([job])
    done = found is not None and found.status == "ok"
    check_output(output_dir, [] if done else [job.directory])
    if done and not dry_run:
        typer.echo("done before; nothing was run", err=True)
    else:
        time = estimate.Past(output_dir).estimate([] if done else [job], 1)
        lines = [*benchmark.chosen, outline(job, found), estimate.describe(time)]
        typer.echo("\n".join(lines), err=not dry_run)
    if dry_run:
        return
    outcome = found if found and done else _run_here(job, output_dir, found)
    if isinstance(outcome, Waiting):
        typer.echo(f"not run: {outcome.owner}", err=True)
        raise typer.Exit(1)
    if isinstance(outcome, Halted):
        typer.echo(f"{outcome.reason}; the same command goes on", err=True)
        raise typer.Exit(1)
    typer.echo(f"{describe(outcome)}\n{job.directory}")
    raise typer.Exit(0 if outcome.status == "ok" else 1)


def _run_here(job: "Job", output_dir: Path, retry: "Record | None") -> "Outcome":
    """Run the cell, with its progress on stderr."""
    from jiant_sparse.cli.progress import told
    from jiant_sparse.grid import estimate, plan
    from jiant_sparse.grid import worker as work
    from jiant_sparse.schema.control import Control

    plan.write_data([job], output_dir)
    control, terminal = Control(), sys.stderr.isatty()
    with told(control, bounded=estimate.first_stop(job) is not None, bar=terminal):
        return work.work_here(job, control, retry=retry, verbose=terminal)
