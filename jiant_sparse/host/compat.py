"""Make unmodified jiant 2.2.0 run on today's Python. docs/jiant.md lists its other defects."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

from jiant_sparse.errors import InputError

JIANT_VERSION = "2.2.0"


def require_jiant() -> None:
    """Raise InputError, with the command that installs it, unless jiant 2.2.0 is installed."""
    try:
        found = importlib.metadata.version("jiant")
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != JIANT_VERSION:
        raise InputError(
            f"jiant is {found or 'not installed'}; it must be {JIANT_VERSION}. "
            f"Run: pip install --no-deps jiant=={JIANT_VERSION}"
        )


@contextmanager
def shims() -> Iterator[None]:
    """Replace one function of jiant for the length of the block.

    `get_annotations` reads `__annotations__`, which since Python 3.10 is empty on a subclass
    without annotations of its own, so that COPA's batches have no fields. Ours reads the fields.
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
