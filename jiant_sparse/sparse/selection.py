"""Which weights train: the entries with the largest scores, or entries drawn by chance.

A choice is an index for each tensor: a sorted int64 vector of flat positions on the CPU. The number
of entries is exact, never "about p per cent" (but for `bernoulli`, which is there for comparison).
The same scores or the same seed give the same index on every run.

>>> top_k({"a": torch.tensor([1.0, 4.0]), "b": torch.tensor([3.0, 2.0])}, density=0.5)
{'a': tensor([1]), 'b': tensor([0])}
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import blocks, sampling
from jiant_sparse.sparse.blocks import Stored, Weights

SCOPES = ("global", "per_tensor")

# Scores are read in pieces of 1 MiB (float32), which stay in cache between the operations on them.
_CHUNK = 1 << 18
# Spare room of the candidate pool (k / 2 if that is more): it is cut back to k when this is full.
_SLACK = 1 << 18


def budget(count: int, density: float) -> int:
    """floor(count * density), with `density` in (0, 1] read as the decimal that its user wrote.

    In binary floating point 100 * 0.29 is 28.999999999999996, one weight short.
    Raises InputError for a density outside (0, 1].

    >>> budget(100, 0.29)
    29
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
    Memory besides the result: 6 bytes per chosen entry and some MB. Scores are not copied, except a
    non-contiguous tensor, one at a time.
    Raises InputError for NaN, another dtype, and a density or scope that is not allowed.
    """
    check_scope(scope)
    for name, tensor in scores.items():
        _check_scores(name, tensor)
    if scope == "global":
        return _top(scores, budget(sum(map(torch.numel, scores.values())), density))
    chosen: dict[str, Tensor] = {}
    for name, tensor in scores.items():
        chosen |= _top({name: tensor}, budget(tensor.numel(), density))
    return chosen


def top_positive(
    scores: Mapping[str, Tensor], density: float, *, scope: str = "global"
) -> dict[str, Tensor]:
    """`top_k` without the entries whose score is not positive; possibly fewer entries."""
    chosen = top_k(scores, density, scope=scope)
    for name, index in chosen.items():
        if not scores[name].is_meta:
            values = scores[name].detach().reshape(-1)[index.to(scores[name].device)]
            chosen[name] = index[values.cpu() > 0]
    return chosen


def most_important(
    scores: Mapping[str, Tensor], density: float, *, scope: str = "global"
) -> dict[str, Tensor]:
    """`top_k` for scores in which 0 says that an entry does not matter.

    With scope "per_tensor" no entry is chosen in a tensor without any positive score, such as the
    pooler on WSC, which the loss does not reach.
    Raises InputError if fewer scores than are to be chosen are positive: position would decide the
    rest of the choice.
    """
    if density == 1:
        return top_k(scores, density, scope=scope)
    chosen = top_positive(scores, density, scope=scope)
    groups = {"": list(scores)} if scope == "global" else {f" of {name}": [name] for name in scores}
    for where, names in groups.items():
        count = sum(scores[name].numel() for name in names)
        k, positive = budget(count, density), sum(chosen[name].numel() for name in names)
        if positive < k and (positive or scope == "global"):
            raise InputError(
                f"{positive:,} of {count:,} scores{where} are positive, but k is {k:,}: the choice "
                "of the rest would be arbitrary"
            )
    return chosen


def largest(weights: Mapping[str, Weights], k: int) -> dict[str, Tensor]:
    """The k entries of the largest positive weights: an index for every name, possibly empty.

    weights: stored, or computed: these are computed twice, and never stored. Among equal weights
    the earlier entry wins, as in `top_k`. Fewer than k entries where fewer weights are positive.
    Raises NotFinite for a weight that is not finite.
    """
    checked = (piece for item in weights.items() for piece in blocks.pieces(*item))
    return _largest(weights, k, checked, positive=True)


def largest_mask(scores: Tensor, fraction: float) -> Tensor:
    """Mask of the ceil(fraction * numel) largest scores; among equal scores the first win.

    scores: any shape and device, which are those of the mask; without values on the meta device.
    fraction: in (0, 1), read as the decimal that its user wrote.
    """
    if scores.is_meta:
        return torch.empty_like(scores, dtype=torch.bool)
    flat = scores.reshape(-1)
    # In floating point 100 * 0.07 is 7.000000000000001, one entry too many.
    count = math.ceil(flat.numel() * Fraction(repr(float(fraction))))
    threshold = flat.kthvalue(flat.numel() - count + 1).values
    mask = flat > threshold
    ties = (flat == threshold).nonzero().view(-1)
    mask[ties[: count - int(mask.sum())]] = True
    return mask.view(scores.shape)


def uniform(
    sizes: Mapping[str, int],
    density: float,
    rng: Callable[[str], torch.Generator],
    *,
    scope: str = "global",
) -> dict[str, Tensor]:
    """Entries drawn without replacement, every subset of the right size being equally likely.

    sizes: number of entries by tensor name. The numbers drawn are those of `top_k`.
    rng: gives the CPU generator of a stream. With scope "global" the stream is "uniform"; with
    "per_tensor" it is the tensor's name, so that adding a layer moves no other tensor's index.
    Raises InputError for a density or scope that is not allowed.
    """
    check_scope(scope)
    if scope == "global":
        total = budget(sum(sizes.values()), density)
        return sampling.sample_uniformly(sizes, total, rng("uniform"))
    return {
        name: sampling.uniform_index(size, budget(size, density), rng(name))
        for name, size in sizes.items()
    }


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


# What `accumulate` can sum up, by the name of the score: of a batch's gradient and its weight.
SUMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "signed_sum": lambda total, gradient, weight: total.add_(gradient, alpha=weight),
    "fisher": lambda total, gradient, weight: total.addcmul_(gradient, gradient, value=weight),
    "absolute": lambda total, gradient, weight: total.add_(gradient.abs(), alpha=weight),
}


def accumulate(
    weights: Mapping[str, Tensor],
    batches: Iterable[float],
    add: Callable[[Tensor, Tensor, float], object],
) -> dict[str, Tensor]:
    """Sums over batches by tensor, from 0, to which `add(total, gradient, weight)` adds in place.

    batches: yields each batch's weight, its share of a full batch's examples, and leaves the
    batch's mean gradient in the weights' `.grad`, as a probe does. A tensor that the loss does not
    reach (the pooler on WSC) has no gradient and adds nothing.
    """
    totals = {name: torch.zeros_like(weight).detach() for name, weight in weights.items()}
    for share in batches:
        for name, weight in weights.items():
            if weight.grad is not None:
                add(totals[name], weight.grad, share)
    return totals


def _check_scores(name: str, tensor: Tensor) -> None:
    blocks.check_dtype("scores", name, tensor)
    if tensor.is_meta:
        return
    # The maximum is NaN exactly if an entry is, and costs a seventh of isnan().any().
    if tensor.numel() and tensor.detach().amax().isnan():
        position = int(tensor.detach().reshape(-1).isnan().nonzero()[0])
        raise InputError(f"scores of {name} hold NaN at flat position {position}; it has no rank")


def _top(scores: Mapping[str, Tensor], k: int) -> dict[str, Tensor]:
    if any(tensor.is_meta for tensor in scores.values()):
        return sampling.split(torch.arange(k), {n: tensor.numel() for n, tensor in scores.items()})
    stored = {name: Stored(tensor) for name, tensor in scores.items()}
    pieces = (piece for source in stored.values() for piece in source.chunks())
    return _largest(stored, k, pieces, positive=False)


def _largest(
    weights: Mapping[str, Weights], k: int, pieces: Iterable[Tensor], *, positive: bool
) -> dict[str, Tensor]:
    """The k largest entries of all tensors: find their threshold, then collect them.

    pieces: the weights once, for the first pass. positive: leave out entries that are not.
    """
    total = sum(source.numel() for source in weights.values())
    k = min(k, total)
    if k == 0:
        return {name: torch.empty(0, dtype=torch.int64) for name in weights}
    threshold, ties = _threshold(pieces, k, total)
    if positive and threshold <= 0:
        ties = 0
    chosen = {}
    for name, source in weights.items():
        index, ties = _collect(source, threshold, ties)
        chosen[name] = source.positions(index)
    return chosen


def _in_float32(pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """The numbers of all pieces in their order, in smaller pieces."""
    for chunk in (part for piece in pieces for part in piece.split(_CHUNK)):
        # Exact for the narrower types; in bfloat16 a comparison would round the other side.
        yield chunk.float()


def _threshold(pieces: Iterable[Tensor], k: int, total: int) -> tuple[float, int]:
    """The k-th largest score (k >= 1), and how many scores equal to it are among the k largest.

    One pass with a pool of candidates. Once the pool holds k scores, a score has to exceed the
    `bar`, the k-th largest at the last cut, to come in: what stays out cannot be above the k-th
    largest of all. Each cut reorders the pool once and answers for at least a third of it
    in newcomers, so that no order of the scores, not even an ascending one, is slow.
    """
    slack = max(_SLACK, k // 2)
    pool = np.empty(min(total, k + slack + _CHUNK), dtype=np.float32)
    size, bar = 0, -float("inf")
    for chunk in _in_float32(pieces):
        entering = chunk if size < k else chunk[_positions(chunk, operator.gt, bar)]
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


def _collect(source: Weights, threshold: float, ties: int) -> tuple[Tensor, int]:
    """Index of the scores above `threshold` and of the first `ties` equal to it; the ties left."""
    parts, start = [], 0
    for chunk in _in_float32(source.chunks()):
        index = _positions(chunk, operator.gt, threshold)
        if ties:
            equal = _positions(chunk, operator.eq, threshold)[:ties]
            index = torch.cat([index, equal]).sort().values
            ties -= equal.numel()
        parts.append(index.cpu() + start)
        start += chunk.numel()
    return torch.cat(parts), ties


def _positions(scores: Tensor, compare: Callable[[Any, float], Any], bar: float) -> Tensor:
    """(n,) int64, ascending: where float32 scores, a vector, compare so with `bar`."""
    if scores.is_cpu:  # where numpy takes a tenth of torch's time
        return torch.from_numpy(np.flatnonzero(compare(scores.numpy(), bar)))
    return compare(scores, bar).nonzero().view(-1)
