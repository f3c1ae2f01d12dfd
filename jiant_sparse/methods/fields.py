"""Types of methods' fields. A type states a range or choice once, for YAML and for direct use."""

import dataclasses
import json
import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Interval
from pydantic import ConfigDict, TypeAdapter

from jiant_sparse.errors import shown, suggest

Density = Annotated[float, Interval(gt=0, le=1)]
"""Trained fraction of the encoder's weights."""
Scope = Literal["global", "per_tensor"]
"""Rank all weights together, or the weights of each tensor by themselves."""
Count = Annotated[int, Ge(1)]
"""A number of steps, batches or examples."""

_NAMES = {
    int: "an integer",
    float: "a finite number",
    bool: "true or false",
    str: "text",
    types.NoneType: "null",
    list[str]: "a list of names",
}
_BOUNDS = {
    "gt": "above {}",
    "ge": "of at least {}",
    "lt": "below {}",
    "le": "of at most {}",
    "multiple_of": "that is a multiple of {}",
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
    return {f.name: f.default for f in _fields(kind) if f.metadata.get("later")}


def defaults(kind: Any) -> dict[str, Any]:
    """The defaults of the fields of a method's class; a field without one is left out."""
    made = {f.name: f.default_factory() for f in _fields(kind) if callable(f.default_factory)}
    given = {f.name: f.default for f in _fields(kind) if f.default is not dataclasses.MISSING}
    return made | given


def required(kind: Any) -> list[str]:
    """The fields of a method's class that have no default."""
    return [name for name in of(kind) if name not in defaults(kind)]


def _fields(kind: Any) -> tuple[dataclasses.Field, ...]:
    # A method without fields may do without the decorator.
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def of(kind: type) -> dict[str, Any]:
    """Each field of a method's class with its declared type, range included."""
    return _declared(kind)  # mypy does not take a class for the Hashable that a cache wants


@cache
def _declared(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in _fields(kind)}


def values(method: object) -> dict[str, Any]:
    """The values of a method's fields."""
    return {name: getattr(method, name) for name in of(type(method))}


def check(kind: type, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Check values of fields of `kind`: (the values, what is wrong by field).

    An integer becomes a float where the field is a float, NumPy's integers and floats become
    Python's, and a tuple becomes a list where the field is a list. Nothing else is converted: text
    is not a number, and true is not 1. NaN and infinity are never allowed.
    """
    good: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, value in values.items():
        try:
            plain = json.dumps(value, default=_python)
            good[name] = _adapters(kind)[name].validate_json(plain)
        except (TypeError, ValueError):
            wrong[name] = f"is {shown(value)}; {_advice(value, of(kind)[name])}"
    return good, wrong


def _python(number: Any) -> int | float:
    import numpy as np  # heavy: `status` reads records without it

    if isinstance(number, np.integer):
        return int(number)
    if isinstance(number, np.floating):
        return float(number)
    raise TypeError("neither plain nor a number of NumPy")


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter]:
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return {name: TypeAdapter(hint, config=config) for name, hint in of(kind).items()}


def _advice(value: Any, hint: Any) -> str:
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if len(choices) > _FEW and isinstance(value, str):
        return suggest(value, map(str, choices))
    return f"it must be {allowed(hint)}"


def allowed(hint: Any) -> str:
    """Describe the values of a type.

    >>> allowed(Density)
    'a number in (0, 1]'
    >>> allowed(Count | Literal["exact"] | None)
    "an integer of at least 1, 'exact' or null"
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _within(allowed(args[0]), args[1:])
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}" if len(args) > 1 else repr(args[0])
    if origin in (Union, types.UnionType):
        *first, last = map(allowed, args)
        return f"{', '.join(first)} or {last}"
    if hint in _NAMES:
        return _NAMES[hint]
    return f"of type {hint if origin else getattr(hint, '__name__', hint)}"


def _within(what: str, constraints: tuple[Any, ...]) -> str:
    """Add the bounds that are known; other constraints go unsaid."""
    bounds = {
        name: bound
        for name in _BOUNDS
        for constraint in constraints
        if (bound := getattr(constraint, name, None)) is not None
    }
    low, high = [n for n in bounds if n in ("gt", "ge")], [n for n in bounds if n in ("lt", "le")]
    if low and high:
        start, end = "(" if low == ["gt"] else "[", "]" if high == ["le"] else ")"
        first, last = bounds.pop(low[0]), bounds.pop(high[0])
        # What lies between two bounds is finite.
        what = f"{what.replace('finite ', '')} in {start}{first}, {last}{end}"
    return " ".join([what, *(_BOUNDS[name].format(bound) for name, bound in bounds.items())])
