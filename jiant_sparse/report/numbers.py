"""Numbers and foreign strings as a reader meets them.

An unknown number, None or NaN, is a dash and never 0.
"""

import unicodedata
from typing import Any

import pandas as pd

from jiant_sparse import units

# A float or an integer; None, NaN or NA where it is unknown.
Number = Any
DASH = "–"
MINUS = "−"


def fixed(value: Number, digits: int) -> str:
    """`value` with `digits` decimals and a true minus sign."""
    if pd.isna(value):
        return DASH
    text = f"{value:.{digits}f}"
    # A small negative number would round to "-0.0".
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def signed(value: Number, digits: int) -> str:
    """A difference: its sign is always shown, unless it rounds to nothing."""
    text = fixed(value, digits)
    return text if pd.isna(value) or value < 0 or float(text) == 0 else f"+{text}"


def probability(p: Number, digits: int = 3) -> str:
    """A p that never reads as 0; with two digits, as printed elsewhere, "<0.005"."""
    least = 10.0**-digits
    if not pd.isna(p) and p < least / 2:
        return f"<{least:.{digits}f}" if digits > 2 else f"<{least / 2:.{digits + 1}f}"
    return fixed(p, digits)


def percent(value: Number) -> str:
    """A share in percent, so that 99.998 never reads as all and 0.003 never as none."""
    if pd.isna(value):
        return DASH
    if value in (0, 100):
        return f"{value:.0f}"
    if value < 0.1:
        return f"{value:.2g}" if value >= 0.0001 else "<0.0001"
    return f"{value:.2f}" if value < 99.995 or value > 100 else ">99.99"


def count(value: Number) -> str:
    """A count with thin spaces between thousands; a mean of counts is rounded."""
    return DASH if pd.isna(value) else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def seconds(value: Number) -> str:
    """A duration in the unit that keeps it short."""
    if pd.isna(value):
        return DASH
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def size(value: Number) -> str:
    """A number of bytes in powers of 1000."""
    return DASH if pd.isna(value) else units.size(value)


def printable(text: str) -> str:
    """`text` on one line and without characters that command a terminal."""
    spaced = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in spaced)


def sentence(text: str) -> str:
    """A title, closed by a full stop if it is not closed already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
