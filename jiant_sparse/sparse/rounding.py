"""Values rounded to 16 bits: two bytes each on disk, in their own dtype in memory.

Only float32 and float64 are rounded; tensors of other dtypes stay exact.
"""

import reprlib

import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.bits import bits, form

EXACT = "exact"
ROUNDINGS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_ROUNDED = {"float32": torch.float32, "float64": torch.float64}


def rounded(values: Tensor, rounding: str) -> Tensor:
    """The nearest values that 16 bits hold, in the same dtype.

    float64 is rounded to float32 first. Every NaN becomes the same NaN.
    Raises InputError if a finite value would become infinite.
    """
    new = _cast(encode(values, rounding), values.dtype)
    if len(lost := values[values.isfinite() & ~new.isfinite()]):
        raise InputError(f"{float(lost[0]):g} is too large for {rounding}")
    return new


def encode(values: Tensor, rounding: str) -> Tensor:
    """Values as they are stored: float32 and float64 in the dtype of `rounding` unless "exact"."""
    if rounding == EXACT or values.dtype not in _ROUNDED.values():
        return values
    return _cast(values, ROUNDINGS[rounding])


def decode(stored: Tensor, rounding: str, dtype: str) -> Tensor:
    """Values that `encode` stored, in their own dtype, by name.

    Raises InputError if `encode` cannot have made `stored` from that dtype.
    """
    if dtype not in _ROUNDED or stored.dtype != ROUNDINGS.get(rounding):
        raise InputError(f"are {form(stored)}; {rounding} ones of {dtype:.40} are not stored so")
    return _cast(stored, _ROUNDED[dtype])


def check_name(rounding: object) -> None:
    """Raise InputError unless it is "exact" or the name of a rounding."""
    if rounding not in (allowed := (EXACT, *ROUNDINGS)):
        got = reprlib.repr(rounding)
        raise InputError(f"values are {got}; they must be one of {', '.join(allowed)}")


def check_values(values: Tensor, rounding: str) -> None:
    """Raise InputError unless `encode` loses no bit of the values."""
    if rounding == EXACT:
        return
    if not torch.equal(bits(_cast(encode(values, rounding), values.dtype)), bits(values)):
        raise InputError(f"not all are {rounding}, as the delta says")


def _cast(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in another dtype, with one NaN; as they are if they have this dtype.

    torch's casts make one NaN or another, depending on where it stands among the values.
    """
    if values.dtype == dtype:
        return values
    cast = values.to(dtype)
    return cast.masked_fill_(cast.isnan(), float("nan"))
