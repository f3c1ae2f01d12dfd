"""Sampling without replacement: weighted (`sample`), or uniform (`sample_uniformly`).

Weighted sampling is for Stochastic Tuning (Findings of EMNLP 2024): at every step k weights out of
all, with probabilities proportional to their squared importance. NumPy's choice, which the paper
used, needs ten seconds for RoBERTa-base, and torch.multinomial refuses more than 2^24 entries. One
pass sums up every block of 64 entries; a draw then finds a block by these sums, and an entry by the
weights inside the block.
"""

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import blocks
from jiant_sparse.sparse.blocks import Blocks, Stored, Weights

# Blocks that draws look into at a time: 2 MiB of weights, and as much of cumulative sums.
_ROWS = 1 << 12
# Weighted draws of one round, about 100 bytes each.
_DRAWS = 1 << 20
# Uniform positions drawn in one round, 8 bytes each.
_POSITIONS = 1 << 22
# Where k times this is below the number of positions, sorting k costs less than marking among all.
_FEW = 128
_POWERS = (1, 2)


def sample(
    weights: Mapping[str, Tensor | Weights],
    k: int,
    generator: torch.Generator,
    *,
    power: int = 1,
    short: bool = False,
) -> dict[str, Tensor]:
    """k distinct entries of all tensors together: an index for every name, possibly an empty one.

    weights: float32, bfloat16 or float16, finite and not negative, any shape and device; or
    computed ones. An entry of weight zero is never drawn.
    k: from 0 to the number of positive weights.
    generator: a CPU generator.
    power: 1, or 2 to draw with the squares of the weights, taken in float64: in float32 the square
    of 1e-23 is zero.
    short: draw all positive weights where they are fewer than k, instead of an error.

    The law is that of successive draws: each takes one of the entries not drawn so far, entry i
    with the probability weight_i**power over their sum. Proof: in a stream of independent draws
    with replacement, a draw that is no repeat is, whatever came before it, entry i with just that
    probability; so the distinct entries of a stream of any fixed length are successive draws, and
    a new stream over the entries that are left goes on from there. A round is a stream of as many
    draws as entries are missing, which cannot run past the k-th; after it, the blocks that it hit
    are summed up again without what was drawn. Thus a few entries that hold nearly all the weight
    fill one round with repeats, not all that follow, and weights that vanish beside them in the
    rounding appear once they are gone. What float64 rounds off moves the law of one draw by less
    than 4e-18 per entry in total variation (5e-10 for RoBERTa-base).

    The same weights and seed give the same index with any number of threads and, as sums are added
    up pair by pair in a fixed order, on any device: a CUDA device sums up its blocks and hands over
    those that draws hit, and the rest happens on the CPU.
    Memory besides the result: 16 bytes per block (a quarter of a byte per entry), 100 bytes per
    draw of a round (at most 100 MiB), and some MB. Weights are not copied, except a non-contiguous
    tensor, one at a time.
    Raises InputError for NaN, infinite or negative weights, another dtype, a power that is not
    allowed, and a k that is negative or more than the number of positive weights; NotFinite for
    computed weights that are not finite.
    """
    if power not in _POWERS:
        raise InputError(f"power is {power}; it must be one of {', '.join(map(str, _POWERS))}")
    if k < 0:
        raise InputError(f"k is {k}; it must be at least 0")
    cut = Blocks({name: _source(name, given) for name, given in weights.items()})
    sums = cut.reduce(lambda rows: _row_sums(_raised(rows, power)), torch.float64)
    drawn = torch.empty(0, dtype=torch.int64)
    while drawn.numel() < k:
        if not sums.any():
            if short:
                break
            raise InputError(
                f"k is {k}; it must be at most {drawn.numel()}, the number of positive weights"
            )
        draws = min(k - drawn.numel(), _DRAWS)
        new = _round(cut, sums, drawn, draws, generator, power=power)
        drawn = torch.cat([drawn, new]).sort().values
    return cut.split(drawn)


def sample_uniformly(
    sizes: Mapping[str, int], k: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """k entries of all tensors together, every subset of k being equally likely.

    sizes: number of entries by tensor name, k at most their sum. generator: a CPU generator.
    Returns an index for every name.
    """
    return split(uniform_index(sum(sizes.values()), k, generator), sizes)


def uniform_index(count: int, k: int, generator: torch.Generator) -> Tensor:
    """k of the positions 0..count-1, ascending, uniformly over all subsets of k.

    They are the first k distinct positions in an endless stream of independent uniform positions,
    or the complement of the first count - k if that is smaller. A round never draws more positions
    than are missing, so it cannot run past the k-th, and the size of rounds does not matter.
    """
    if k * _FEW < count:
        return torch.from_numpy(_few_of_many(count, k, generator))
    few = min(k, count - k)
    marked = np.zeros(count, dtype=bool)
    missing = few
    while missing:
        marked[_positions(count, min(missing, _POSITIONS), generator)] = True
        missing = few - int(np.count_nonzero(marked))
    return torch.from_numpy(np.flatnonzero(marked if few == k else ~marked))


def split(index: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Cut an index over the tensors laid end to end into an index for each.

    >>> split(torch.tensor([0, 4]), {"a": 3, "b": 2})
    {'a': tensor([0]), 'b': tensor([1])}
    """
    starts = [0, *itertools.accumulate(sizes.values())]
    lengths = torch.searchsorted(index, torch.tensor(starts)).diff().tolist()
    parts = zip(sizes, index.split(lengths), starts, strict=False)
    return {name: part - start for name, part, start in parts}


def _few_of_many(count: int, k: int, generator: torch.Generator) -> np.ndarray:
    """`uniform_index` for k <= count / 2, in time that does not depend on `count`."""
    drawn = np.empty(0, dtype=np.int64)
    while drawn.size < k:
        fresh = np.sort(_positions(count, min(k - drawn.size, _POSITIONS), generator))
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


def _source(name: str, given: Tensor | Weights) -> Weights:
    if not isinstance(given, Tensor):
        return given
    blocks.check_dtype("weights", name, given)
    if given.numel():
        # NaN if an entry is, which no comparison holds for.
        low, high = given.detach().aminmax()
        if not (low >= 0 and high < float("inf")):
            flat = given.detach().reshape(-1)
            position = int((~(flat >= 0) | flat.isinf()).nonzero()[0])
            raise InputError(
                f"a weight of {name} is {float(flat[position])} at flat position {position}; "
                "it must be finite and not negative"
            )
    return Stored(given)


def _raised(weights: Tensor, power: int) -> Tensor:
    """float64; never the weights themselves."""
    raised = weights.double()
    return raised.square_() if power == 2 else raised


def _row_sums(rows: Tensor) -> Tensor:
    """(n,) from (n, blocks.BLOCK): halves are added until one column is left.

    Additions of pairs have the same rounding on every device, which `sum` does not promise.
    """
    while (half := rows.shape[1] // 2) > 0:
        rows = rows[:, :half] + rows[:, half:]
    return rows.view(-1)


def _round(
    cut: Blocks, sums: Tensor, drawn: Tensor, draws: int, generator: torch.Generator, *, power: int
) -> Tensor:
    """The distinct entries, ascending, among `draws` independent draws of the undrawn entries.

    Updates the sums of their blocks.
    """
    # Ascending marks are quick to look up, and which of the draws comes first does not matter.
    marks = torch.rand(draws, dtype=torch.float64, generator=generator).sort().values
    spots = torch.rand(draws, dtype=torch.float64, generator=generator)
    totals = sums.numpy().cumsum()
    # To the right of equal totals: a block that adds nothing is never hit. Nor does rounding bring
    # the last mark, at most 1 - 2**-53, up to the whole.
    hits = np.searchsorted(totals, marks.numpy() * totals[-1], side="right")
    numbers, counts = torch.from_numpy(hits).unique_consecutive(return_counts=True)
    found, done = [], 0
    for part, count in zip(numbers.split(_ROWS), counts.split(_ROWS), strict=True):
        rows = _raised(cut.rows(part), power)
        _strike(rows, part, drawn)
        row = torch.arange(len(part)).repeat_interleave(count)
        at = row * blocks.BLOCK + _places(rows, row, spots[done : done + len(row)])
        done += len(row)
        rows.view(-1)[at] = 0
        sums[part] = _row_sums(rows)
        at = at.unique()
        found.append(part[at // blocks.BLOCK] * blocks.BLOCK + at % blocks.BLOCK)
    return torch.cat(found)


def _strike(rows: Tensor, numbers: Tensor, drawn: Tensor) -> None:
    """Set the drawn entries to zero in the rows of the blocks with these ascending numbers."""
    ends = torch.stack([numbers[0], numbers[-1] + 1]) * blocks.BLOCK
    first, last = torch.searchsorted(drawn, ends).tolist()
    block, place = drawn[first:last] // blocks.BLOCK, drawn[first:last] % blocks.BLOCK
    row = torch.searchsorted(numbers, block)
    hit = numbers[row] == block
    rows[row[hit], place[hit]] = 0


def _places(rows: Tensor, row: Tensor, spots: Tensor) -> Tensor:
    """A place in each `row`, drawn by the row's weights. spots: uniform in [0, 1), one per place.

    The first place up to which the weights sum up to more than the spot's share of their total, so
    never a place of weight zero. Found by bisection.
    """
    totals = rows.cumsum(1).view(-1)
    start = row * blocks.BLOCK
    shares = spots * totals[start + blocks.BLOCK - 1]
    at, half = start.clone(), blocks.BLOCK // 2
    while half > 0:
        at += half * (totals[at + half - 1] <= shares)
        half //= 2
    return at - start
