"""`jiant-sparse run` and `jiant-sparse grid`: one cell here, or all of a benchmark in workers."""

import contextlib
import dataclasses
import io
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse import seeds
from jiant_sparse.cli import options
from jiant_sparse.cli.shared import check_output, input_errors
from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.benchmark.cell import Benchmark
    from jiant_sparse.benchmark.executors import Executor
    from jiant_sparse.benchmark.executors.choose import Choice
    from jiant_sparse.benchmark.record import Record
    from jiant_sparse.benchmark.work import Outcome
    from jiant_sparse.host.job import Job

SHOWN = 8
"""Running cells that a line has room for, where nobody knows how many there are."""


@dataclass(frozen=True)
class _Order:
    """What a call of `grid` is about. jobs: all that were asked for. todo: those to be run."""

    benchmark: "Benchmark"
    jobs: "list[Job]"
    todo: "list[Job]"
    choice: "Choice"
    output_dir: Path
    retry: bool

    @property
    def ended(self) -> "list[Job]":
        """The jobs that are not to be run."""
        directories = {job.directory for job in self.todo}
        return [job for job in self.jobs if job.directory not in directories]


def run(
    task: Annotated[str, typer.Option(help="Label of the task.")],
    method: Annotated[str, typer.Option(help="Label of the method.")],
    seed: options.Seed = "0",
    model: options.Model = None,
    data_dir: options.DataDir = None,
    output_dir: options.Output = Path("results"),
    config: options.File = None,
    log: options.Log = None,
    set_: options.Set = None,
) -> None:
    """Run one cell here, in this process, and print its result; Ctrl-C leaves a checkpoint."""
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark.record import Record, describe

    with input_errors():
        check_output(output_dir)
        benchmark = config_module.single(
            task,
            method,
            seeds.parse(seed),
            config,
            overrides=set_ or (),
            given=_given(model, data_dir),
            output_dir=output_dir,
        )
        job, result = _run_here(benchmark, output_dir, tensorboard=_boards(log))
    if not isinstance(result, Record):
        typer.echo(_why(result), err=True)
        raise typer.Exit(1)
    typer.echo(f"{describe(result)}\n{job.directory}")
    raise typer.Exit(0 if result.status == "ok" else 1)


def _run_here(
    benchmark: "Benchmark", output_dir: Path, *, tensorboard: bool
) -> "tuple[Job, Outcome]":
    """The only cell of a benchmark, and what has come of it."""
    from jiant_sparse.benchmark import plan, work
    from jiant_sparse.benchmark.executors.choose import with_threads

    (job,) = with_threads(plan.plan(benchmark, output_dir, tensorboard=tensorboard), 1)
    (found,) = plan.records([job])
    if found is not None and found.status == "ok":
        typer.echo("done before; nothing was run", err=True)
        return job, found
    check_output(output_dir, [job.directory])
    _tell_chosen(benchmark)
    plan.write_data([job], output_dir)
    return job, work.work_here(job, retry=found, verbose=sys.stderr.isatty())


def grid(
    config: Annotated[Path, typer.Argument(help="A benchmark's YAML file.")],
    output_dir: options.Output = Path("results"),
    only: options.Only = None,
    executor: options.Executors = "local",
    address: options.Address = None,
    workers: options.Workers = None,
    gpus_per_cell: options.GpusPerCell = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    log: options.Log = None,
    model: options.Model = None,
    data_dir: options.DataDir = None,
    set_: options.Set = None,
) -> None:
    """Run every cell of a benchmark that has no record yet; prints the benchmark's directory.

    Start it again after anything: it goes on. Several at once share the cells.
    """
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark import plan
    from jiant_sparse.benchmark.executors.choose import Choice

    choice = Choice(executor, address, workers, gpus_per_cell)
    with input_errors():
        choice.check()
        check_output(output_dir)
        wanted = plan.parse_only(only)
        given = _given(model, data_dir)
        benchmark = config_module.load(
            config, set_ or (), given, output_dir=output_dir, only=wanted
        )
        plan.check_manifest(benchmark, output_dir)
        jobs = plan.plan(benchmark, output_dir, wanted, tensorboard=_boards(log))
        todo = plan.missing(jobs, retry_failed=retry_failed)
        check_output(output_dir, [job.directory for job in todo])
        order = _Order(benchmark, jobs, todo, choice, output_dir, retry_failed)
        if dry_run:
            _print_plan(order)
            return
        failed = _run_and_tell(order)
    typer.echo(output_dir / benchmark.name)
    raise typer.Exit(1 if failed else 0)


def _run_and_tell(order: _Order) -> int:
    """Run what is to be run and say what came of it; how many of all cells have failed."""
    from jiant_sparse.benchmark import plan, work

    _tell_chosen(order.benchmark)
    records = _run_missing(order)
    records += [plan.read_record(job) for job in order.ended]
    failed = _summarise(order, records)
    for job in order.ended:
        work.tidy(job)
    return failed


def _run_missing(order: _Order) -> "list[Record]":
    """Run what is to be run; the records of these cells."""
    from jiant_sparse.benchmark import plan

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
    from jiant_sparse.benchmark import grid
    from jiant_sparse.benchmark.record import describe
    from jiant_sparse.cli.progress import Bar

    records: dict[Path, Record] = {}
    open_cells = {job.directory: None for job in order.todo}

    def notify(job: "Job", record: "Record") -> None:
        records[job.directory] = record
        open_cells.pop(job.directory, None)
        bar.line(f"[{len(records)}/{len(order.todo)}] {describe(record)}")
        bar.show(len(records))

    def waiting(job: "Job", owner: str) -> None:
        bar.line(f"waiting for {owner}")

    try:
        with Bar(open_cells, _at_once(order) or SHOWN) as bar:
            grid.run(order.todo, executor, notify, retry=order.retry, waiting=waiting)
    except KeyboardInterrupt:
        _tell_stopped(order, records)
        raise typer.Exit(1) from None
    return [*records.values()]


def _tell_stopped(order: _Order, records: "dict[Path, Record]") -> None:
    """What a grid that was interrupted leaves, and how to go on."""
    from jiant_sparse.host import checkpoint

    failed = sum(record.status == "failed" for record in records.values())
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
    from jiant_sparse.benchmark.record import describe

    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(describe(record), err=True)
    typer.echo(
        f"{order.benchmark.name}: {len(order.jobs)} cells, {len(order.ended)} ended before, "
        f"{len(order.todo)} ended now, {len(failed)} failed"
        + ("; --retry-failed runs these again" if failed else ""),
        err=True,
    )
    return len(failed)


def _print_plan(order: _Order) -> None:
    from jiant_sparse.benchmark import estimate, plan

    for line in order.benchmark.chosen:
        typer.echo(line)
    for job, state in zip(order.jobs, plan.states(order.jobs), strict=True):
        key = job.cell.key
        typer.echo(f"{key.task}/{key.method}/seed-{key.seed}: {state}")
    workers = _at_once(order)
    typer.echo(estimate.describe(estimate.estimate(order.todo, order.output_dir, workers or 1)))
    many = f"{workers} at a time"
    if workers is None:
        many = "as many at a time as the cluster holds (the time above is of one after another)"
    typer.echo(f"{len(order.jobs)} cells, {len(order.todo)} to run, {many}")


def _at_once(order: _Order) -> int | None:
    """Cells that run at a time; None: a cluster's number is not known before it is joined."""
    if order.choice.address is not None:
        return None
    return order.choice.count(order.todo) if order.todo else 1


def _tell_chosen(benchmark: "Benchmark") -> None:
    """Which values other benchmarks' records have chosen."""
    for line in benchmark.chosen:
        typer.echo(line, err=True)


def _why(outcome: "Outcome") -> str:
    from jiant_sparse.benchmark.work import Waiting

    if isinstance(outcome, Waiting):
        return f"not run: {outcome.owner}"
    return f"{outcome.reason}; the same command goes on"


def _boards(log: str | None) -> bool:
    """Whether cells write for TensorBoard. Raises InputError for another log, or without it."""
    from jiant_sparse.host.log import check_tensorboard

    if log is None:
        return False
    if log != "tensorboard":
        raise InputError(f"--log is {log}; it must be tensorboard")
    check_tensorboard()
    return True


def _given(model: str | None, data_dir: str | None) -> dict[str, str]:
    given = {"model": model, "data_dir": data_dir}
    return {key: value for key, value in given.items() if value is not None}


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
