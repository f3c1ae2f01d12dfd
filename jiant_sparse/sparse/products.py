"""Chosen entries of a product of two matrices: the gradient of a few weights of a linear layer."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from jiant_sparse.sparse import triton_product
from jiant_sparse.sparse._torch_private import transposed
from jiant_sparse.sparse.parametrizations import SparseWeight

# The share of a matrix from which on the whole product takes less time than its chosen entries.
# On the CPU as measured by `bench product`: between 0.21 and 0.24 for all shapes from 384 x 384 to
# 3072 x 768 at 512 tokens and more, later for fewer (docs/benchmarks.md).
DENSE_FROM = 0.22
# On CUDA by an estimate for an H200, nothing has been measured there: a chosen entry costs memory
# traffic, two columns of halves from the L2 cache; one of the whole product a few operations.
_DENSE_FROM_ON_CUDA = {torch.float32: 0.05, torch.bfloat16: 0.003, torch.float16: 0.003}

with warnings.catch_warnings():
    # torch warns once in a process that the CSR layout is in beta state.
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def sum_dtype(tensor: Tensor) -> torch.dtype:
    """The dtype in which sums over tokens are taken: at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def sampled(gradient: Tensor, inputs: Tensor, weight: SparseWeight) -> Tensor:
    """(k,) sum over t of gradient[t, row] inputs[t, column] for each trained entry of a matrix.

    gradient: (tokens, rows), inputs: (tokens, columns), both of one floating dtype.
    Half precision is summed in float32, and the result is float32; the whole product, which is
    taken where the entries are many, has the operands' dtype.
    """
    share = weight.index.numel() / (gradient.shape[1] * inputs.shape[1])
    return WAYS[way(gradient.device.type, gradient.dtype, share)](gradient, inputs, weight)


def way(device: str, dtype: torch.dtype, share: float) -> str:
    """The name of the fastest of WAYS for a share of a matrix."""
    if device not in ("cpu", "cuda"):
        return "whole"  # works on every device
    on_cuda = _DENSE_FROM_ON_CUDA.get(dtype, DENSE_FROM)
    if share >= (on_cuda if device == "cuda" else DENSE_FROM):
        return "whole"
    return "kernel" if has_kernel(device, dtype) else "operator"


def has_kernel(device: str, dtype: torch.dtype) -> bool:
    """Whether `triton_product` takes operands of this kind."""
    return device == "cuda" and dtype in triton_product.HALF and triton_product.available()


def _whole(gradient: Tensor, inputs: Tensor, weight: SparseWeight) -> Tensor:
    return (gradient.t() @ inputs).view(-1)[weight.index]


def _by_kernel(gradient: Tensor, inputs: Tensor, weight: SparseWeight) -> Tensor:
    row = weight.index // inputs.shape[1]
    return triton_product.sampled(gradient, inputs, row, weight.column)


def _by_operator(gradient: Tensor, inputs: Tensor, weight: SparseWeight) -> Tensor:
    """By torch's operator, in at least float32; it reads columns, so both operands are turned."""
    dtype = sum_dtype(gradient)
    gradient, inputs = gradient.to(dtype), inputs.to(dtype)
    pattern = torch.sparse_csr_tensor(
        weight.row_start,
        weight.column,
        gradient.new_zeros(weight.column.shape),
        (gradient.shape[1], inputs.shape[1]),
        check_invariants=False,
    )
    left, right = transposed(gradient), transposed(inputs).t()
    return torch.sparse.sampled_addmm(pattern, left, right, beta=0).values()


WAYS: dict[str, Callable[[Tensor, Tensor, SparseWeight], Tensor]] = {
    "whole": _whole,
    "kernel": _by_kernel,
    "operator": _by_operator,
}
"""By name; the arguments and result are those of `sampled`."""
