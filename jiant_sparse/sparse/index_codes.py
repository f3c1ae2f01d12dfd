"""Store ascending positions in the smallest of five codes.

- `bits`, uint8: one bit for each position up to the last, the lowest position first.
- `gaps8`, uint8, and `gaps16`, uint16: the number of positions left out before each position. The
  largest number, 255 or 65535, means "leave out as many and read on": no position follows it.
- `int32` and `int64`: the positions.

For evenly spread positions `bits` is the smallest if more than one in 8 is taken, then `gaps8` down
to one in 370, then `gaps16` down to one in 94,000. At one in 200 `gaps8` takes 1.39 bytes for each
position; no code can take less than 1.14.
"""

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.bits import form

# In the order of preference among equally small codes.
CODES = {
    "bits": torch.uint8,
    "gaps8": torch.uint8,
    "gaps16": torch.uint16,
    "int32": torch.int32,
    "int64": torch.int64,
}
# `max` of these is the number that ends no gap.
_GAPS: dict[str, np.iinfo] = {"gaps8": np.iinfo(np.uint8), "gaps16": np.iinfo(np.uint16)}


def encode(index: Tensor) -> tuple[str, Tensor]:
    """The smallest code's name, and the index in this code, (n,) in the code's dtype.

    index: (k,) int64, ascending from 0 or later, k >= 1; not checked.

    >>> encode(torch.tensor([3, 7000]))
    ('gaps16', tensor([   3, 6996], dtype=torch.uint16))
    """
    positions = index.numpy()
    # Positions between two chosen ones, or before the first.
    gaps = np.diff(positions, prepend=-1) - 1
    last, count = int(positions[-1]), len(positions)
    sizes = {"bits": last // 8 + 1}
    for code, limits in _GAPS.items():
        sizes[code] = CODES[code].itemsize * (count + int((gaps // limits.max).sum()))
    if last < 2**31:
        sizes["int32"] = 4 * count
    sizes["int64"] = 8 * count
    smallest = min(sizes, key=sizes.__getitem__)
    if smallest == "bits":
        return smallest, _to_bits(positions)
    if smallest in _GAPS:
        return smallest, _to_gaps(gaps, smallest)
    return smallest, index.to(CODES[smallest])


def decode(code: str, stored: Tensor, count: int) -> Tensor:
    """The index of `count` positions that `encode` stored, (count,) int64.

    From bits and gaps the result is ascending, whatever was stored; integers come as stored.
    Memory besides the result: at most 10 bytes for each byte stored.
    Raises InputError for an unknown code, and for a tensor that is not `count` positions in it.
    """
    if code not in CODES:
        raise InputError(f"code is {code!r:.40}; it must be one of {', '.join(CODES)}")
    dtype = CODES[code]
    if stored.dtype != dtype or stored.dim() != 1 or stored.numel() == 0:
        allowed = str(dtype).removeprefix("torch.")
        raise InputError(f"{code} are {form(stored)}; they must be {allowed} [n], n >= 1")
    if code == "bits":
        marks = np.unpackbits(stored.numpy(), bitorder="little").view(bool)
    elif code in _GAPS:
        marks = stored.numpy() != _GAPS[code].max
    else:
        marks = np.ones(stored.numel(), dtype=bool)
    # Before anything is made of them: bits can name 64 times as many bytes of positions.
    if (found := np.count_nonzero(marks)) != count:
        raise InputError(f"{code} hold {found} positions; there are {count} values")
    if code == "bits":
        return torch.from_numpy(np.flatnonzero(marks))
    if code in _GAPS:
        return _from_gaps(stored.numpy(), marks)
    return stored.long()


def _to_bits(positions: np.ndarray) -> Tensor:
    marks = np.zeros(int(positions[-1]) + 1, dtype=bool)
    marks[positions] = True
    return torch.from_numpy(np.packbits(marks, bitorder="little"))


def _to_gaps(gaps: np.ndarray, code: str) -> Tensor:
    limits = _GAPS[code]
    escapes, rests = np.divmod(gaps, limits.max)
    ends = np.cumsum(escapes + 1)
    stored = np.full(ends[-1], limits.max, dtype=limits.dtype)
    stored[ends - 1] = rests
    return torch.from_numpy(stored)


def _from_gaps(stored: np.ndarray, ends: np.ndarray) -> Tensor:
    if not ends[-1]:
        raise InputError("gaps stop inside a gap; the last must end with a position")
    left_out = np.cumsum(stored, dtype=np.int64)[ends]
    return torch.from_numpy(left_out + np.arange(len(left_out)))
