"""Compare two deltas of one model, tensor by tensor."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.bits import bits, flat, form
from jiant_sparse.sparse.delta import Delta


@dataclass(frozen=True)
class DiffRow:
    """One tensor of two deltas.

    only_a, only_b, both: numbers of entries that one delta or both have. equal: of both, those with
    equal values.

    max_difference: of both, the largest absolute difference; 0.0 if all are equal in their bits,
    NaN if one of two different values is NaN.
    """

    name: str
    only_a: int
    only_b: int
    both: int
    equal: int
    max_difference: float


def diff(a: Delta, b: Delta) -> list[DiffRow]:
    """One row for each tensor in either delta. A new tensor counts with all its entries.

    A new tensor of two different shapes or dtypes has no entry in both.
    Raises InputError if the deltas belong to different bases.
    """
    for name in a.base | b.base:
        if a.base.get(name) != b.base.get(name):
            raise InputError(f"the deltas belong to different bases: {name} differs")
    none = (torch.empty(0, dtype=torch.int64), torch.empty(0))
    names = a.entries | b.entries
    rows = [_compare(name, a.entries.get(name, none), b.entries.get(name, none)) for name in names]
    return rows + [_compare_new(name, a.new.get(name), b.new.get(name)) for name in a.new | b.new]


def _compare(name: str, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> DiffRow:
    common, at_a, at_b = np.intersect1d(a[0], b[0], assume_unique=True, return_indices=True)
    x, y = a[1][at_a], b[1][at_b]
    unequal = bits(x) != bits(y)
    gaps = (x[unequal].double() - y[unequal].double()).abs()
    largest = float(gaps.max()) if len(gaps) else 0.0
    both = len(common)
    return DiffRow(name, len(a[0]) - both, len(b[0]) - both, both, both - len(gaps), largest)


def _compare_new(name: str, a: Tensor | None, b: Tensor | None) -> DiffRow:
    if a is not None and b is not None and form(a) == form(b):
        index = torch.arange(a.numel())
        return _compare(name, (index, flat(a)), (index, flat(b)))
    only_a, only_b = (0 if tensor is None else tensor.numel() for tensor in (a, b))
    return DiffRow(name, only_a, only_b, both=0, equal=0, max_difference=0.0)
