"""Non-negative weights of the entries of many tensors, stored or computed, in blocks of 64.

To find a few entries of a whole model, sampling passes over it once, with a number for each block,
and then reads the blocks that these numbers point to. The weights need not be stored for that: a
`Product` computes them piece by piece, and those of few blocks a second time, to the same bits.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate, pairwise
from math import gcd

import torch
from torch import Tensor
from torch.nn.functional import pad

from jiant_sparse.errors import InputError, NotFinite

# Entries of a block, a power of two. Smaller blocks need more memory for their sums, larger ones
# more work for each draw.
BLOCK = 64
# Weights are read in pieces of 1 MiB, which stay in cache between the operations; a CUDA device has
# a kernel to start for each, and takes large ones.
_CHUNK = {"cpu": 1 << 18}
_LARGE_CHUNK = 1 << 24
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Weights(ABC):
    """One number for every entry of a tensor, not negative."""

    @abstractmethod
    def numel(self) -> int:
        """Number of entries."""

    @abstractmethod
    def chunks(self) -> Iterator[Tensor]:
        """Vectors of all numbers in their order; each except the last has whole blocks."""

    @abstractmethod
    def rows(self, numbers: Tensor) -> Tensor:
        """(n, BLOCK): the weights of the blocks with these ascending numbers; 0 past the end."""

    def positions(self, index: Tensor) -> Tensor:
        """(k,) int64: flat positions in the tensor of the entries at `index` of these numbers."""
        return index


class Stored(Weights):
    """Weights stored in a tensor of any shape and device; not copied if it is contiguous."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()

    def numel(self) -> int:
        return self.tensor.numel()

    def chunks(self) -> Iterator[Tensor]:
        yield from self.tensor.reshape(-1).split(_chunk(self.tensor))

    def rows(self, numbers: Tensor) -> Tensor:
        return _rows(self.tensor, numbers)


class Rows(Stored):
    """Stored weights of some rows of a matrix; the weights of the remaining rows are zero.

    tensor: (n, columns). numbers: (n,) int64, the numbers of the rows, ascending.
    """

    def __init__(self, tensor: Tensor, numbers: Tensor) -> None:
        super().__init__(tensor)
        self.numbers = numbers.cpu()

    def positions(self, index: Tensor) -> Tensor:
        columns = self.tensor.shape[1]
        return self.numbers[index // columns] * columns + index % columns


class Product(Weights):
    """|left * right * factor|, rounded to the tensors' dtype after each multiplication.

    left, right: (rows, columns). factor: (columns,), the same for every row.
    """

    def __init__(self, left: Tensor, right: Tensor, factor: Tensor) -> None:
        self.left, self.right, self.factor = left.detach(), right.detach(), factor

    def numel(self) -> int:
        return self.left.numel()

    def chunks(self) -> Iterator[Tensor]:
        # As many rows as make up whole blocks.
        rows = max(_chunk(self.left) // self.left.shape[1] // BLOCK, 1) * BLOCK
        pairs = zip(self.left.split(rows), self.right.split(rows), strict=True)
        for left, right in pairs:
            yield (left * right).mul_(self.factor).abs_().view(-1)

    def rows(self, numbers: Tensor) -> Tensor:
        columns = self.left.shape[1]
        # The columns that a block spans repeat after `period` blocks.
        period = columns // gcd(columns, BLOCK)
        factors = self.factor.repeat(period * BLOCK // columns).view(period, BLOCK)
        left, right = _rows(self.left, numbers), _rows(self.right, numbers)
        return (left * right).mul_(factors[numbers.to(factors.device) % period]).abs_()


def check_dtype(what: str, name: str, tensor: Tensor) -> None:
    """Raise InputError unless the tensor is float32, bfloat16 or float16. what: "scores"."""
    if tensor.dtype not in _DTYPES:
        allowed, got = ", ".join(map(_plain, _DTYPES)), _plain(tensor.dtype)
        raise InputError(f"{what} of {name} are {got}; they must be one of {allowed}")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def pieces(name: str, source: Weights) -> Iterator[Tensor]:
    """The chunks of a tensor's weights. Raises NotFinite for the first that is NaN or infinite."""
    start = 0
    for chunk in source.chunks():
        # NaN if an entry is.
        if chunk.numel() and not chunk.amax().isfinite():
            at = (~chunk.isfinite()).nonzero()[0].cpu()
            position = int(source.positions(start + at))
            raise NotFinite(f"{name} is {float(chunk[at])} at flat position {position}")
        yield chunk
        start += chunk.numel()


class Blocks:
    """All tensors cut into blocks, numbered through in the order of the mapping.

    A tensor's last block may be short. Entry number e is in block e // BLOCK, at e % BLOCK; the
    numbers beyond the end of a short block stay unused.
    """

    def __init__(self, weights: Mapping[str, Weights]) -> None:
        self.weights = weights
        lengths = [-(-source.numel() // BLOCK) for source in weights.values()]
        # The number of every tensor's first block, and of the block after the last.
        self.starts = torch.tensor([0, *accumulate(lengths)])

    def reduce(self, reduce: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
        """(blocks,) on the CPU: `reduce` of each block, short blocks filled with zeros.

        reduce: (n, BLOCK), not to be changed, to (n,) of the dtype.
        Raises NotFinite for a weight that is not finite.
        """
        numbers, start = torch.empty(int(self.starts[-1]), dtype=dtype), 0
        for name, source in self.weights.items():
            for chunk in pieces(name, source):
                missing = -chunk.numel() % BLOCK
                filled = pad(chunk, (0, missing)) if missing else chunk
                reduced = reduce(filled.view(-1, BLOCK))
                numbers[start : start + len(reduced)] = reduced
                start += len(reduced)
        return numbers

    def rows(self, numbers: Tensor) -> Tensor:
        """(n, BLOCK) on the CPU: the weights of the blocks with these ascending numbers.

        Of float32 whatever the weights are; a short block is filled up with zeros.
        """
        rows = torch.empty(numbers.numel(), BLOCK)
        cuts = torch.searchsorted(numbers, self.starts).tolist()
        for source, start, (first, last) in zip(
            self.weights.values(), self.starts[:-1], pairwise(cuts), strict=True
        ):
            if first < last:
                rows[first:last] = source.rows(numbers[first:last] - start)
        return rows

    def split(self, entries: Tensor) -> dict[str, Tensor]:
        """Split ascending entry numbers into an index for every tensor."""
        starts = self.starts * BLOCK
        cuts = torch.searchsorted(entries, starts).tolist()
        return {
            name: source.positions(entries[first:last] - start)
            for (name, source), start, (first, last) in zip(
                self.weights.items(), starts[:-1], pairwise(cuts), strict=True
            )
        }


def _chunk(tensor: Tensor) -> int:
    return _CHUNK.get(tensor.device.type, _LARGE_CHUNK)


def _rows(tensor: Tensor, numbers: Tensor) -> Tensor:
    """(n, BLOCK) of the tensor's dtype and device, as `Weights.rows`."""
    flat, numbers = tensor.reshape(-1), numbers.to(tensor.device)
    whole, rest = divmod(flat.numel(), BLOCK)
    if rest == 0 or numbers[-1] < whole:
        return flat[: whole * BLOCK].view(-1, BLOCK)[numbers]
    found = flat.new_zeros(numbers.numel(), BLOCK)
    found[:-1] = flat[: whole * BLOCK].view(-1, BLOCK)[numbers[:-1]]
    found[-1, :rest] = flat[-rest:]
    return found
