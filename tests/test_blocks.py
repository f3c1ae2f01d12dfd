"""Weights in blocks: what is computed once by pieces and again by blocks, against whole tensors."""

import pytest
import torch
from torch.nn.functional import pad

from jiant_sparse.errors import NotFinite
from jiant_sparse.sparse import blocks
from jiant_sparse.sparse.blocks import Blocks, Product, Rows, Stored

SHAPES = [(1, 1), (3, 7), (5, 16), (64, 1), (65, 3), (7, 64), (130, 48), (4, 100), (9, 130)]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=[8, 1 << 12])
def chunk(request, monkeypatch):
    """Pieces of a few blocks, and such as take a whole tensor."""
    monkeypatch.setattr(blocks, "_CHUNK", {"cpu": request.param * blocks.BLOCK})
    return request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_a_product_has_the_same_bits_by_pieces_and_by_blocks(shape, chunk):
    left, right, factor = random(*shape), random(*shape, seed=1), random(shape[1], seed=2)
    product = Product(torch.nn.Parameter(left), right, factor)
    expected = (left * right * factor).abs().view(-1)
    pieces = [*product.chunks()]
    assert torch.equal(torch.cat(pieces), expected) and not pieces[0].requires_grad
    assert all(len(piece) % 64 == 0 for piece in pieces[:-1])
    assert product.numel() == expected.numel()
    rows = pad(expected, (0, -len(expected) % 64)).view(-1, 64)
    assert torch.equal(product.rows(torch.arange(len(rows))), rows)
    for numbers in (torch.arange(0, len(rows), 2), torch.tensor([len(rows) - 1])):
        assert torch.equal(product.rows(numbers), rows[numbers])


def test_pieces_hold_whole_blocks_of_few_rows(monkeypatch):
    monkeypatch.setattr(blocks, "_CHUNK", {"cpu": 1 << 12})
    product = Product(random(200, 30), random(200, 30), random(30))
    assert [len(piece) for piece in product.chunks()] == [128 * 30, 72 * 30]
    assert len([*Stored(torch.ones(3, 1 << 12)).chunks()]) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_blocks_of_many_tensors(dtype, chunk):
    tensors = {
        "a": random(129).abs().to(dtype),
        "none": torch.zeros(0, 4, dtype=dtype),
        "b": random(8, 16).abs().to(dtype).t(),
        "c": random(1).abs().to(dtype),
    }
    cut = Blocks({name: Stored(tensor) for name, tensor in tensors.items()})
    rows = torch.cat(
        [
            pad(t.reshape(-1), (0, -t.numel() % 64)).view(-1, 64).float()
            for t in tensors.values()
        ]
    )  # fmt: skip
    assert cut.starts.tolist() == [0, 3, 3, 5, 6]
    for numbers in ([], [2], [0, 2, 3], [5], [0, 1, 2, 3, 4, 5]):
        found = cut.rows(torch.tensor(numbers, dtype=torch.int64))
        assert found.dtype == torch.float32 and torch.equal(found, rows[numbers])
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(cut.reduce(lambda r: r.amax(1), dtype), rows.amax(1).to(dtype))
    entries = torch.tensor([0, 128, 192, 319, 320])
    split = {name: index.tolist() for name, index in cut.split(entries).items()}
    assert split == {"a": [0, 128], "none": [], "b": [0, 127], "c": [0]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_found_in_its_tensor(value, chunk):
    weights = torch.ones(20, 30)
    weights[17, 11] = value
    for bad in (Stored(weights), Product(weights, torch.ones(20, 30), torch.ones(30))):
        cut = Blocks({"fine": Stored(torch.ones(65)), "bad": bad, "more": Stored(torch.ones(2))})
        with pytest.raises(NotFinite, match=f"bad is {value} at flat position 521"):
            cut.reduce(lambda rows: rows.sum(1), torch.float64)


def test_rows_of_a_matrix_know_where_they_are():
    part = Rows(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([2, 5]))
    assert part.numel() == 4
    assert part.positions(torch.tensor([0, 1, 3])).tolist() == [4, 5, 11]
    cut = Blocks({"fine": Stored(torch.ones(65)), "some": part})
    assert cut.split(torch.tensor([3, 128, 131]))["some"].tolist() == [4, 11]
    part.tensor[1, 0] = float("inf")
    with pytest.raises(NotFinite, match="^some is inf at flat position 10$"):
        cut.reduce(lambda rows: rows.sum(1), torch.float64)
