"""Options of `jiant-sparse run` and `jiant-sparse grid`, and what two of them stand for."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.errors import InputError

Output = Annotated[Path, typer.Option("--output-dir", help="Where results go.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one key: train.learning_rate=3e-4. Repeat it for others."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")]
Log = Annotated[
    str | None, typer.Option("--log", help="tensorboard: scalars for TensorBoard beside the log.")
]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Instead of the file's data_dir.")]
File = Annotated[Path | None, typer.Option("--config", help="Take settings from this YAML file.")]
Only = Annotated[
    str | None, typer.Option(help="Cells to run: task=cb,method=sam,seed=0 (repeat a key).")
]
Executors = Annotated[
    str, typer.Option(help="local: processes of this machine; ray: tasks of Ray.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster to join, host:port or auto; without it, one starts here."),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Cells at a time; default: as many as the cores or GPUs hold."),
]
GpusPerCell = Annotated[
    float | None, typer.Option(help="Share of a GPU, 0.25 for four cells on each; default: 1.")
]
Seed = Annotated[str, typer.Option(metavar="N", help="Of the random draws, in [0, 2^63).")]
Model = Annotated[str | None, typer.Option("--model", help="Instead of the file's model.")]


def given(model: str | None, data_dir: str | None) -> dict[str, str]:
    """The keys of the file that --model and --data-dir replace."""
    keys = {"model": model, "data_dir": data_dir}
    return {key: value for key, value in keys.items() if value is not None}


def tensorboard(log: str | None) -> bool:
    """Whether cells write for TensorBoard. Raises InputError for another --log, or without it."""
    from jiant_sparse.host.log import check_tensorboard

    if log is None:
        return False
    if log != "tensorboard":
        raise InputError(f"--log is {log}; it must be tensorboard")
    check_tensorboard()
    return True
