"""The gradient of chosen entries of one weight matrix: from which share on is the whole faster?

`sparse.products` decides by what is measured here. Operands are random; the matrices have the
shapes of the model's linear layers, each shape once.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from jiant_sparse.bench import measure, models
from jiant_sparse.bench.models import Notify, Setting, rng, silent
from jiant_sparse.host import model
from jiant_sparse.sparse import products, selection
from jiant_sparse.sparse.parametrizations import SparseWeight

SHARES = (0.0002, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def run(setting: Setting, *, repeats: int, notify: Notify = silent) -> Iterator[dict[str, Any]]:
    """One row per shape, share and way: milliseconds, and their ratio to the whole product's.

    Operands have batch_size x sequence_length tokens, and the dtype of the setting's precision.
    taken: whether a training step goes this way. notify: called with lines of progress.
    """
    tokens = setting.batch_size * setting.sequence_length
    place, dtype = setting.place, {"fp32": torch.float32, "bf16": torch.bfloat16}[setting.precision]
    for rows, columns in _shapes(setting):
        notify(f"product: {rows} x {columns}")
        gradient, inputs = (
            torch.randn(tokens, size, generator=rng(name)).to(place, dtype)
            for name, size in (("gradient", rows), ("inputs", columns))
        )
        for share in SHARES:
            index = selection.uniform({"weight": rows * columns}, share, rng)["weight"]
            entries = SparseWeight(torch.zeros(rows, columns, device=place), index)
            calls = {
                name: partial(way, gradient, inputs, entries)
                for name, way in products.WAYS.items()
                if name != "kernel" or products.has_kernel(place.type, dtype)
            }
            times = measure.alternate(calls, repeats, place)
            for name, numbers in measure.numbers(times, "whole").items():
                yield {
                    "bench": "product",
                    "contender": name,
                    "model": setting.model,
                    "device": place.type,
                    "rows": rows,
                    "columns": columns,
                    "tokens": tokens,
                    "share": share,
                    **numbers,
                    "taken": name == products.way(place.type, dtype, share),
                    "precision": setting.precision,
                }


def _shapes(setting: Setting) -> list[tuple[int, int]]:
    """(rows, columns) of the linear layers' weights."""
    encoder = model.empty_encoder(models.shape(setting.model))
    linear = (m.weight.shape for m in encoder.modules() if isinstance(m, nn.Linear))
    return sorted({(rows, columns) for rows, columns in linear})
