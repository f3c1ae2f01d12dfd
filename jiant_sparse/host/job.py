"""A cell with its checked inputs: all that a worker needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jiant_sparse.data.prepare import TaskData
from jiant_sparse.errors import InputError
from jiant_sparse.files import sha256
from jiant_sparse.host import model
from jiant_sparse.schema.cell import Cell
from jiant_sparse.schema.record import DELTA, Data

# Phase in a record -> phase of the data.
PHASES = {"dev": "val", "test": "test", "train": "train"}


@dataclass(frozen=True)
class Job:
    """A cell, what it reads, its place on disk, and how it is run.

    directory: of the record and all else that the cell leaves. features: folder of the features
    that cells share. threads: of the CPU, at least 1. tensorboard: whether a log is written for it.
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
        """sha256 of what the cell reads."""
        return {"model": self.source.sha256, **self.data.sha256}

    @property
    def places(self) -> dict[str, Path]:
        """Where each of the inputs lies."""
        return {"model": self.source.path, **self.data.paths}

    @property
    def delta(self) -> Path:
        """Where the cell leaves what training changed."""
        return self.directory / DELTA

    @property
    def rows(self) -> Data:
        """What a record says of the rows that the cell was given."""
        rows = {name: self.data.examples[phase] for name, phase in PHASES.items()}
        whose = {f"published_{part}": is_so for part, is_so in self.data.published.items()}
        return Data(**rows, **whose)

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
        """Raise InputError if an input is not what was checked: hours may lie between."""
        now = {name: sha256(path) for name, path in self.data.paths.items()}
        now["model"] = model.digest(self.source.path)
        for name, expected in self.inputs.items():
            if now[name] != expected:
                raise InputError(f"{self.places[name]}: changed since it was checked; start again")
