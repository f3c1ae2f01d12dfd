"""Weighted draws without replacement, as Stochastic Tuning makes them at every step.

k entries of all weights of the encoder, with probabilities proportional to the squared gradient of
one batch: ours; the exponential race, torch's top-k of weight / Exp(1), which draws by the same law
but for the rounding of float32; and NumPy's choice, which the paper used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.bench import measure, models
from jiant_sparse.bench.models import Setting, rng
from jiant_sparse.sparse import sampling, surgery


def run(
    setting: Setting,
    *,
    k: int,
    repeats: int,
    peers: bool = False,
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """One row per contender: milliseconds of a draw, and their ratio to ours.

    k: entries to draw. peers: whether to time NumPy's choice as well, once. notify: is given a line
    of progress at a time. Raises InputError for a k that is more than the positive weights.
    """
    notify("sample: weights")
    weights = _importance(setting)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: sampling.sample(weights, k, rng("draw"), power=2),
        "exponential_race": lambda: exponential_race(weights, k),
    }
    notify(f"sample: {repeats} rounds")
    wait = measure.synchronizer(setting.place)
    times = measure.alternate(calls, repeats, synchronize=wait)
    shared = setting.fields() | {
        "k": k,
        "eligible_weights": sum(map(torch.numel, weights.values())),
    }
    for name in calls:
        yield _row(name, times, shared)
    if peers:
        notify("sample: numpy_choice")
        calls = {"ours": calls["ours"], "numpy_choice": lambda: numpy_choice(weights, k)}
        times = measure.alternate(calls, 1, warmup=0, synchronize=wait)
        yield _row("numpy_choice", times, shared)


def _row(
    name: str, times: Mapping[str, Sequence[float]], shared: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "bench": "sample",
        "contender": name,
        **shared,
        **measure.summary(times[name]),
        **measure.ratio("ours", times[name], times["ours"]),
        "repeats": len(times[name]),
    }


def exponential_race(weights: Mapping[str, Tensor], k: int) -> Tensor:
    """(k,) int64, unordered: entries number i of all tensors laid end to end."""
    squares = torch.cat([weight.flatten() for weight in weights.values()]).square_()
    generator = torch.Generator(squares.device).manual_seed(0)
    waits = torch.empty_like(squares).exponential_(generator=generator)
    return squares.div_(waits).topk(k, sorted=False).indices


def numpy_choice(weights: Mapping[str, Tensor], k: int) -> np.ndarray:
    """(k,) int64, in the order drawn: entries number i of all tensors laid end to end."""
    flat = torch.cat([weight.flatten().double() for weight in weights.values()]).square_()
    chances = (flat / flat.sum()).cpu().numpy()
    return np.random.default_rng(0).choice(chances.size, k, replace=False, p=chances)


def _importance(setting: Setting) -> dict[str, Tensor]:
    """|gradient| of one batch."""
    model = models.build(setting)
    model.loss().backward()
    return {name: weight.grad.abs_() for name, weight in surgery.eligible(model.encoder).items()}
