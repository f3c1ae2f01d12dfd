"""Add up the differences of several deltas to one base model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from jiant_sparse.errors import InputError, shown
from jiant_sparse.tuning.places import Writes, read

Conflict = Literal["error", "sum", "mean", "first"]
"""What to do with an entry that several deltas change.

`error`: refuse. `sum`: add the differences up. `mean`: take their mean. `first`: take the first
delta's.
"""


def combine(
    deltas: Mapping[str, Writes],
    weights: Sequence[float],
    on_conflict: Conflict,
    base: Callable[[str], Tensor],
) -> Writes:
    """Base plus the weighted differences of all deltas, rounded once; a delta alone is exact.

    deltas: by their names, what each writes. base: gives the base model's tensor of a name.
    A tensor that trains whole beside the method (a task head) is no difference to the base: its
    values count as they are, without weight.
    Raises InputError for another rule, and for a conflict that the rule does not solve.
    """
    if on_conflict not in get_args(Conflict):
        raise InputError(
            f"on_conflict is {shown(on_conflict)}; it must be one of "
            f"{', '.join(get_args(Conflict))}"
        )
    found = {}
    for name in dict.fromkeys(name for writes in deltas.values() for name in writes):
        parts = [(w, *d[name]) for w, d in zip(weights, deltas.values(), strict=True) if name in d]
        who = " and ".join(key for key, writes in deltas.items() if name in writes)
        weight, index, values = parts[0]
        if len(parts) == 1 and (weight == 1 or index is None):
            found[name] = index, values
        elif index is None:
            found[name] = None, _whole(name, who, [part[2] for part in parts], on_conflict)
        else:
            found[name] = _added(name, who, parts, on_conflict, base(name))
    return found


def _whole(name: str, who: str, values: list[Tensor], on_conflict: Conflict) -> Tensor:
    if on_conflict == "first":
        return values[0]
    if on_conflict == "mean":
        return torch.stack(values).double().mean(0).to(values[0].dtype)
    raise InputError(
        f"{who} both have {name}, which trained whole; on_conflict must be 'first' or 'mean'"
    )


def _added(
    name: str, who: str, parts: Sequence[tuple], on_conflict: Conflict, base: Tensor
) -> tuple[Tensor, Tensor]:
    union = torch.cat([index for _, index, _ in parts]).unique()
    old = read(base, union).cpu()
    alone, total = old.clone(), torch.zeros_like(old, dtype=torch.float64)
    count = torch.zeros_like(union)
    for weight, index, values in parts:
        at = torch.searchsorted(union, index)
        if on_conflict == "first":
            first = count[at] == 0
            at, values = at[first], values[first]
        difference = values.double() - old[at].double()
        total[at] += weight * difference
        # The exact value of an entry that one delta alone changes, with weight 1.
        alone[at] = values if weight == 1 else (old[at].double() + weight * difference).to(old)
        count[at] += 1
    several = count > 1
    if on_conflict == "error" and several.any():
        raise InputError(
            f"{who} change {int(several.sum()):,} entries of {name} both, the first at position "
            f"{int(union[several][0])}; say by on_conflict what to do: sum, mean or first"
        )
    if on_conflict == "mean":
        total /= count
    return union, torch.where(several, (old.double() + total).to(old), alone)
