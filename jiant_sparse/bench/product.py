"""Chosen entries of the gradient of one weight matrix: from which share on is the whole faster?

`sparse.products` decides by what is measured here. Operands are random; the matrices are those of
the model's linear layers, each shape once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.bench import measure, models
from jiant_sparse.bench.models import Setting, rng
from jiant_sparse.host import model
from jiant_sparse.sparse import products, selection
from jiant_sparse.sparse.parametrizations import SparseWeight

SHARES = (0.0002, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def run(
    setting: Setting, *, repeats: int, notify: Callable[[str], None] = lambda line: None
) -> Iterator[dict[str, Any]]:
    """One row per shape, share and way: milliseconds, and their ratio to the whole product's.

    Operands have batch_size x sequence_length tokens, and the dtype of the setting's precision.
    taken: whether it is the way that a training step goes. notify: is given a line of progress at
    a time.
    """
    tokens = setting.batch_size * setting.sequence_length
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setting.precision]
    for rows, columns in _shapes(setting):
        notify(f"product: {rows} x {columns}")
        gradient, inputs = (
            torch.randn(tokens, size, generator=rng(name)).to(setting.place, dtype)
            for name, size in (("gradient", rows), ("inputs", columns))
        )
        for share in SHARES:
            times = _times(gradient, inputs, share, repeats)
            taken = products.way(setting.place.type, dtype, share)
            for name in times:
                yield {
                    "bench": "product",
                    "contender": name,
                    **{"model": setting.model, "device": setting.place.type},
                    **{"rows": rows, "columns": columns, "tokens": tokens, "share": share},
                    **measure.summary(times[name]),
                    **measure.ratio("whole", times[name], times["whole"]),
                    "taken": name == taken,
                    "repeats": repeats,
                    "precision": setting.precision,
                }


def _times(gradient: Tensor, inputs: Tensor, share: float, repeats: int) -> dict[str, list[float]]:
    weight = torch.zeros(gradient.shape[1], inputs.shape[1])
    index = selection.uniform({"weight": weight.numel()}, share, rng)["weight"]
    entries = SparseWeight(weight.to(gradient.device), index)
    calls = {
        name: partial(way, gradient, inputs, entries)
        for name, way in products.WAYS.items()
        if name != "kernel" or products.has_kernel(gradient.device.type, gradient.dtype)
    }
    return measure.alternate(calls, repeats, synchronize=measure.synchronizer(gradient.device))


def _shapes(setting: Setting) -> list[tuple[int, int]]:
    """(rows, columns) of the linear layers' weights."""
    encoder = model.empty_encoder(models.shape(setting.model))
    linear = (m.weight.shape for m in encoder.modules() if isinstance(m, nn.Linear))
    return sorted({tuple(shape) for shape in linear})
