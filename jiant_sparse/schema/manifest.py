"""The plan of a benchmark: its cells, written before the first run so that gaps can be seen."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from jiant_sparse import seeds
from jiant_sparse.errors import shown
from jiant_sparse.files import NAME_RULE, is_folder_name, write_text
from jiant_sparse.schema.document import Strict, read_document

SCHEMA_VERSION: Literal[1] = 1
FILE_NAME = "benchmark.json"


def _checked(label: str) -> str:
    if not is_folder_name(label):
        raise ValueError(f"is {shown(label)}; a name has {NAME_RULE}")
    return label


_Label = Annotated[str, AfterValidator(_checked)]


class PlannedCell(Strict):
    """A cell of the plan; its labels are those of the record's `cell`."""

    task: _Label
    method: _Label
    seed: int = Field(ge=0, lt=seeds.LIMIT)

    @property
    def place(self) -> str:
        """The cell's directory below that of its benchmark."""
        return f"{self.task}/{self.method}/seed-{self.seed}"


class Manifest(Strict):
    """The plan of one benchmark. A report keeps the order of `tasks` and `methods`."""

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
            if cell.task not in tasks or cell.method not in methods:
                raise ValueError(f"cell {cell.place} names a task or method that is not listed")
            if cell.place in seen:
                raise ValueError(f"cell {cell.place} is listed twice; each must be listed once")
            seen.add(cell.place)
        return self

    def write(self, directory: Path) -> None:
        """Write `benchmark.json` into `directory`, atomically."""
        write_text(directory / FILE_NAME, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "Manifest":
        """Read the manifest in `directory`.

        Raises InputError that names the file and every problem, also if there is no file.
        """
        return read_document(cls, directory / FILE_NAME)
