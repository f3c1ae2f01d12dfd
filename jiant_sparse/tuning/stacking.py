"""Add up the differences of several deltas to one base model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from jiant_sparse.errors import InputError, shown
from jiant_sparse.tuning.origin import Writes, read

Conflict = Literal["error", "sum", "mean", "first"]
"""What becomes of an entry that several deltas change: refuse, or take the sum of the differences,
their mean, or the first delta's alone."""


def combine(
    deltas: Mapping[str, Writes],
    weights: Sequence[float],
    on_conflict: Conflict,
    base: Callable[[str], Tensor],
) -> Writes:
    """Base plus the weighted differences of all deltas, rounded once; of one alone, its values.

    deltas: by their names, what each writes. base: gives the base model's tensor of a name.
    A tensor that trained whole (a task head) is no difference; its values have no weight.
    Raises InputError for an unknown rule, and for a conflict that the rule does not solve.
    """
    if on_conflict not in (rules := get_args(Conflict)):
        raise InputError(f"on_conflict is {shown(on_conflict)}; it must be {' or '.join(rules)}")
    found = {}
    for name in dict.fromkeys(name for writes in deltas.values() for name in writes):
        parts = [(w, *d[name]) for w, d in zip(weights, deltas.values(), strict=True) if name in d]
        who = " and ".join(key for key, writes in deltas.items() if name in writes)
        weight, index, values = parts[0]
        if index is not None and (len(parts) > 1 or weight != 1):
            index, values = _added(name, who, parts, on_conflict, base(name))
        elif len(parts) > 1 and on_conflict == "mean":
            values = torch.stack([part[2] for part in parts]).double().mean(0).to(values.dtype)
        elif len(parts) > 1 and on_conflict != "first":
            raise InputError(f"{who}: {name} trained whole; on_conflict must be first or mean")
        found[name] = index, values
    return found


def _added(
    name: str, who: str, parts: Sequence[tuple], on_conflict: Conflict, base: Tensor
) -> tuple[Tensor, Tensor]:
    union = torch.cat([index for _, index, _ in parts]).unique()
    old = read(base, union).cpu()
    exact, total = old.clone(), torch.zeros_like(old, dtype=torch.float64)
    count, weighted = torch.zeros_like(union), torch.zeros_like(union, dtype=torch.bool)
    for weight, index, values in parts:
        at = torch.searchsorted(union, index)
        if on_conflict == "first":
            new = count[at] == 0
            at, values = at[new], values[new]
        total[at] += weight * (values.double() - old[at].double())
        exact[at] = values
        weighted[at] |= weight != 1
        count[at] += 1
    several = count > 1
    if on_conflict == "error" and several.any():
        raise InputError(
            f"{who} both change {int(several.sum()):,} entries of {name}, the first at position "
            f"{int(union[several][0])}; on_conflict must be sum, mean or first"
        )
    if on_conflict == "mean":
        total /= count
    return union, torch.where(several | weighted, (old.double() + total).to(old), exact)
