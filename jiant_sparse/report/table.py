"""A table as the report thinks of it: made once, then rendered as page, Markdown, LaTeX and CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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


@dataclass(frozen=True)
class Table:
    """A table for readers, and its numbers for machines.

    name: the stem of its files. rows: the first cell of each is its head.
    fields, lines: the long form, a line per measured thing, numbers unrounded; None = unknown.
    """

    NAMES: ClassVar = (
        *("results", "published", "verdicts", "significance_pooled", "significance_welch"),
        *("time_to_stop", "step_time", "time_to_best", "parameters", "comparison"),
    )
    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    fields: tuple[str, ...]
    lines: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in self.NAMES:
            raise ValueError(f"table {self.name!r} is not one of {', '.join(self.NAMES)}")
        _check_widths(self.name, len(self.columns), self.rows)
        _check_widths(self.name, len(self.fields), self.lines)


def _check_widths(name: str, width: int, rows: Sequence[Sequence[Any]]) -> None:
    for row in rows:
        if len(row) != width:
            raise ValueError(f"table {name}: a row has {len(row)} cells; it must have {width}")
