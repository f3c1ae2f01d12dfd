"""JSON documents with a schema: read strictly, with every problem named."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from jiant_sparse.errors import InputError
from jiant_sparse.files import read_input

# Enough for a record with a million evaluations, or a plan of 100,000 cells with long names.
LARGEST_BYTES = 50_000_000


class Strict(BaseModel):
    """A document or a part of one: no value is converted, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Model = TypeVar("Model", bound=BaseModel)


def read_document(kind: type[Model], path: Path) -> Model:
    """Read the document in the file `path`.

    Raises InputError that names the file and every missing, unknown or mistyped key.
    """
    try:
        return kind.model_validate_json(read_input(path, LARGEST_BYTES), strict=True)
    except ValidationError as error:
        raise InputError(
            *(
                f"{path}: {'.'.join(map(str, e['loc'])) or 'file'}: "
                + e["msg"].removeprefix("Value error, ")
                for e in error.errors(include_url=False, include_input=False)
            )
        ) from error
