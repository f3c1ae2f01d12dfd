"""Types of methods' fields. A type states a range or choice once, for YAML and for direct use."""

import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Interval
from pydantic import ConfigDict, TypeAdapter, ValidationError

from jiant_sparse.errors import shown, suggest

Density = Annotated[float, Interval(gt=0, le=1)]
"""Trained fraction of the encoder's weights."""
Scope = Literal["global", "per_tensor"]
"""Rank all weights together, or the weights of each tensor by themselves."""
Count = Annotated[int, Ge(1)]
"""A number of steps, batches or examples."""

_NAMES = {int: "an integer", float: "a number", bool: "true or false", types.NoneType: "null"}
_BOUNDS = {
    "gt": "above {}",
    "ge": "of at least {}",
    "lt": "below {}",
    "le": "of at most {}",
    "min_length": "that is not empty",
}
# An error names the closest choice where there are more choices than this.
_FEW = 5


def later(default: Any) -> Any:
    """Declare a field that an earlier version of the method did not have.

    At its default the field is left out of a cell's settings, so that older records stay valid.
    """
    return dataclasses.field(default=default, metadata={"later": True})


def later_defaults(kind: Any) -> dict[str, Any]:
    """The defaults of the fields of a method's class that are declared by `later`."""
    return {f.name: f.default for f in dataclasses.fields(kind) if f.metadata.get("later")}


def of(kind: type) -> dict[str, Any]:
    """Each field of a method's class with its declared type, range included."""
    return _declared(kind)


@cache
def _declared(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def values(method: object) -> dict[str, Any]:
    """The values of a method's fields."""
    return {name: getattr(method, name) for name in of(type(method))}


def check(kind: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Check values of fields of `kind`: (the values, what is wrong by field).

    An integer becomes a float where the field is a float. Nothing else is converted: text is not
    a number, and true is not 1. NaN and infinity are never allowed.
    """
    good: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in values.items():
        try:
            good[name] = _adapters(kind)[name].validate_python(value)
        except ValidationError:
            wrong[name] = f"is {shown(value)}; {_advice(value, of(kind)[name])}"
    return good, wrong


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter]:
    config = ConfigDict(strict=True, allow_inf_nan=False)
    return {name: TypeAdapter(hint, config=config) for name, hint in of(kind).items()}


def _advice(value: Any, hint: Any) -> str:
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if len(choices) > _FEW and isinstance(value, str):
        return suggest(value, choices)
    return f"it must be {allowed(hint)}"


def allowed(hint: Any) -> str:
    """Describe the values of a type.

    >>> allowed(Density)
    'a number in (0, 1]'
    >>> allowed(Count | Literal["exact"] | None)
    'an integer of at least 1, exact or null'
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return f"{allowed(args[0])} {_range(args[1:])}"
    if origin is Literal:
        return f"one of {', '.join(args)}" if len(args) > 1 else args[0]
    if origin in (Union, types.UnionType):
        *first, last = map(allowed, args)
        return f"{', '.join(first)} or {last}"
    return "a list of names" if origin is list else _NAMES[hint]


def _range(constraints: tuple[Any, ...]) -> str:
    bounds = {
        name: bound
        for constraint in constraints
        for name in _BOUNDS
        if (bound := getattr(constraint, name, None)) is not None
    }
    if len(bounds) == 1:
        ((name, bound),) = bounds.items()
        return _BOUNDS[name].format(bound)
    low, high = bounds.values()
    return f"in {'(' if 'gt' in bounds else '['}{low}, {high}{']' if 'le' in bounds else ')'}"
