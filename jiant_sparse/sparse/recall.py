"""Inputs that need not be kept: autograd has what they were computed from, and they are cheap.

A layer whose weight trains keeps its input for the backward pass. In a transformer most of these
are results of GELU and of layer normalisation, which keep their own input anyway; computing the
result a second time takes about a hundredth of the step and saves most of what would be kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Node = torch.autograd.graph.Node


def recipe(tensor: Tensor) -> Callable[[], Tensor] | None:
    """How to compute `tensor` again during the backward pass; None if it has to be kept.

    To be called in the forward pass. The recipe holds until the backward pass goes through the
    operation that made the tensor, thus for all who have used it.
    """
    node = tensor.grad_fn
    again, field = _AGAIN.get(type(node).__name__, (None, ""))
    if again is None or (again is _layer_norm and tensor.dtype not in _EXACT):
        return None
    # What was kept under hooks (checkpointing, offloading) can be had only once, by autograd. A
    # torch that does not tell is taken for one with hooks.
    if getattr(getattr(node, field), "unpack_hook", "unknown") is not None:
        return None
    return lambda: again(node)


def _gelu(node: Node) -> Tensor:
    return functional.gelu(node._saved_self, approximate=node._saved_approximate)


def _layer_norm(node: Node) -> Tensor:
    # In place from the first difference on: new memory takes longer than the arithmetic.
    result = (node._saved_input - node._saved_result1).mul_(node._saved_result2)
    if node._saved_weight is not None:
        result.mul_(node._saved_weight)
    return result if node._saved_bias is None else result.add_(node._saved_bias)


# By autograd's name of the operation: how, and one of the tensors that it takes for that.
_AGAIN = {
    "GeluBackward0": (_gelu, "_raw_saved_self"),
    "NativeLayerNormBackward0": (_layer_norm, "_raw_saved_input"),
}
# In half precision torch keeps mean and scale rounded, having used them in float32.
_EXACT = (torch.float32, torch.float64)
