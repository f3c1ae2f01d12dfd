"""JSON documents with one schema: read strictly, every problem named."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jiant_sparse.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


def read_document(kind: type[Model], path: Path) -> Model:
    """The document in the file `path`.

    Raises InputError naming the file, and every field that is missing, unknown or of a wrong type.
    """
    try:
        return kind.model_validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InputError(
            *(
                f"{path}: {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}"
                for e in error.errors()
            )
        ) from error
