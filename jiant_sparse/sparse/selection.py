"""Which weights train: the entries with the largest scores, or entries drawn by chance.

An index per tensor: a sorted int64 vector of flat positions on the CPU. The count is exact, never
"about p per cent" (but for `bernoulli`, which is there for comparison), and the same scores or the
same seed give the same index on every run.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.blocks import BLOCK, Blocks, Weights

SCOPES = ("global", "per_tensor")

# Scores are read in pieces of 1 MiB (float32), which stay in cache between the operations on them.
_CHUNK = 1 << 18
# Spare room of the candidate pool (k / 2 if that is more): it is cut back to k when this is full.
_SLACK = 1 << 18
# Positions drawn in one round, 8 bytes each.
_DRAWS = 1 << 22
# Where k times this is below the number of positions, sorting k costs less than marking among all.
_FEW = 128
_SCORE_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def budget(count: int, density: float) -> int:
    """floor(count * density), with `density` in (0, 1] read as the decimal that its user wrote.

    In binary floating point 100 * 0.29 is 28.999999999999996, one weight short.
    Raises InputError for a density outside (0, 1].
    """
    check_density(density)
    return int(count * Fraction(repr(float(density))))


def top_k(
    scores: Mapping[str, Tensor], density: float, *, scope: str = "global"
) -> dict[str, Tensor]:
    """The entries with the largest scores: an index for every name, possibly an empty one.

    scores: float32, bfloat16 or float16, any sign, shape and device; infinities are ordered as
    numbers are, and -0.0 equals 0.0. Among equal scores the earlier entry wins, in the order of the
    mapping and then of flat position.
    scope: "global" chooses budget(all entries, density) over all tensors together, "per_tensor"
    budget(n, density) in each tensor of n entries.
    Scores on the meta device have no values and count as equal: the numbers chosen are right.
    Memory besides the result: 6 bytes per chosen entry and some MB. Scores are not copied, but for
    a non-contiguous tensor, one at a time.
    Raises InputError for NaN, another dtype, and a density or scope that is not allowed.
    """
    check_scope(scope)
    for name, tensor in scores.items():
        _check_scores(name, tensor)
    if scope == "global":
        return _largest(scores, budget(sum(map(torch.numel, scores.values())), density))
    chosen = {}
    for name, tensor in scores.items():
        chosen |= _largest({name: tensor}, budget(tensor.numel(), density))
    return chosen


def largest(weights: Mapping[str, Weights], k: int) -> dict[str, Tensor]:
    """The k entries of the largest positive weights: an index for every name, possibly empty.

    weights: stored or computed ones. Among equal ones the earlier entry wins, as in `top_k`. Fewer
    where fewer are positive.
    k blocks have a largest weight that is at least the k-th largest of these maxima; so have the k
    largest entries, and only the blocks that reach up to it are looked into. Memory besides the
    result: 256 bytes per chosen entry, at most 4 per entry of all.
    Raises NotFinite for weights that are not finite.
    """
    cut = Blocks(weights)
    maxima = cut.reduce(lambda rows: rows.amax(1), torch.float32)
    bar = maxima.topk(k).values[-1] if 0 < k < len(maxima) else 0
    numbers = (maxima >= bar).nonzero().view(-1)
    rows = cut.rows(numbers)
    places = _largest({"": rows}, min(k, rows.numel()))[""]
    places = places[rows.view(-1)[places] > 0]
    return cut.split(numbers[places // BLOCK] * BLOCK + places % BLOCK)


def draw(sizes: Mapping[str, int], k: int, generator: torch.Generator) -> dict[str, Tensor]:
    """k entries of all tensors together, every subset of k being equally likely.

    sizes: number of entries by tensor name, k at most their sum. generator: a CPU generator.
    """
    return _split(_draw(sum(sizes.values()), k, generator), sizes)


def uniform(
    sizes: Mapping[str, int],
    density: float,
    rng: Callable[[str], torch.Generator],
    *,
    scope: str = "global",
) -> dict[str, Tensor]:
    """Entries drawn without replacement, every subset of the right size being equally likely.

    sizes: number of entries by tensor name. The counts are those of `top_k`.
    rng: gives the CPU generator of a stream. With scope "global" the stream is "uniform"; with
    "per_tensor" it is the tensor's name, so that adding a layer moves no other tensor's index.
    Raises InputError for a density or scope that is not allowed.
    """
    check_scope(scope)
    if scope == "global":
        return draw(sizes, budget(sum(sizes.values()), density), rng("uniform"))
    return {name: _draw(n, budget(n, density), rng(name)) for name, n in sizes.items()}


def bernoulli(
    sizes: Mapping[str, int], density: float, rng: Callable[[str], torch.Generator]
) -> dict[str, Tensor]:
    """Every entry by itself with probability `density`: the count varies by sqrt(n p (1 - p)).

    Arguments and streams as `uniform` with scope "per_tensor".
    """
    check_density(density)
    chosen = {}
    for name, size in sizes.items():
        drawn = torch.rand(size, dtype=torch.float64, generator=rng(name)) < density
        chosen[name] = drawn.nonzero().view(-1)
    return chosen


def check_density(density: float) -> None:
    """Raise InputError unless 0 < density <= 1."""
    if not 0 < density <= 1:
        raise InputError(f"density is {density}; it must be in (0, 1]")


def check_scope(scope: str) -> None:
    """Raise InputError unless the scope is one of SCOPES."""
    if scope not in SCOPES:
        raise InputError(f"scope is {scope!r}; it must be one of {', '.join(SCOPES)}")


# What `accumulate` can sum up, by the name of the score.
SUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "signed_sum": lambda total, gradient: total.add_(gradient),
    "fisher": lambda total, gradient: total.addcmul_(gradient, gradient),
    "absolute": lambda total, gradient: total.add_(gradient.abs()),
}


def accumulate(
    weights: Mapping[str, Tensor],
    batches: Iterable[None],
    add: Callable[[Tensor, Tensor], object],
) -> dict[str, Tensor]:
    """Sums over batches of what `add(total, gradient)` adds in place, by tensor, from zeros.

    batches: leaves a new gradient in the weights' `.grad` each time, as a probe does; a tensor
    that the loss does not reach (the pooler on WSC) has none and adds nothing.
    """
    totals = {name: torch.zeros_like(weight).detach() for name, weight in weights.items()}
    for _ in batches:
        for name, weight in weights.items():
            if weight.grad is not None:
                add(totals[name], weight.grad)
    return totals


def _check_scores(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in _SCORE_DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _SCORE_DTYPES)
        got = str(tensor.dtype).removeprefix("torch.")
        raise InputError(f"scores of {name} are {got}; they must be one of {allowed}")
    if tensor.is_meta:
        return
    # The maximum is NaN exactly if an entry is, and costs a seventh of isnan().any().
    if tensor.numel() and tensor.detach().amax().isnan():
        position = int(tensor.detach().reshape(-1).isnan().nonzero()[0])
        raise InputError(f"scores of {name} hold NaN at flat position {position}; it has no rank")


def _chunks(tensor: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Pieces of the flattened tensor in float32, each with the flat position where it starts."""
    start = 0
    for chunk in tensor.detach().reshape(-1).split(_CHUNK):
        # Exact for the narrower types; in bfloat16 a comparison would round the other side.
        yield start, chunk.float()
        start += chunk.numel()


def _largest(scores: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    """The k largest entries of all tensors together: find their threshold, then collect them."""
    if k == 0:
        return {name: torch.empty(0, dtype=torch.int64) for name in scores}
    if any(tensor.is_meta for tensor in scores.values()):
        return _split(torch.arange(k), {name: tensor.numel() for name, tensor in scores.items()})
    threshold, ties = _threshold(scores.values(), k)
    chosen = {}
    for name, tensor in scores.items():
        chosen[name], ties = _collect(tensor, threshold, ties)
    return chosen


def _threshold(tensors: Iterable[Tensor], k: int) -> tuple[float, int]:
    """The k-th largest score (k >= 1), and how many scores equal to it are among the k largest.

    One pass with a pool of candidates. Once the pool holds k scores, a score has to exceed the
    `bar`, the k-th largest at the last cut, to come in: what stays out cannot be above the k-th
    largest of all. Each cut reorders the pool once and answers for at least a third of it
    in newcomers, so that no order of the scores, not even an ascending one, is slow.
    """
    tensors = list(tensors)
    slack = max(_SLACK, k // 2)
    total = sum(map(torch.numel, tensors))
    pool = np.empty(min(total, k + slack + _CHUNK), dtype=np.float32)
    size, bar = 0, -float("inf")
    for tensor in tensors:
        for _, chunk in _chunks(tensor):
            entering = chunk if size < k else chunk[chunk > bar]
            pool[size : size + entering.numel()] = entering.cpu().numpy()
            size += entering.numel()
            if size > k + slack:
                pool[:k] = _k_largest(pool[:size], k)
                size, bar = k, float(pool[0])
    largest = _k_largest(pool[:size], k)
    threshold = largest[0]
    return float(threshold), int(np.count_nonzero(largest == threshold))


def _k_largest(values: np.ndarray, k: int) -> np.ndarray:
    """A view of the k largest values, the least of them first. Reorders `values`."""
    values.partition(values.size - k)
    return values[values.size - k :]


def _collect(tensor: Tensor, threshold: float, ties: int) -> tuple[Tensor, int]:
    """Index of the scores above `threshold` and of the first `ties` equal to it; the ties left."""
    parts = []
    for start, chunk in _chunks(tensor):
        chosen = chunk > threshold
        if ties:
            equal = (chunk == threshold).nonzero().view(-1)[:ties]
            chosen[equal] = True
            ties -= equal.numel()
        parts.append(chosen.nonzero().view(-1).cpu() + start)
    return torch.cat(parts), ties


def _draw(count: int, k: int, generator: torch.Generator) -> Tensor:
    """k of the positions 0..count-1, uniformly over all subsets of k.

    These are the first k distinct ones in an endless stream of independent uniform positions, or
    their complement if that is smaller. A round never draws more positions than are missing, so it
    cannot run past the k-th, and the size of the rounds does not matter to the result.
    """
    if k * _FEW < count:
        return torch.from_numpy(_draw_few(count, k, generator))
    few = min(k, count - k)
    marked = np.zeros(count, dtype=bool)
    missing = few
    while missing:
        marked[_positions(count, min(missing, _DRAWS), generator)] = True
        missing = few - np.count_nonzero(marked)
    return torch.from_numpy(np.flatnonzero(marked if few == k else ~marked))


def _draw_few(count: int, k: int, generator: torch.Generator) -> np.ndarray:
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


def _split(index: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Cut an index over the tensors laid end to end into an index for each."""
    starts = [0, *itertools.accumulate(sizes.values())]
    lengths = torch.searchsorted(index, torch.tensor(starts)).diff().tolist()
    parts = zip(sizes, index.split(lengths), starts, strict=False)
    return {name: part - start for name, part, start in parts}
