"""A cell with its checked inputs: all that a worker needs. Light: imports no jiant."""

from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.benchmark.cell import Cell
from jiant_sparse.data.prepare import TaskData
from jiant_sparse.host.model import ModelSource


@dataclass(frozen=True)
class Job:
    """A cell, what it reads, and its place on disk."""

    cell: Cell
    data: TaskData
    source: ModelSource
    directory: Path

    @property
    def inputs(self) -> dict[str, str]:
        """sha256 of what the cell reads."""
        return {"model": self.source.sha256, **self.data.sha256}
