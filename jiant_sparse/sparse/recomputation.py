"""Activation recomputation: inputs of layers that the backward pass computes a second time.

A layer whose weight trains keeps its input for the backward pass. In a transformer most inputs are
results of GELU and of layer normalisation, which keep their own input anyway. To compute the result
again takes about a hundredth of a step, and saves most of what would be kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional

from jiant_sparse.sparse._torch_private import is_readable, saved


def recipe(tensor: Tensor) -> Callable[[], Tensor] | None:
    """A function that computes `tensor` again during the backward pass; None if it must be kept.

    To be called in the forward pass. The function works until the backward pass goes through the
    operation that made the tensor, thus for every operation that has used the tensor.
    """
    node = tensor.grad_fn
    again, field = _AGAIN.get(type(node).__name__, (None, ""))
    if node is None or again is None or not is_readable(node, field):
        return None
    if again is _layer_norm and tensor.dtype not in _EXACT:
        return None
    return lambda: again(node)


def _gelu(node: Node) -> Tensor:
    return functional.gelu(saved(node, "self"), approximate=saved(node, "approximate"))


def _layer_norm(node: Node) -> Tensor:
    # In place from the first difference on: new memory takes longer than the arithmetic.
    result: Tensor = (saved(node, "input") - saved(node, "result1")).mul_(saved(node, "result2"))
    weight, bias = saved(node, "weight"), saved(node, "bias")
    if weight is not None:
        result.mul_(weight)
    return result if bias is None else result.add_(bias)


# By autograd's name of the operation: how to compute its result, and one tensor that this reads.
_AGAIN: dict[str, tuple[Callable[[Node], Tensor], str]] = {
    "GeluBackward0": (_gelu, "self"),
    "NativeLayerNormBackward0": (_layer_norm, "input"),
}
# In half precision torch keeps mean and scale rounded, having used them in float32.
_EXACT = (torch.float32, torch.float64)
