"""Weighted draws without replacement, as Stochastic Tuning makes them at every step.

k entries of all weights of the encoder are drawn with probabilities proportional to the squared
gradient of one batch. Contenders: this package's draw; the exponential race, torch's top-k of
weight / Exp(1), which has the same law up to the rounding of float32; and NumPy's choice, which the
paper used.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jiant_sparse.bench import measure, models
from jiant_sparse.bench.models import Notify, Setting, rng, silent
from jiant_sparse.sparse import sampling, surgery


def run(
    setting: Setting, *, k: int, repeats: int, peers: bool = False, notify: Notify = silent
) -> Iterator[dict[str, Any]]:
    """One row per contender: milliseconds of a draw, and their ratio to `ours`.

    k: entries to draw. peers: whether to time NumPy's choice too, once. notify: called with lines
    of progress. Raises InputError if fewer than k weights are positive.
    """
    notify("sample: weights")
    weights = _importance(setting)
    calls: dict[str, Callable[[], object]] = {
        "ours": lambda: sampling.sample(weights, k, rng("draw"), power=2),
        "exponential_race": lambda: exponential_race(weights, k),
    }
    notify(f"sample: {repeats} rounds")
    times = measure.alternate(calls, repeats, setting.place)
    rows = measure.numbers(times, "ours")
    if peers:
        notify("sample: numpy_choice")
        calls = {"ours": calls["ours"], "numpy_choice": lambda: numpy_choice(weights, k)}
        once = measure.alternate(calls, 1, setting.place, warmup=0)
        rows["numpy_choice"] = measure.numbers(once, "ours")["numpy_choice"]
    shared = {"k": k, "eligible_weights": sum(map(torch.numel, weights.values()))}
    for name, numbers in rows.items():
        yield {"bench": "sample", "contender": name} | setting.fields() | shared | numbers


def exponential_race(weights: Mapping[str, Tensor], k: int) -> Tensor:
    """(k,) int64, unordered: positions in all tensors laid end to end."""
    squares = torch.cat([weight.flatten() for weight in weights.values()]).square_()
    generator = torch.Generator(squares.device).manual_seed(0)
    waits = torch.empty_like(squares).exponential_(generator=generator)
    return squares.div_(waits).topk(k, sorted=False).indices


def numpy_choice(weights: Mapping[str, Tensor], k: int) -> np.ndarray:
    """(k,) int64, in the order drawn: positions in all tensors laid end to end."""
    flat = torch.cat([weight.flatten().double() for weight in weights.values()]).square_()
    chances = (flat / flat.sum()).cpu().numpy()
    return np.random.default_rng(0).choice(chances.size, k, replace=False, p=chances)


def _importance(setting: Setting) -> dict[str, Tensor]:
    """|gradient| of one batch."""
    model = models.build(setting)
    weights = surgery.eligible(model.encoder)
    gradients = torch.autograd.grad(model.loss(), [*weights.values()])
    return {name: gradient.abs_() for name, gradient in zip(weights, gradients, strict=True)}
