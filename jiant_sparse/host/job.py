"""A cell with its checked inputs: everything that a worker needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jiant_sparse.data.prepare import TaskData
from jiant_sparse.errors import InputError
from jiant_sparse.files import sha256
from jiant_sparse.host import model
from jiant_sparse.schema.cell import Cell
from jiant_sparse.schema.record import DELTA, Data

# Phase in a record -> phase of the data.
PHASES: dict[Literal["dev", "test", "train"], str] = {
    "dev": "val",
    "test": "test",
    "train": "train",
}


@dataclass(frozen=True)
class Job:
    """A cell, its data and model, its place on disk, and how to run it.

    directory: of the record and of all other files of the cell. features: folder of the features
    that cells share. threads: CPU threads, at least 1. tensorboard: whether to write its log.
    """

    cell: Cell
    data: TaskData
    source: model.ModelSource
    directory: Path
    features: Path
    threads: int
    tensorboard: bool = False

    @property
    def inputs(self) -> dict[str, str]:
        """SHA-256 of the model and of each data file."""
        return {"model": self.source.sha256, **self.data.sha256}

    @property
    def places(self) -> dict[str, Path]:
        """Path of each of the inputs."""
        return {"model": self.source.path, **self.data.paths}

    @property
    def delta(self) -> Path:
        """Path of the delta."""
        return self.directory / DELTA

    @property
    def rows(self) -> Data:
        """Number of rows by phase, and whether they are the published ones."""
        return Data(
            train=self.data.examples["train"],
            dev=self.data.examples["val"],
            test=self.data.examples["test"],
            published_train_val=self.data.published["train_val"],
            published_test=self.data.published["test"],
        )

    @property
    def identity(self) -> dict[str, Any]:
        """The fields of a record that say what was run."""
        return {
            "cell": self.cell.key,
            "method": self.cell.method_facts,
            "settings": self.cell.settings,
            "settings_hash": self.cell.settings_hash,
            "inputs": self.inputs,
        }

    def check_unchanged(self) -> None:
        """Raise InputError if an input has changed since it was checked, maybe hours ago."""
        now = {name: sha256(path) for name, path in self.data.paths.items()}
        now["model"] = model.digest(self.source.path)
        for name, expected in self.inputs.items():
            if now[name] != expected:
                raise InputError(f"{self.places[name]}: changed since it was checked; start again")
