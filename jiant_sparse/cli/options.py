"""The options that `jiant-sparse run` and `jiant-sparse grid` share."""

from pathlib import Path
from typing import Annotated

import typer

from jiant_sparse.errors import InputError

Output = Annotated[Path, typer.Option("--output-dir", help="Directory for results.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: train.learning_rate=3e-4. May be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would run; write nothing.")]
Log = Annotated[
    str | None, typer.Option("--log", help="tensorboard: also write loss, rate and scores for it.")
]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Replaces the file's data_dir.")]
Model = Annotated[str | None, typer.Option("--model", help="Replaces the file's model.")]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of all random draws, in [0, 2^63).")]


def given(model: str | None, data_dir: str | None) -> dict[str, str]:
    """The settings that --model and --data-dir replace."""
    keys = {"model": model, "data_dir": data_dir}
    return {key: value for key, value in keys.items() if value is not None}


def tensorboard(log: str | None) -> bool:
    """Whether --log asks for TensorBoard. Raises InputError for another value, or without it."""
    from jiant_sparse.host.log import check_tensorboard

    if log is None:
        return False
    if log != "tensorboard":
        raise InputError(f"--log is {log}; it must be tensorboard")
    check_tensorboard()
    return True
