"""`jiant-sparse data`: get, make, split and check the task data."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jiant_sparse import files, seeds
from jiant_sparse.cli import options
from jiant_sparse.errors import InputError

if TYPE_CHECKING:
    from jiant_sparse.data.tasks import Task

app = typer.Typer(help="Get, make, split and check the task data.", no_args_is_help=True)

DataDir = Annotated[Path, typer.Option("--data-dir", help="Directory to write to.")]
SourceDir = Annotated[Path, typer.Argument(help="Directory of task data, a folder for each task.")]
Split = Annotated[
    str, typer.Option("--split", help="published: the authors' train and dev rows; random: drawn.")
]
PaperTasks = Annotated[
    str | None,
    typer.Option("--tasks", help="Separated by commas. Default: the seven of Fu et al. 2023."),
]
TaskNames = Annotated[
    str | None,
    typer.Option("--tasks", help="Separated by commas. Default: all in the directory."),
]


@app.command()
def fetch(
    data_dir: DataDir = Path("data/tasks"),
    tasks: PaperTasks = None,
    split: Split = "published",
    seed: options.Seed = "0",
) -> None:
    """Download GLUE and SuperGLUE tasks from the hub into jiant's layout."""
    from jiant_sparse.data import fetch as module

    number = seeds.parse(seed)
    files.check_directory(data_dir)
    module.fetch(data_dir, _tasks(tasks), split=split, seed=number)
    typer.echo(f"written to {data_dir}")


@app.command()
def synthesize(
    data_dir: DataDir = Path("data/synthetic"),
    tasks: PaperTasks = None,
    seed: options.Seed = "0",
) -> None:
    """Write small synthetic versions of the seven tasks, the data of the quickstart."""
    from jiant_sparse.data import synthetic

    number = seeds.parse(seed)
    files.check_directory(data_dir)
    synthetic.synthesize(data_dir, _tasks(tasks), seed=number)
    typer.echo(f"written to {data_dir}")


@app.command()
def split(
    source_dir: SourceDir,
    data_dir: Annotated[Path, typer.Argument(help="New directory for the split data.")],
    tasks: TaskNames = None,
    kind: Split = "published",
    seed: options.Seed = "0",
) -> None:
    """Divide the train and val rows of existing data anew; test stays as it is."""
    from jiant_sparse.data.resplit import resplit

    number = seeds.parse(seed)
    files.check_directory(data_dir)
    resplit(source_dir, data_dir, _tasks(tasks, source_dir), split=kind, seed=number)
    typer.echo(f"written to {data_dir}")


@app.command()
def verify(data_dir: SourceDir, tasks: TaskNames = None) -> None:
    """Check files, labels, counts, duplicates and checksums; exit code 2 if one is wrong."""
    from jiant_sparse.data import verify as module

    wanted = _tasks(tasks, data_dir)
    findings = module.verify(data_dir, wanted)
    for note in findings.notes:
        typer.echo(f"note: {note}")
    if findings.errors:
        raise InputError(*findings.errors)
    for phase in module.summary(data_dir, wanted):
        labels = ", ".join(f"{label}: {count}" for label, count in phase.labels.items())
        typer.echo(f"{phase.task}/{phase.phase}: {phase.rows} rows ({labels}) {phase.sha256}")


def _tasks(names: str | None, data_dir: Path | None = None) -> "list[Task]":
    """The tasks of a comma-separated list; without one, those in `data_dir` or the paper's seven.

    Raises InputError for an unknown task, and for a directory without a task.
    """
    from jiant_sparse.data import tasks
    from jiant_sparse.data.split import published_dev_split

    if names is not None:
        return [tasks.find(name.strip()) for name in names.split(",")]
    if data_dir is None:
        return [tasks.find(name) for name in published_dev_split()]
    found = [task for name, task in tasks.TASKS.items() if os.path.isdir(data_dir / name)]
    if not found:
        raise InputError(
            f"{data_dir}: holds no folder of a known task; known: {', '.join(tasks.TASKS)}"
        )
    return found
