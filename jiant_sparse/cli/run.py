"""`jiant-sparse run` and `jiant-sparse grid`: one cell here, or all of a benchmark in workers."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse.cli.shared import input_errors
from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.benchmark.cell import Benchmark
    from jiant_sparse.benchmark.executors import Executor
    from jiant_sparse.benchmark.executors.choose import Choice
    from jiant_sparse.benchmark.record import Record
    from jiant_sparse.benchmark.work import Outcome
    from jiant_sparse.host.job import Job

Output = Annotated[Path, typer.Option("--output-dir", help="Where results go.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key of the file: train.learning_rate=3e-4."),
]
Log = Annotated[
    str | None, typer.Option("--log", help="tensorboard: scalars for TensorBoard beside the log.")
]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Instead of the file's data_dir.")]
Model = Annotated[str | None, typer.Option("--model", help="Instead of the file's model.")]


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
    log: Log = None,
    set_: Set = None,
) -> None:
    """Run one cell here, in this process, and print its result; Ctrl-C leaves a checkpoint."""
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark import plan, work
    from jiant_sparse.benchmark.executors.choose import with_threads
    from jiant_sparse.benchmark.record import Record, describe

    with input_errors():
        benchmark = config_module.single(
            task,
            method,
            seed,
            config,
            overrides=set_ or (),
            given=_given(model, data_dir),
            output_dir=output_dir,
        )
        (job,) = with_threads(plan.plan(benchmark, output_dir, tensorboard=_boards(log)), 1)
        (state,) = plan.states([job])
        if state == "ok":
            typer.echo("done before; nothing was run", err=True)
            result = plan.read_record(job)
        else:
            plan.write_data([job], output_dir)
            retry = plan.read_record(job) if state == "failed" else None
            result = work.work_here(job, retry=retry, verbose=sys.stderr.isatty())
    if not isinstance(result, Record):
        typer.echo(_why(result), err=True)
        raise typer.Exit(1)
    typer.echo(f"{describe(result)}\n{job.directory}")
    raise typer.Exit(0 if result.status == "ok" else 1)


def grid(
    config: Annotated[Path, typer.Argument(help="A benchmark's YAML file.")],
    output_dir: Output = Path("results"),
    only: Annotated[
        str | None, typer.Option(help="Cells to run: task=cb,method=sam,seed=0 (repeat a key).")
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: processes of this machine; ray: tasks of Ray.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Ray cluster to join, host:port or auto; without it, one starts here."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time; default: as many as the cores or GPUs hold."),
    ] = None,
    gpus_per_cell: Annotated[
        float | None, typer.Option(help="Share of a GPU, 0.25 for four cells on each; default: 1.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    log: Log = None,
    model: Model = None,
    data_dir: DataDir = None,
    set_: Set = None,
) -> None:
    """Run every cell of a benchmark that has no record yet; prints the benchmark's directory.

    Start it again after anything: it goes on. Several at once share the cells.
    """
    from jiant_sparse.benchmark import config as config_module
    from jiant_sparse.benchmark import plan, work
    from jiant_sparse.benchmark.executors.choose import Choice

    choice = Choice(executor, address, workers, gpus_per_cell)
    with input_errors():
        choice.check()
        benchmark = config_module.load(
            config, set_ or (), _given(model, data_dir), output_dir=output_dir
        )
        wanted = plan.parse_only(only)
        jobs = plan.plan(benchmark, output_dir, wanted, tensorboard=_boards(log))
        todo = plan.missing(jobs, retry_failed=retry_failed)
        if dry_run:
            _print_plan(benchmark, jobs, todo, choice, output_dir)
            return
        directories = {job.directory for job in todo}
        before = [job for job in jobs if job.directory not in directories]
        records = _run_missing(benchmark, todo, choice, output_dir, retry=retry_failed)
        for job in before:
            work.tidy(job)
        records += [plan.read_record(job) for job in before]
    _summarise(benchmark, jobs, todo, records)
    typer.echo(output_dir / benchmark.name)
    raise typer.Exit(1 if any(record.status == "failed" for record in records) else 0)


def _run_missing(
    benchmark: "Benchmark", todo: "list[Job]", choice: "Choice", output_dir: Path, *, retry: bool
) -> "list[Record]":
    """Run what is to be run; the records of these cells."""
    from jiant_sparse.benchmark import plan

    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_as_ctrl_c())
        # Ray prints there what its workers meet with; nothing of ours does before the end.
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        if todo:
            todo, executor = choice.make(todo)
            stack.enter_context(contextlib.closing(executor))
        plan.write_manifest(benchmark, output_dir)
        plan.write_data(todo, output_dir)
        return _run_grid(todo, executor, retry) if todo else []


def _run_grid(todo: "list[Job]", executor: "Executor", retry: bool) -> "list[Record]":
    from jiant_sparse.benchmark import grid
    from jiant_sparse.benchmark.record import describe
    from jiant_sparse.cli.progress import Bar
    from jiant_sparse.host import checkpoint

    records: list[Record] = []
    open_cells = {job.directory for job in todo}

    def notify(job: "Job", record: "Record") -> None:
        records.append(record)
        open_cells.discard(job.directory)
        bar.line(f"[{len(records)}/{len(todo)}] {describe(record)}")
        bar.advance()

    def waiting(job: "Job", owner: str) -> None:
        bar.line(f"waiting for {owner}")

    try:
        with Bar(open_cells, len(todo)) as bar:
            grid.run(todo, executor, notify, retry=retry, waiting=waiting)
    except KeyboardInterrupt:
        left = sum(checkpoint.identity(directory) is not None for directory in open_cells)
        typer.echo(
            f"stopped with {len(records)} of {len(todo)} cells ended, {left} have a checkpoint; "
            "the same command goes on",
            err=True,
        )
        raise typer.Exit(1) from None
    return records


def _summarise(
    benchmark: "Benchmark", jobs: "list[Job]", todo: "list[Job]", records: "list[Record]"
) -> None:
    from jiant_sparse.benchmark.record import describe

    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        typer.echo(describe(record), err=True)
    typer.echo(
        f"{benchmark.name}: {len(jobs)} cells, {len(jobs) - len(todo)} ended before, "
        f"{len(todo)} ended now, {len(failed)} failed",
        err=True,
    )


def _print_plan(
    benchmark: "Benchmark",
    jobs: "list[Job]",
    todo: "list[Job]",
    choice: "Choice",
    output_dir: Path,
) -> None:
    from jiant_sparse.benchmark import estimate, plan

    for line in benchmark.chosen:
        typer.echo(line)
    for job, state in zip(jobs, plan.states(jobs), strict=True):
        key = job.cell.key
        typer.echo(f"{key.task}/{key.method}/seed-{key.seed}: {state}")
    # A cluster's number is not known before it is joined.
    workers = choice.count(todo) if todo and choice.address is None else 1
    typer.echo(estimate.describe(estimate.estimate(todo, output_dir, workers)))
    typer.echo(f"{len(jobs)} cells, {len(todo)} to run, {workers} at a time")


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
