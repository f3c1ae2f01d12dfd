"""`jiant-sparse grid`: all cells of a benchmark, in workers."""

import contextlib
import dataclasses
import io
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse.cli import options
from jiant_sparse.cli.shared import check_output

if TYPE_CHECKING:
    from jiant_sparse.grid.estimate import Past
    from jiant_sparse.grid.executors import Executor
    from jiant_sparse.grid.executors.choose import Choice
    from jiant_sparse.host.job import Job
    from jiant_sparse.schema.cell import Benchmark
    from jiant_sparse.schema.record import Record


@dataclass(frozen=True)
class _Call:
    """One call of `grid`. jobs: all cells asked for. todo: the cells to run.

    past: the records that the time left is estimated from.
    """

    benchmark: "Benchmark"
    jobs: "list[Job]"
    todo: "list[Job]"
    choice: "Choice"
    output_dir: Path
    retry: bool
    past: "Past"

    @property
    def ended(self) -> "list[Job]":
        """The cells that had ended before."""
        directories = {job.directory for job in self.todo}
        return [job for job in self.jobs if job.directory not in directories]

    @property
    def at_once(self) -> int | None:
        """Cells that run at a time; None for a cluster, which tells when it is joined."""
        if self.choice.address is not None:
            return None
        return self.choice.count(self.todo) if self.todo else 1

    def size(self) -> list[str]:
        """Time and disk that the cells to run take, and how many they are."""
        from jiant_sparse.grid import estimate

        workers = self.at_once
        time = estimate.describe(self.past.estimate(self.todo, workers or 1))
        many = f"{workers} at a time"
        if workers is None:
            many = "as many at a time as the cluster holds (the time above is of one after another)"
        return [time, f"{len(self.jobs)} cells, {len(self.todo)} to run, {many}"]


def grid(
    config: Annotated[Path, typer.Argument(help="A benchmark's YAML file.")],
    output_dir: options.Output = Path("results"),
    only: Annotated[
        str | None,
        typer.Option(help="Run only some cells: task=cb,method=sam,seed=0. A key may be repeated."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: processes on this machine; ray: tasks of a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join: host:port or auto. Default: start one here."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time. Default: as many as the cores or GPUs hold."),
    ] = None,
    gpus_per_cell: Annotated[
        float | None,
        typer.Option(help="Fraction of a GPU for each cell: 0.25 runs four on a GPU. Default: 1."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run the cells that failed again.")
    ] = False,
    dry_run: options.DryRun = False,
    log: options.Log = None,
    model: options.Model = None,
    data_dir: options.DataDir = None,
    set_: options.Set = None,
) -> None:
    """Run the cells of a benchmark that have no record yet, and print its directory.

    If it is stopped or killed, the same command goes on. Several at once share the cells.
    """
    from jiant_sparse.config import load as config_module
    from jiant_sparse.grid import plan
    from jiant_sparse.grid import worker as work
    from jiant_sparse.grid.estimate import Past
    from jiant_sparse.grid.executors.choose import Choice

    choice = Choice(executor, address, workers, gpus_per_cell)
    choice.check()
    check_output(output_dir)
    wanted = plan.parse_only(only)
    given = options.given(model, data_dir)
    benchmark = config_module.load(config, set_ or (), given, output_dir=output_dir, only=wanted)
    jobs = plan.plan(benchmark, output_dir, wanted, tensorboard=options.tensorboard(log))
    todo = plan.missing(jobs, retry_failed=retry_failed)
    check_output(output_dir, [job.directory for job in todo])
    plan.check_manifest(benchmark, output_dir)
    call = _Call(benchmark, jobs, todo, choice, output_dir, retry_failed, Past(output_dir))
    directory = output_dir / benchmark.name
    if dry_run:
        pairs = zip(jobs, plan.states(jobs), strict=True)
        states = [f"{job.directory.relative_to(directory)}: {state}" for job, state in pairs]
        typer.echo("\n".join([*benchmark.chosen, *states, *call.size()]))
        return
    for line in [*benchmark.chosen, *(call.size() if todo else [])]:
        typer.echo(line, err=True)
    records = [*_run(call), *map(plan.read_record, call.ended)]
    failed = _summarise(call, records)
    for job in call.ended:
        work.tidy(job)
    typer.echo(directory)
    raise typer.Exit(1 if failed else 0)


def _run(call: _Call) -> "list[Record]":
    """Write the manifest and run the cells of `todo`; return their records."""
    from jiant_sparse.grid import plan

    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_as_ctrl_c())
        # Ray prints what its workers meet with to stdout, which is for results.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if call.todo:
            todo, executor = call.choice.make(call.todo)
            stack.enter_context(contextlib.closing(executor))
        plan.write_manifest(call.benchmark, call.output_dir)
        plan.write_data(call.todo, call.output_dir)
        return _run_on(executor, dataclasses.replace(call, todo=todo)) if call.todo else []


def _run_on(executor: "Executor", call: _Call) -> "list[Record]":
    """Run the cells of `todo` with progress on stderr; return their records."""
    from jiant_sparse.cli.progress import SHOWN, Bar
    from jiant_sparse.grid import estimate, grid
    from jiant_sparse.schema.record import describe

    records: dict[Path, Record] = {}
    open_cells = {job.directory: job for job in call.todo}
    at_once = call.at_once

    def left(running: Mapping[Path, int]) -> str:
        jobs, workers = [*open_cells.copy().values()], at_once or max(1, len(running))
        return estimate.brief(call.past.estimate(jobs, workers, running))

    def notify(job: "Job", record: "Record") -> None:
        records[job.directory] = record
        call.past.add(record)
        open_cells.pop(job.directory, None)
        bar.line(f"[{len(records)}/{len(call.todo)}] {describe(record)}")
        bar.show(len(records))

    def waiting(job: "Job", owner: str) -> None:
        bar.line(f"waiting for {owner}")

    try:
        with Bar(open_cells, at_once or SHOWN, left) as bar:
            grid.run(call.todo, executor, notify, retry=call.retry, waiting=waiting)
    except KeyboardInterrupt:
        _tell_stopped(call, records)
        raise typer.Exit(1) from None
    return [*records.values()]


def _tell_stopped(call: _Call, records: "dict[Path, Record]") -> None:
    """Say what an interrupted grid leaves, and how to go on."""
    from jiant_sparse.grid import plan
    from jiant_sparse.host import checkpoint

    failed = plan.retriable([job for job in call.todo if job.directory in records])
    left = sum(
        checkpoint.exists(job.directory) for job in call.todo if job.directory not in records
    )
    typer.echo(
        f"stopped with {len(records)} of {len(call.todo)} cells ended, {left} have a checkpoint; "
        "the same command goes on"
        + (f", with --retry-failed also the {failed} that failed" if failed else ""),
        err=True,
    )


def _summarise(call: _Call, records: "list[Record]") -> int:
    """Say how all cells ended; return how many failed."""
    from jiant_sparse.grid import plan
    from jiant_sparse.schema.record import describe

    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(describe(record), err=True)
    again = plan.retriable(call.jobs) if failed else 0
    typer.echo(
        f"{call.benchmark.name}: {len(call.jobs)} cells, {len(call.ended)} ended before, "
        f"{len(call.todo)} ended now, {len(failed)} failed"
        + (f"; --retry-failed runs {again} again" if again else ""),
        err=True,
    )
    return len(failed)


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
