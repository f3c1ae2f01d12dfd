"""`selection.largest`, with which TopTuning chooses, against a stable sort."""

import numpy as np
import pytest
import torch
from support.models import end_to_end

from jiant_sparse.errors import NotFinite
from jiant_sparse.sparse import selection
from jiant_sparse.sparse.blocks import Product, Stored
from jiant_sparse.sparse.selection import largest


def sort(weights: dict[str, np.ndarray], k: int) -> dict[str, list[int]]:
    """The first k of the positive ones by a stable sort, largest first."""
    flat = end_to_end(weights.values())
    order = np.argsort(-flat, kind="stable")[:k]
    chosen = np.sort(order[flat[order] > 0])
    starts = np.cumsum([0, *(values.size for values in weights.values())])
    return {
        name: [int(p - start) for p in chosen if start <= p < end]
        for name, start, end in zip(weights, starts, starts[1:], strict=False)
    }


def lists(chosen: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    assert all(index.dtype == torch.int64 for index in chosen.values())
    return {name: index.tolist() for name, index in chosen.items()}


@pytest.mark.parametrize("k", [0, 1, 6, 7, 300, 901, 5_000])
@pytest.mark.parametrize("ties", [False, True])
def test_largest_is_a_stable_sort(k, ties):
    generator = torch.Generator().manual_seed(k)
    left, right = torch.randn(20, 30, generator=generator), torch.randn(20, 30, generator=generator)
    weights = {
        "a": torch.rand(200, generator=generator),
        "none": torch.zeros(0),
        "zeros": torch.zeros(70),
        "b": torch.rand(10, 13, generator=generator) * (torch.arange(13) % 2),
        "one": torch.tensor(0.5),
    }
    if ties:
        left, right = left.round(), right.sign()
        weights = {name: (values * 4).round() for name, values in weights.items()}
    factor = torch.arange(30.0)
    sources = {name: Stored(values) for name, values in weights.items()}
    sources["product"] = Product(left, right, factor)
    expected = {name: values.numpy() for name, values in weights.items()}
    expected["product"] = (left * right * factor).abs().numpy()
    assert lists(largest(sources, k)) == sort(expected, k)


def test_large_pieces_are_cut_and_wide_matrices_have_some(monkeypatch):
    """One row block of a wide matrix is more than `selection` reads at a time."""
    monkeypatch.setattr(selection, "_CHUNK", 100)
    monkeypatch.setattr(selection, "_SLACK", 2)
    left = torch.rand(70, 50, generator=torch.Generator().manual_seed(0))
    wide = Product(left, torch.ones(70, 50), torch.linspace(-1, 1, 50))
    expected = (left * torch.linspace(-1, 1, 50)).abs().numpy()
    for k in (1, 7, 120, 3000, 3500):
        assert lists(largest({"w": wide}, k)) == sort({"w": expected}, k)


def test_equal_ones_are_taken_from_the_front():
    ones = {"a": Stored(torch.ones(100)), "b": Stored(torch.ones(2, 65))}
    assert lists(largest(ones, 3)) == {"a": [0, 1, 2], "b": []}
    assert lists(largest(ones, 101)) == {"a": [*range(100)], "b": [0]}
    assert lists(largest(ones, 230)) == {"a": [*range(100)], "b": [*range(130)]}
    assert lists(largest({"z": Stored(torch.zeros(70))}, 5)) == {"z": []}


def test_an_importance_that_is_no_number_has_no_rank():
    bad = torch.ones(100)
    bad[70] = float("nan")
    with pytest.raises(NotFinite, match="w is nan at flat position 70"):
        largest({"v": Stored(torch.ones(3)), "w": Stored(bad)}, 2)
