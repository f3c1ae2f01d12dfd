"""Chosen entries of a product of two matrices: the gradient of a few weights of a linear layer."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from jiant_sparse.sparse import triton_product
from jiant_sparse.sparse.edits import Entries

# The share of a matrix from which on the whole product takes less time than its chosen entries.
# On the CPU as measured by `bench product`: between 0.21 and 0.24 for all shapes from 384 x 384 to
# 3072 x 768 at 512 tokens and more, later for fewer (docs/benchmarks.md).
DENSE_FROM = 0.22
# On CUDA by an estimate for an H200, nothing has been measured there: a chosen entry costs memory
# traffic, two columns of halves from the L2 cache; one of the whole product a few operations.
_DENSE_FROM_ON_CUDA = {torch.float32: 0.05, torch.bfloat16: 0.003, torch.float16: 0.003}

with warnings.catch_warnings():
    # Said once in a process, of a layout that this module needs: that it is in beta state.
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor([0, 0], [], [], (1, 1), check_invariants=False)


def wide(tensor: Tensor) -> torch.dtype:
    """The dtype that sums over tokens are taken in: at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


def sampled(gradient: Tensor, inputs: Tensor, entries: Entries) -> Tensor:
    """(k,) sum over t of gradient[t, row] inputs[t, column] for each entry of a matrix.

    gradient: (tokens, rows), inputs: (tokens, columns), both of one floating dtype.
    Half precision is summed up in float32, and the result is float32, except that the whole
    product, which is taken where the entries are many, has the operands' dtype.
    """
    share = entries.index.numel() / (gradient.shape[1] * inputs.shape[1])
    return WAYS[way(gradient.device.type, gradient.dtype, share)](gradient, inputs, entries)


def way(device: str, dtype: torch.dtype, share: float) -> str:
    """The name of the fastest of WAYS for a share of a matrix."""
    if device not in ("cpu", "cuda"):
        return "whole"  # all that can be relied on
    on_cuda = _DENSE_FROM_ON_CUDA.get(dtype, DENSE_FROM)
    if share >= (on_cuda if device == "cuda" else DENSE_FROM):
        return "whole"
    return "kernel" if has_kernel(device, dtype) else "operator"


def has_kernel(device: str, dtype: torch.dtype) -> bool:
    """Whether there is a kernel of our own for operands of this kind."""
    return device == "cuda" and dtype in triton_product.HALF and triton_product.available()


def _whole(gradient: Tensor, inputs: Tensor, entries: Entries) -> Tensor:
    return (gradient.t() @ inputs).view(-1)[entries.index]


def _by_kernel(gradient: Tensor, inputs: Tensor, entries: Entries) -> Tensor:
    row = entries.index // inputs.shape[1]
    return triton_product.sampled(gradient, inputs, row, entries.column)


def _by_operator(gradient: Tensor, inputs: Tensor, entries: Entries) -> Tensor:
    """By torch's own, in at least float32. It works on columns, so both operands are turned."""
    gradient, inputs = gradient.to(wide(gradient)), inputs.to(wide(inputs))
    pattern = torch.sparse_csr_tensor(
        entries.row_start,
        entries.column,
        gradient.new_zeros(entries.column.shape),
        (gradient.shape[1], inputs.shape[1]),
        check_invariants=False,
    )
    left, right = _turned(gradient), _turned(inputs).t()
    return torch.sparse.sampled_addmm(pattern, left, right, beta=0).values()


WAYS: dict[str, Callable[[Tensor, Tensor, Entries], Tensor]] = {
    "whole": _whole,
    "kernel": _by_kernel,
    "operator": _by_operator,
}
"""By name; all take what `sampled` takes."""


def _turned(matrix: Tensor) -> Tensor:
    """(n, m) -> (m, n), the entries of a column one after another."""
    if matrix.device.type != "cpu" or matrix.dtype != torch.float32 or matrix.numel() == 0:
        return matrix.t().contiguous()
    # Twice as fast as that, and half of what the product takes is this: torch's only transposition
    # by vector instructions is a shuffle of channels in n groups, here of one pixel of n m of them.
    rows, columns = matrix.shape
    channels = matrix.numel()
    pixel = matrix.contiguous().as_strided((1, channels, 1, 1), (channels, 1, channels, channels))
    return torch.native_channel_shuffle(pixel, rows).as_strided((columns, rows), (rows, 1))
