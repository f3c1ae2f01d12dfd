"""Seeds: one per purpose, so that nothing draws from a global generator."""

import hashlib
import re

from jiant_sparse.errors import InputError, shown

LIMIT = 2**63


def check(seed: int) -> None:
    """Raise InputError unless the seed is a whole number in [0, 2^63)."""
    if type(seed) is not int or not 0 <= seed < LIMIT:
        raise _wrong(seed)


def parse(text: str) -> int:
    """The seed that a command line gives in decimal digits. Raises InputError as `check`.

    >>> parse("42")
    42
    """
    # int() alone also takes 1_000, Arabic digits and blanks, and fails on thousands of digits.
    if not re.fullmatch("0|[1-9][0-9]{0,18}", text):
        raise _wrong(text)
    check(int(text))
    return int(text)


def _wrong(seed: object) -> InputError:
    return InputError(f"the seed is {shown(seed)}; it must be a whole number in [0, 2^63)")


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream `names` of a run with `seed`.

    Streams with different names are independent, so a new layer, method or phase changes no draw
    of another stream. SHA-256, because `hash` differs between processes. Raises InputError as
    `check`.
    """
    check(seed)
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
