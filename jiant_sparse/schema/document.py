"""JSON documents with one schema: read strictly, every problem named."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jiant_sparse.errors import InputError
from jiant_sparse.files import read_input

# A record with an evaluation at each of a million steps has as many, and so has a plan of 100,000
# cells with long names.
LARGEST_BYTES = 50_000_000

Model = TypeVar("Model", bound=BaseModel)


def read_document(kind: type[Model], path: Path) -> Model:
    """The document in the file `path`.

    Raises InputError naming the file, and what is missing, unknown or of a wrong type.
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
