"""One seed per purpose: nobody draws from a global generator."""

import hashlib


def derive(seed: int, *names: str) -> int:
    """A 63-bit seed for the stream `names` of a run with `seed`.

    Streams of different names are independent, so adding a layer, a method or a phase moves no
    draw of another one. SHA-256 rather than `hash`, which differs from process to process.
    """
    text = "\x1f".join((str(seed), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
