"""Entries drawn uniformly without replacement, exactly, from any number of them."""

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

# Positions drawn in one round, 8 bytes each.
_DRAWS = 1 << 22
# Where k times this is below the number of positions, sorting k costs less than marking among all.
_FEW = 128


def draw(sizes: Mapping[str, int], k: int, generator: torch.Generator) -> dict[str, Tensor]:
    """k entries of all tensors together, every subset of k being equally likely.

    sizes: number of entries by tensor name, k at most their sum. generator: a CPU generator.
    """
    return split(distinct(sum(sizes.values()), k, generator), sizes)


def distinct(count: int, k: int, generator: torch.Generator) -> Tensor:
    """k of the positions 0..count-1, uniformly over all subsets of k.

    These are the first k distinct ones in an endless stream of independent uniform positions, or
    their complement if that is smaller. A round never draws more positions than are missing, so it
    cannot run past the k-th, and the size of the rounds does not matter to the result.
    """
    if k * _FEW < count:
        return torch.from_numpy(_few_of_many(count, k, generator))
    few = min(k, count - k)
    marked = np.zeros(count, dtype=bool)
    missing = few
    while missing:
        marked[_positions(count, min(missing, _DRAWS), generator)] = True
        missing = few - np.count_nonzero(marked)
    return torch.from_numpy(np.flatnonzero(marked if few == k else ~marked))


def _few_of_many(count: int, k: int, generator: torch.Generator) -> np.ndarray:
    """The same for k <= count / 2, in time that does not depend on `count`."""
    drawn = np.empty(0, dtype=np.int64)
    while drawn.size < k:
        fresh = np.sort(_positions(count, min(k - drawn.size, _DRAWS), generator))
        # A stable sort merges two sorted runs. Not np.unique: it hashes, in six times the time.
        merged = np.sort(np.concatenate([drawn, fresh]), kind="stable")
        drawn = merged[np.diff(merged, prepend=-1) > 0]
    return drawn


def _positions(count: int, draws: int, generator: torch.Generator) -> np.ndarray:
    """At most `draws` independent uniform positions in 0..count-1, repeats included."""
    # randint(count) reduces 32 random bits modulo `count`: at 124,645,632 some positions would come
    # up 3 % more often than others. 2**62 divides the generator's range, and the incomplete last
    # round of `count` is thrown away.
    wide = torch.randint(2**62, (draws,), generator=generator).numpy()
    return wide[wide < 2**62 - 2**62 % count] % count


def split(index: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Cut an index over the tensors laid end to end into an index for each."""
    starts = [0, *itertools.accumulate(sizes.values())]
    lengths = torch.searchsorted(index, torch.tensor(starts)).diff().tolist()
    parts = zip(sizes, index.split(lengths), starts, strict=False)
    return {name: part - start for name, part, start in parts}
