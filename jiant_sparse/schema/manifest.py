"""Which cells a benchmark consists of: written before the first run, so that a gap can be seen."""

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from jiant_sparse import seeds
from jiant_sparse.errors import shown
from jiant_sparse.files import NAME_RULE, is_folder_name, write_text
from jiant_sparse.schema.document import read_document

SCHEMA_VERSION: Final = 1
FILE_NAME = "benchmark.json"


def _checked(label: str) -> str:
    if not is_folder_name(label):
        raise ValueError(f"is {shown(label)}; a name has {NAME_RULE}")
    return label


_Label = Annotated[str, AfterValidator(_checked)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PlannedCell(_Part):
    """A cell that is to be run; its labels are those of the record's `cell`."""

    task: _Label
    method: _Label
    seed: int = Field(ge=0, lt=seeds.LIMIT)


class Manifest(_Part):
    """The plan of one benchmark. The order of tasks and methods is the order of a report."""

    schema_version: Literal[1] = SCHEMA_VERSION
    benchmark: str
    tasks: list[str]
    methods: list[str]
    cells: list[PlannedCell]

    @model_validator(mode="after")
    def _cells_are_listed_once(self) -> "Manifest":
        for name, labels in (("tasks", self.tasks), ("methods", self.methods)):
            if len(set(labels)) < len(labels):
                raise ValueError(f"{name} names a label twice; each must be named once")
        tasks, methods, seen = set(self.tasks), set(self.methods), set()
        for cell in self.cells:
            key = (cell.task, cell.method, cell.seed)
            where = f"cell {cell.task}/{cell.method}/seed-{cell.seed}"
            if cell.task not in tasks or cell.method not in methods:
                raise ValueError(f"{where} names a task or method that is not listed")
            if key in seen:
                raise ValueError(f"{where} is listed twice; each cell must be listed once")
            seen.add(key)
        return self

    def write(self, directory: Path) -> None:
        """Write `benchmark.json` into `directory`, atomically."""
        write_text(directory / FILE_NAME, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """The manifest in `directory`.

        Raises InputError naming the file and everything that is wrong with it, or that it is
        missing.
        """
        return read_document(cls, directory / FILE_NAME)
