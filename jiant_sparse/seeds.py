"""One seed per purpose: nobody draws from a global generator."""

import hashlib
import re

from jiant_sparse.errors import InputError, shown

LIMIT = 2**63


def check(seed: int) -> None:
    """Raise InputError unless the seed is a whole number in [0, 2^63)."""
    if type(seed) is not int or not 0 <= seed < LIMIT:
        raise InputError(f"the seed is {shown(seed)}; it must be a whole number in [0, 2^63)")


def parse(text: str) -> int:
    """The seed that a command line gives in decimal digits; raises InputError as `check`."""
    # int() also takes 1_000, Arabic digits and blanks, and fails with thousands of digits.
    seed = int(text) if re.fullmatch("0|[1-9][0-9]{0,18}", text) else text
    check(seed)
    return seed


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream `names` of a run with `seed`.

    Streams of different names are independent, so adding a layer, a method or a phase moves no
    draw of another one. SHA-256 rather than `hash`, which differs from process to process.
    Raises InputError as `check`.
    """
    check(seed)
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
