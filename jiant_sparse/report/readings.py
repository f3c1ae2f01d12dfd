"""What a record says of its method: title and paper, and which reading of the paper ran.

A reading is the text of a paper or its authors' program. The method's own file holds the rules
(`methods/readings.py`); the record holds what they gave.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jiant_sparse.errors import printable
from jiant_sparse.schema.record import Record

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Reading:
    """The reading that a run makes of its method.

    word: a `Word` of `methods/readings.py`; `unknown` for records of schema version 1.
    differences: the fields that keep the run from being one reading, in words.
    """

    word: str
    differences: tuple[str, ...] = ()


def reading_of(record: Record) -> Reading:
    """The reading that the record's method makes of its paper."""
    facts = record.method
    if facts is None:
        return Reading(UNKNOWN, ("not recorded in schema version 1",))
    told = [(d.reading, f"{printable(d.field)} is {_shown(d.value)}") for d in facts.differences]
    left_open = ", ".join(text for reading, text in told if reading == "left open")
    said = [
        text if reading == "neither" else f"{reading}: {text}"
        for reading, text in told
        if reading != "left open"
    ]
    if left_open:
        said.append(f"left open there, here: {left_open}")
    return Reading(facts.reading, tuple(said))


def titles(records: Iterable[Record]) -> list[str]:
    """Title and paper of the records' methods, each pair once; empty if none is recorded."""
    facts = (record.method for record in records)
    found = (f"{item.title} ({item.paper})" for item in facts if item is not None)
    return [*dict.fromkeys(map(printable, found))]


def _shown(value: Any) -> str:
    """As YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return printable(", ".join(map(str, value)) if isinstance(value, list) else value)
