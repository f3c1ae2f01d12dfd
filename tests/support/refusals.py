"""What InputError says, in one line of a test."""

from collections.abc import Callable
from typing import Any

import pytest

from jiant_sparse.errors import InputError


def refusal(call: Callable, *arguments: Any, **options: Any) -> str:
    """The text of the InputError that the call raises."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    return str(caught.value)
