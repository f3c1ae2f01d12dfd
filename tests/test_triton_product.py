"""Sampled products against float64 ones, in Triton's interpreter where there is no CUDA device."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from math import ceil
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from jiant_sparse.sparse import triton_product

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# tokens, out, in, k
SHAPES = [
    (1, 1, 1, 1),
    (1, 5, 7, 9),
    (64, 64, 64, 64),
    (130, 96, 33, 101),
    (513, 17, 200, 250),
    (1100, 70, 300, 6),
    # In the interpreter these take minutes.
    *([(1100, 70, 3072, 6), (2048, 3072, 40, 37)] if DEVICE == "cuda" else []),
]
every_dtype = pytest.mark.parametrize(
    "dtype", triton_product.DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch.")
)


@pytest.fixture(scope="module")
def sampled() -> Iterator[Callable[..., Tensor]]:
    """The function, for DEVICE: in Triton's interpreter if there is no CUDA."""
    triton = pytest.importorskip("triton")
    if DEVICE == "cuda":
        yield triton_product.sampled
        return
    # TRITON_INTERPRET is read when a kernel is defined. Triton's own, such as tl.sum, are defined
    # in `standard` when Triton is imported, which transformers has done before any test starts.
    own = triton.language.standard, triton.language
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for module in own:
            importlib.reload(module)
        yield loaded_again().sampled
    for module in own:
        importlib.reload(module)


def loaded_again() -> ModuleType:
    """A second copy of the module, which looks for Triton and its settings anew."""
    specification = importlib.util.find_spec(triton_product.__name__)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def operands(tokens: int, out: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens + out)
    gradient, inputs = (
        torch.randn((tokens, features), generator=generator) for features in (out, width)
    )
    # The scale of gradients; float16 keeps some of it only as subnormal numbers.
    return (gradient * 1e-3).to(DEVICE, dtype), inputs.to(DEVICE, dtype)


def entries(out: int, width: int, k: int) -> tuple[Tensor, Tensor]:
    """k different entries, sorted; the first and the last of the matrix are among them."""
    generator = torch.Generator().manual_seed(k)
    last = out * width - 1
    index = torch.randperm(out * width, generator=generator)[:k]
    index[0], index[-1] = (0, last) if k > 1 else (last, last)
    index = index.unique()
    return tuple(part.to(DEVICE) for part in (index // width, index % width))


def check(result: Tensor, gradient: Tensor, inputs: Tensor, row: Tensor, column: Tensor) -> None:
    """Compares with NumPy in float64, within what float32 sums can lose.

    A sum of depth d is off by at most d * 2^-24 of the sum of magnitudes. A partial sum adds up
    ceil(tokens / 512) products; adding up 512 of those is 9 deep on a GPU and 21 in NumPy, which
    the interpreter calls. Products add one rounding in float32 and none in half precision.
    """
    left, right = (tensor.double().cpu().numpy() for tensor in (gradient, inputs))
    products = left[:, row.cpu().numpy()] * right[:, column.cpu().numpy()]
    allowed = (ceil(len(products) / 512) + 22) * 2.0**-24 * np.abs(products).sum(0)
    assert result.dtype == torch.float32 and result.shape == row.shape
    assert result.device == gradient.device
    assert (np.abs(result.double().cpu().numpy() - products.sum(0)) <= allowed).all()


@every_dtype
@pytest.mark.parametrize(("tokens", "out", "width", "k"), SHAPES)
def test_sampled_is_the_product_of_the_columns(sampled, tokens, out, width, k, dtype):
    """Without a graph, also of a leaf; and nothing that was not written is summed."""
    gradient, inputs = operands(tokens, out, width, dtype)
    row, column = entries(out, width, k)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        assert gradient.new_empty(3).isnan().all()
        result = sampled(gradient, inputs.requires_grad_(), row, column)
    finally:
        torch.use_deterministic_algorithms(False)
    assert not result.requires_grad
    check(result, gradient, inputs.detach(), row, column)


@every_dtype
def test_strides_do_not_matter(sampled, dtype):
    gradient, inputs = operands(2 * 70, 3 * 20, 30, dtype)
    row, column = entries(20, 30, 25)
    row = row.int()  # the two types may be mixed
    strided = gradient[::2, 1::3]
    by_feature = inputs[70:].t().contiguous().t()
    constant = inputs[:1].expand(70, 30)
    for other in (by_feature, constant):
        assert not strided.is_contiguous() and not other.is_contiguous()
        spread = torch.stack([column, column], dim=1)
        result = sampled(strided, other, row, spread[:, 1])
        check(result, strided, other, row, column)
        plain = sampled(strided.contiguous(), other.contiguous(), row, column)
        assert torch.equal(result, plain)


def test_no_entries_and_no_tokens(sampled):
    gradient, inputs = operands(5, 3, 4, torch.bfloat16)
    row, column = entries(3, 4, 6)
    none = sampled(gradient, inputs, row[:0], column[:0])
    assert none.shape == (0,) and none.dtype == torch.float32
    zeros = sampled(gradient[:0], inputs[:0], row, column)
    assert torch.equal(zeros, torch.zeros(len(row), device=DEVICE))


@every_dtype
def test_an_entry_has_the_same_bits_in_every_call_and_company(sampled, dtype):
    gradient, inputs = operands(600, 20, 30, dtype)
    row, column = entries(20, 30, 25)
    result = sampled(gradient, inputs, row, column)
    assert torch.equal(sampled(gradient, inputs, row, column), result)
    assert torch.equal(sampled(gradient, inputs, row[3:], column[3:]), result[3:])
    backwards = sampled(gradient, inputs, row.flip(0), column.flip(0))
    assert torch.equal(backwards.flip(0), result)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": torch.ones(6, 4)}, r"\(5, 3\) and \(6, 4\); they must be \(tokens, out\)"),
        ({"inputs": torch.ones(5)}, r"\(5, 3\) and \(5,\); they must be \(tokens, out\)"),
        ({"inputs": torch.ones(5, 4).half()}, "torch.float32 and torch.float16; they must both"),
        (
            {"gradient": torch.ones(5, 3).double(), "inputs": torch.ones(5, 4).double()},
            "float64 and torch.float64; they must both be one of torch.float32, torch.bfloat16",
        ),
        ({"row": torch.zeros(3, dtype=torch.int64)}, r"\(3,\) and \(2,\); they must both be \(k,"),
        ({"column": torch.zeros(2)}, "torch.int64 and torch.float32; they must be torch.int32"),
        ({"row": torch.zeros(2, dtype=torch.int64, device="meta")}, "on .*meta; .* one device"),
    ],
)
def test_what_does_not_fit_is_refused(sampled, change, message):
    arguments = {
        "gradient": torch.ones(5, 3),
        "inputs": torch.ones(5, 4),
        "row": torch.zeros(2, dtype=torch.int64),
        "column": torch.zeros(2, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=message):
        sampled(**arguments | change)


def some() -> tuple[Tensor, ...]:
    index = torch.zeros(1, dtype=torch.int64)
    return torch.ones(2, 1), torch.ones(2, 1), index, index


def test_cpu_tensors_need_the_interpreter(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="the arguments are on cpu; Triton needs a CUDA device"):
        loaded_again().sampled(*some())


def test_without_triton_the_module_imports_and_says_so(monkeypatch):
    assert triton_product.available() == (importlib.util.find_spec("triton") is not None)
    monkeypatch.setitem(sys.modules, "triton", None)  # makes its import fail
    module = loaded_again()
    assert module.available() is False
    with pytest.raises(RuntimeError, match="needs Triton, which cannot be imported"):
        module.sampled(*some())
