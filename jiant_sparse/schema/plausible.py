"""Values of a record that have the right type, but that no run can have."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiant_sparse.schema.record import Record

LARGEST_NUMBER = 2.0**63


def problems(record: "Record") -> Iterator[str]:
    """Name each impossible value; one of them would spoil every mean of a report."""
    version, facts = record.schema_version, record.method
    if (facts is None) == (version > 1):
        allowed = "required" if version > 1 else "not allowed"
        yield f"method: Field {allowed} in schema version {version}"
    scores: list[tuple[str, Any]] = []
    if record.primary:
        scores += [(f"primary.{name}", v) for name, v in record.primary if name != "name"]
    for phase, metrics in record.metrics.items():
        scores += [(f"metrics.{phase}.{name}", value) for name, value in metrics.items()]
    scores += [(f"history: score at step {step}", value) for step, value in record.history]
    for name, value in scores:
        if value is not None and not -1 <= value <= 1:
            yield f"{name} is {value:g}; it must be a fraction from -1 to 1"
    counts: list[tuple[str, Any]] = [("steps", record.steps), ("best_step", record.best_step)]
    counts += [(f"cost.{name}", value) for name, value in record.cost]
    counts += [(f"params.{name}", value) for name, value in record.params or ()]
    counts += [(f"data.{name}", value) for name, value in record.data or ()]
    counts += [("history: step", step) for step, _ in record.history]
    for name, value in counts:
        if value is not None and not 0 <= value < LARGEST_NUMBER:
            yield f"{name} is {value!r}; it must be from 0 to 2^63"
    differences = [item.value for item in facts.differences] if facts else []
    for name, values in (("settings", record.settings), ("method.differences", differences)):
        # False for NaN and for an integer of 400 digits.
        if not all(abs(number) <= sys.float_info.max for number in _numbers(values)):
            yield f"{name} hold a number that is not finite or too large for a float"


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value
