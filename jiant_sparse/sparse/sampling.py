"""Entries drawn one after another without replacement, each with a probability of its own.

For Stochastic Tuning (Findings of EMNLP 2024): at every step k weights out of all,
with probabilities proportional to their squared importance. NumPy's choice, which the paper used,
needs ten seconds for RoBERTa-base, and torch.multinomial refuses more than 2^24 entries.

Each tensor is cut into blocks of 64 entries. One pass sums up every block; a draw then finds a
block by these sums, and an entry by the weights inside the block.
"""

from collections.abc import Mapping
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from jiant_sparse.errors import InputError

# Entries of a block, a power of two. Smaller blocks need more memory for their sums, larger ones
# more work for each draw.
_BLOCK = 64
# Weights are summed up in pieces of 2 MiB (float64), which stay in cache between the operations.
_CHUNK = 1 << 18
# Blocks that draws look into at a time: 2 MiB of weights, and as much of cumulative sums.
_ROWS = 1 << 12
# Draws of one round, about 100 bytes each.
_DRAWS = 1 << 20
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_POWERS = (1, 2)


def sample(
    weights: Mapping[str, Tensor], k: int, generator: torch.Generator, *, power: int = 1
) -> dict[str, Tensor]:
    """k distinct entries of all tensors together: an index for every name, possibly an empty one.

    weights: float32, bfloat16 or float16, finite and not negative, any shape and device. An entry
    of weight zero is never drawn.
    k: from 0 to the number of positive weights.
    generator: a CPU generator.
    power: 1, or 2 to draw with the squares of the weights. They are taken in float64: in float32
    the square of 1e-23 is zero.

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
    draw of a round (at most 100 MiB), and some MB. Weights are not copied, but for a non-contiguous
    tensor, one at a time.
    Raises InputError for NaN, infinite or negative weights, another dtype, a power that is not
    allowed, and a k that is negative or more than the number of positive weights.
    """
    if power not in _POWERS:
        raise InputError(f"power is {power}; it must be one of {', '.join(map(str, _POWERS))}")
    if k < 0:
        raise InputError(f"k is {k}; it must be at least 0")
    for name, tensor in weights.items():
        _check(name, tensor)
    blocks = _Blocks(weights, power)
    sums = blocks.sums()
    drawn = torch.empty(0, dtype=torch.int64)
    while drawn.numel() < k:
        if not sums.any():
            raise InputError(
                f"k is {k}; it must be at most {drawn.numel()}, the number of positive weights"
            )
        draws = min(k - drawn.numel(), _DRAWS)
        new = _round(blocks, sums, drawn, draws, generator)
        drawn = torch.cat([drawn, new]).sort().values
    return blocks.split(drawn)


class _Blocks:
    """All tensors cut into blocks, numbered from the first tensor's first to the last one's last.

    A tensor's last block may be short. Entry number e is in block e // _BLOCK, at e % _BLOCK; the
    numbers beyond the end of a short block stay unused.
    """

    def __init__(self, weights: Mapping[str, Tensor], power: int) -> None:
        self.weights = weights
        self.power = power
        lengths = [-(-tensor.numel() // _BLOCK) for tensor in weights.values()]
        # The number of every tensor's first block, and of the block after the last.
        self.starts = torch.tensor([0, *accumulate(lengths)])

    def sums(self) -> Tensor:
        """(blocks,) float64 on the CPU."""
        sums, start = torch.empty(int(self.starts[-1]), dtype=torch.float64), 0
        for tensor in self.weights.values():
            for chunk in tensor.detach().reshape(-1).split(_CHUNK):
                filled = pad(self._raised(chunk), (0, -chunk.numel() % _BLOCK))
                rows = filled.view(-1, _BLOCK)
                sums[start : start + len(rows)] = _row_sums(rows)
                start += len(rows)
        return sums

    def rows(self, numbers: Tensor) -> Tensor:
        """(n, _BLOCK) float64 on the CPU: the weights of n blocks, whose numbers ascend.

        A short block is filled up with zeros.
        """
        rows = torch.zeros(numbers.numel(), _BLOCK, dtype=torch.float64)
        cuts = torch.searchsorted(numbers, self.starts).tolist()
        for tensor, start, (first, last) in zip(
            self.weights.values(), self.starts[:-1], pairwise(cuts), strict=True
        ):
            if first == last:
                continue
            flat = tensor.detach().reshape(-1)
            whole, rest = divmod(flat.numel(), _BLOCK)
            inside = numbers[first:last] - start
            if inside[-1] == whole:
                last -= 1
                rows[last, :rest] = self._raised(flat[-rest:].cpu())
                inside = inside[:-1]
            found = flat[: whole * _BLOCK].view(-1, _BLOCK)[inside.to(flat.device)]
            rows[first:last] = self._raised(found.cpu())
        return rows

    def split(self, entries: Tensor) -> dict[str, Tensor]:
        """The entries with these ascending numbers, as an index for every tensor."""
        starts = self.starts * _BLOCK
        cuts = torch.searchsorted(entries, starts).tolist()
        return {
            name: entries[first:last] - start
            for name, start, (first, last) in zip(
                self.weights, starts[:-1], pairwise(cuts), strict=True
            )
        }

    def _raised(self, weights: Tensor) -> Tensor:
        """float64; never the weights themselves."""
        raised = weights.double()
        return raised.square_() if self.power == 2 else raised


def _check(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        got = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"weights of {name} are {got}; they must be one of {allowed}")
    if tensor.numel() == 0:
        return
    # NaN if an entry is, which no comparison holds for.
    low, high = tensor.detach().aminmax()
    if low >= 0 and high < float("inf"):
        return
    flat = tensor.detach().reshape(-1)
    position = int((~(flat >= 0) | flat.isinf()).nonzero()[0])
    raise InputError(
        f"weights of {name} hold {float(flat[position])} at flat position {position}; "
        "they must be finite and not negative"
    )


def _row_sums(rows: Tensor) -> Tensor:
    """(n,) from (n, _BLOCK): halves are added until one column is left.

    Additions of pairs have the same rounding on every device, which `sum` does not promise.
    """
    while (half := rows.shape[1] // 2) > 0:
        rows = rows[:, :half] + rows[:, half:]
    return rows.view(-1)


def _round(
    blocks: _Blocks, sums: Tensor, drawn: Tensor, draws: int, generator: torch.Generator
) -> Tensor:
    """The distinct entries among `draws` independent ones of those not yet `drawn`, ascending.

    Brings the sums of their blocks up to date.
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
        rows = blocks.rows(part)
        _strike(rows, part, drawn)
        row = torch.arange(len(part)).repeat_interleave(count)
        at = row * _BLOCK + _places(rows, row, spots[done : done + len(row)])
        done += len(row)
        rows.view(-1)[at] = 0
        sums[part] = _row_sums(rows)
        at = at.unique()
        found.append(part[at // _BLOCK] * _BLOCK + at % _BLOCK)
    return torch.cat(found)


def _strike(rows: Tensor, numbers: Tensor, drawn: Tensor) -> None:
    """Set the drawn entries to zero in the rows of the blocks with these ascending numbers."""
    ends = torch.stack([numbers[0], numbers[-1] + 1]) * _BLOCK
    first, last = torch.searchsorted(drawn, ends).tolist()
    block, place = drawn[first:last] // _BLOCK, drawn[first:last] % _BLOCK
    row = torch.searchsorted(numbers, block)
    hit = numbers[row] == block
    rows[row[hit], place[hit]] = 0


def _places(rows: Tensor, row: Tensor, spots: Tensor) -> Tensor:
    """A place in each `row` by the weights there; spots: uniform in [0, 1), one per place.

    It is the first place up to which the weights sum up to more than the spot's share of all of
    them, so never one of weight zero. Found by bisection.
    """
    totals = rows.cumsum(1).view(-1)
    start = row * _BLOCK
    shares = spots * totals[start + _BLOCK - 1]
    at, half = start.clone(), _BLOCK // 2
    while half > 0:
        at += half * (totals[at + half - 1] <= shares)
        half //= 2
    return at - start
