"""Which way chosen entries of a product go, and that all ways give the same."""

import numpy as np
import pytest
import torch

from jiant_sparse.sparse import products, triton_product
from jiant_sparse.sparse.parametrizations import SparseWeight

ROWS, COLUMNS, TOKENS = 23, 37, 11


def operands(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(TOKENS, n, generator=generator).to(dtype) for n in (ROWS, COLUMNS))


def some(count: int) -> SparseWeight:
    order = torch.randperm(ROWS * COLUMNS, generator=torch.Generator().manual_seed(2))
    return SparseWeight(torch.zeros(ROWS, COLUMNS), order[:count].sort().values)


@pytest.mark.parametrize(
    ("device", "dtype", "share", "triton", "way"),
    [
        ("cpu", torch.float32, 0.005, True, "operator"),
        ("cpu", torch.bfloat16, 0.005, True, "operator"),
        ("cpu", torch.float32, products.DENSE_FROM, True, "whole"),
        ("cuda", torch.float32, 0.005, True, "operator"),
        ("cuda", torch.float32, 0.1, True, "whole"),
        ("cuda", torch.bfloat16, 0.001, True, "kernel"),
        ("cuda", torch.float16, 0.001, True, "kernel"),
        ("cuda", torch.bfloat16, 0.001, False, "operator"),
        ("cuda", torch.bfloat16, 0.005, True, "whole"),
        ("cuda", torch.float64, 0.1, True, "operator"),
    ],
)
def test_the_way_by_device_dtype_and_share(monkeypatch, device, dtype, share, triton, way):
    monkeypatch.setattr(triton_product, "available", lambda: triton)
    assert products.way(device, dtype, share) == way


def test_the_kernel_is_given_rows_and_columns(monkeypatch):
    gradient, inputs = operands(torch.bfloat16)
    entries, asked = some(9), []
    monkeypatch.setattr(triton_product, "sampled", lambda *arguments: asked.append(arguments))
    products._by_kernel(gradient, inputs, entries)
    ((_, _, row, column),) = asked
    rows, columns = np.unravel_index(entries.index.numpy(), (ROWS, COLUMNS))
    assert row.tolist() == rows.tolist()
    assert column.tolist() == columns.tolist()
