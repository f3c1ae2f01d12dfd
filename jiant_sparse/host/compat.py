"""What jiant 2.2.0, unmodified, needs on today's Python. docs/jiant.md lists its other defects."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from jiant_sparse.errors import InputError

JIANT_VERSION = "2.2.0"
MEND = f"pip install --no-deps jiant=={JIANT_VERSION}"


def require_jiant() -> None:
    """Raise InputError with the command that mends it unless jiant 2.2.0 is installed."""
    try:
        found = importlib.metadata.version("jiant")
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != JIANT_VERSION:
        raise InputError(
            f"jiant is {found or 'not installed'}; it must be {JIANT_VERSION}. Run: {MEND}"
        )


@contextmanager
def shims() -> Iterator[None]:
    """jiant made to run, for the length of the block; afterwards it is as it was.

    `get_annotations` reads `__annotations__`, which since Python 3.10 is empty on a subclass
    without annotations of its own: COPA's batches then have no fields. Here it reads the fields.
    """
    from jiant.utils.python.datastructures import ExtendedDataClassMixin

    original = ExtendedDataClassMixin.__dict__["get_annotations"]
    ExtendedDataClassMixin.get_annotations = classmethod(
        lambda cls: {field.name: field.type for field in dataclasses.fields(cls)}
    )
    try:
        yield
    finally:
        ExtendedDataClassMixin.get_annotations = original
