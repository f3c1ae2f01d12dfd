"""A table as the report thinks of it: made once, then rendered in every form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pandas as pd

from jiant_sparse.report.numbers import DASH

# quiet: of another experiment, or unknown. alarm: amiss, or worse. good: best, or better.
Tone = Literal["", "quiet", "alarm", "good"]
# The best three of a column are marked, as in the paper.
MARKED = 3


@dataclass(frozen=True)
class Column:
    """A head: its title and a second, smaller line."""

    title: str
    subtitle: str = ""


@dataclass(frozen=True)
class Cell:
    """What stands in one place of a table. No string is escaped; any may come from a record.

    text: the main text; value: what it is sorted by, None = unknown, always last.
    spread: what follows a plus-minus sign. rank, spread_rank: 1 is best; those up to MARKED show.
    note: a second, smaller line.
    """

    text: str = DASH
    value: float | None = None
    rank: int | None = None
    spread: str = ""
    spread_rank: int | None = None
    note: str = ""
    tone: Tone = ""

    @property
    def mark(self) -> int | None:
        """The rank if it is one that shows."""
        return self.rank if self.rank is not None and self.rank <= MARKED else None

    @property
    def spread_mark(self) -> int | None:
        """The rank of the spread if it is one that shows."""
        rank = self.spread_rank
        return rank if rank is not None and rank <= MARKED else None


@dataclass(frozen=True, eq=False)
class Table:
    """A table for readers, and the frame of its numbers for machines.

    name: the stem of its files. rows: the first cell of each is its head.
    data: a row for each measured thing, numbers unrounded, NaN, NA or None = unknown.
    """

    NAMES: ClassVar = [
        "results",
        "published",
        "verdicts",
        "significance_pooled",
        "significance_welch",
        "time_to_stop",
        "step_time",
        "time_to_best",
        "parameters",
        "comparison",
    ]
    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    data: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"table {self.name!r} is not one of {', '.join(self.NAMES)}")
        width = len(self.columns)
        for row in self.rows:
            if len(row) != width:
                raise ValueError(
                    f"table {self.name}: a row has {len(row)} cells; it must have {width}"
                )

    def holds(self, field: str) -> bool:
        """Whether a column of the data is there and has a value."""
        return field in self.data and bool(self.data[field].notna().any())

    def is_numeric(self, index: int) -> bool:
        """Whether a column holds a number; it is then set to the right, words to the left."""
        return index > 0 and any(row[index].value is not None for row in self.rows)


def crossed(results: pd.DataFrame, cell: Callable[[Any], Cell]) -> dict[str, list[Cell]]:
    """The cells of each method, in the order of the tasks.

    cell: makes one from a row (a named tuple) of `results`, which holds every method on every task.
    """
    rows: dict[str, list[Cell]] = {}
    for row in results.itertuples():
        rows.setdefault(row.method, []).append(cell(row))
    return rows


def known(value: Any) -> Any:
    """A number of a frame, or None for NaN and NA."""
    return None if pd.isna(value) else value
