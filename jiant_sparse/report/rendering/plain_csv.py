"""A table's numbers as CSV, for further computing."""

import csv
import io
from typing import Any

from jiant_sparse.report.numbers import printable
from jiant_sparse.report.table import Table

DECIMALS = 6
# Below this, six decimals would lose digits that matter: a p of 3e-8 is not 0.
SMALL = 1e-3
SMALL_DIGITS = 4


def plain_csv(table: Table) -> str:
    """The long form: heads, then a line per measured thing; an empty field is unknown."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.fields)
    for line in table.lines:
        writer.writerow([_plain(value) for value in line])
    return stream.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        if 0 < abs(value) < SMALL:
            return float(f"{value:.{SMALL_DIGITS}g}")
        # The sum turns -0.0 into 0.0.
        return round(value, DECIMALS) + 0.0
    return _safe(value) if isinstance(value, str) else value


def _safe(text: str) -> str:
    """A foreign string on one line that no spreadsheet takes for a formula."""
    shown = printable(text)
    return f"'{shown}" if shown[:1] in ("=", "+", "-", "@") else shown
