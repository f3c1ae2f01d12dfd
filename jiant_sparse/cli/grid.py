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
class _Order:
    """What a call of `grid` is about. jobs: all that were asked for. todo: those to be run.

    past: what the time left is estimated by.
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
        """The jobs that are not to be run."""
        directories = {job.directory for job in self.todo}
        return [job for job in self.jobs if job.directory not in directories]


def grid(
    config: Annotated[Path, typer.Argument(help="A benchmark's YAML file.")],
    output_dir: options.Output = Path("results"),
    only: options.Only = None,
    executor: options.Executors = "local",
    address: options.Address = None,
    workers: options.Workers = None,
    gpus_per_cell: options.GpusPerCell = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    dry_run: options.DryRun = False,
    log: options.Log = None,
    model: options.Model = None,
    data_dir: options.DataDir = None,
    set_: options.Set = None,
) -> None:
    """Run the cells of a benchmark that have no record; print its directory.

    Start it again after anything: it goes on. Several at once share the cells.
    """
    from jiant_sparse.config import load as config_module
    from jiant_sparse.grid import plan
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
    order = _Order(benchmark, jobs, todo, choice, output_dir, retry_failed, Past(output_dir))
    if dry_run:
        keys = (job.cell.key for job in jobs)
        cells = [f"{key.task}/{key.method}/seed-{key.seed}" for key in keys]
        states = [": ".join(pair) for pair in zip(cells, plan.states(jobs), strict=True)]
        typer.echo("\n".join([*benchmark.chosen, *states, *_size(order)]))
        return
    failed = _run_and_tell(order)
    typer.echo(output_dir / benchmark.name)
    raise typer.Exit(1 if failed else 0)


def _run_and_tell(order: _Order) -> int:
    """Run what is to be run and say what came of it; how many of all cells have failed."""
    from jiant_sparse.grid import plan
    from jiant_sparse.grid import worker as work

    for line in [*order.benchmark.chosen, *(_size(order) if order.todo else [])]:
        typer.echo(line, err=True)
    records = _run_missing(order)
    records += [plan.read_record(job) for job in order.ended]
    failed = _summarise(order, records)
    for job in order.ended:
        work.tidy(job)
    return failed


def _run_missing(order: _Order) -> "list[Record]":
    """Run what is to be run; the records of these cells."""
    from jiant_sparse.grid import plan

    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_as_ctrl_c())
        # Ray prints there what its workers meet with; nothing of ours does before the end.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if order.todo:
            todo, executor = order.choice.make(order.todo)
            stack.enter_context(contextlib.closing(executor))
        plan.write_manifest(order.benchmark, order.output_dir)
        plan.write_data(order.todo, order.output_dir)
        if not order.todo:
            return []
        return _run_grid(dataclasses.replace(order, todo=todo), executor)


def _run_grid(order: _Order, executor: "Executor") -> "list[Record]":
    from jiant_sparse.cli.progress import SHOWN, Bar
    from jiant_sparse.grid import estimate, grid
    from jiant_sparse.schema.record import describe

    records: dict[Path, Record] = {}
    open_cells = {job.directory: job for job in order.todo}
    at_once = _at_once(order)

    def left(running: Mapping[Path, int]) -> str:
        jobs, workers = [*open_cells.copy().values()], at_once or max(1, len(running))
        return estimate.brief(order.past.estimate(jobs, workers, running))

    def notify(job: "Job", record: "Record") -> None:
        records[job.directory] = record
        order.past.add(record)
        open_cells.pop(job.directory, None)
        bar.line(f"[{len(records)}/{len(order.todo)}] {describe(record)}")
        bar.show(len(records))

    def waiting(job: "Job", owner: str) -> None:
        bar.line(f"waiting for {owner}")

    try:
        with Bar(open_cells, at_once or SHOWN, left) as bar:
            grid.run(order.todo, executor, notify, retry=order.retry, waiting=waiting)
    except KeyboardInterrupt:
        _tell_stopped(order, records)
        raise typer.Exit(1) from None
    return [*records.values()]


def _tell_stopped(order: _Order, records: "dict[Path, Record]") -> None:
    """What a grid that was interrupted leaves, and how to go on."""
    from jiant_sparse.grid import plan
    from jiant_sparse.host import checkpoint

    failed = plan.retriable([job for job in order.todo if job.directory in records])
    left = sum(
        checkpoint.exists(job.directory) for job in order.todo if job.directory not in records
    )
    typer.echo(
        f"stopped with {len(records)} of {len(order.todo)} cells ended, {left} have a checkpoint; "
        "the same command goes on"
        + (f", with --retry-failed also the {failed} that failed" if failed else ""),
        err=True,
    )


def _summarise(order: _Order, records: "list[Record]") -> int:
    """Say what came of all cells; how many have failed."""
    from jiant_sparse.grid import plan
    from jiant_sparse.schema.record import describe

    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(describe(record), err=True)
    again = plan.retriable(order.jobs) if failed else 0
    typer.echo(
        f"{order.benchmark.name}: {len(order.jobs)} cells, {len(order.ended)} ended before, "
        f"{len(order.todo)} ended now, {len(failed)} failed"
        + (f"; --retry-failed runs {again} again" if again else ""),
        err=True,
    )
    return len(failed)


def _size(order: _Order) -> list[str]:
    """Time and disk that the grid takes, and how many cells it is."""
    from jiant_sparse.grid import estimate

    workers = _at_once(order)
    time = estimate.describe(order.past.estimate(order.todo, workers or 1))
    many = f"{workers} at a time"
    if workers is None:
        many = "as many at a time as the cluster holds (the time above is of one after another)"
    return [time, f"{len(order.jobs)} cells, {len(order.todo)} to run, {many}"]


def _at_once(order: _Order) -> int | None:
    """Cells that run at a time; None: a cluster's number is not known before it is joined."""
    if order.choice.address is not None:
        return None
    return order.choice.count(order.todo) if order.todo else 1


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
