"""Sparse gradients for Linear and Embedding without a dense weight gradient.

The output, and the gradient of the input, are torch's own, computed with the frozen tensor in which
the trained entries have been written. A tap on the output computes the gradient of the entries from
the output's gradient g and what the layer has seen:

- linear weight: dL/dW[i, j] = sum over tokens t of g[t, i] x[t, j], at these (i, j) only;
- linear bias: dL/db[i] = sum over t of g[t, i], at these i only;
- embedding: dL/dW[r, c] = sum of g[t, c] over the tokens t with the id r.

Every other module computes the dense gradient, by `SparseWeight.forward`; the two ways differ in
speed and memory only.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from jiant_sparse.sparse import products, recomputation
from jiant_sparse.sparse.parametrizations import SparseWeight, stack_of
from jiant_sparse.sparse.tree import stored

Rule = Callable[[Tensor, Tensor | None], tuple[Tensor | None, ...]]
"""rule(gradient of the output, what the layer has seen): the gradients of the entries."""


def adapt(module: nn.Module) -> None:
    """Replace the forward pass of a parametrized Linear or Embedding by the one of this module.

    It ends with the parametrizations: torch has given the module a class of its own for them.
    """
    forward = FORWARDS.get(parametrize.type_before_parametrizations(module))
    if forward is not None:
        type(module).forward = forward


class _Tap(torch.autograd.Function):
    """The identity on a layer's output; backward, it computes the entries' gradients."""

    @staticmethod
    def forward(ctx, output: Tensor, seen: Tensor | None, rule: Rule, *values: Tensor) -> Tensor:
        ctx.rule = rule
        ctx.recipe = None if seen is None else recomputation.recipe(seen)
        ctx.save_for_backward(None if seen is None or ctx.recipe else seen.detach())
        # Not a view to autograd, so that the next operation may work in place.
        return output.detach()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # In a backward pass gradients are recorded only if it is to be differentiated again. The
        # frozen tensor in the product does not tell autograd that it depends on the values.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a layer whose entries train has no second derivative: create_graph=True is not "
                "supported; take it on a plain model, after surgery.fold"
            )
        (seen,) = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            seen = ctx.recipe() if ctx.recipe else seen
            return gradient, None, None, *ctx.rule(gradient, seen)


# A compiler would break off at the recipes and sparse tensors in here; it calls this as it is.
@torch.compiler.disable
def _linear(module: nn.Linear, input: Tensor) -> Tensor:
    weight, weight_entries = _parts(module, "weight")
    bias, bias_entries = _parts(module, "bias")
    output = functional.linear(input, weight, bias)
    rule = partial(_linear_gradients, weight_entries, bias_entries)
    seen = None if weight_entries is None else input
    return _tapped(output, seen, rule, weight_entries, bias_entries)


@torch.compiler.disable
def _embedding(module: nn.Embedding, input: Tensor) -> Tensor:
    weight, entries = _parts(module, "weight")
    if entries is None or module.scale_grad_by_freq:
        return nn.Embedding.forward(module, input)
    output = functional.embedding(input, weight, module.padding_idx)
    return _tapped(output, input, partial(_embedding_gradients, entries, module), entries)


FORWARDS: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
}


def _parts(module: nn.Module, leaf: str) -> tuple[Tensor, SparseWeight | None]:
    """The tensor that the layer computes with, and its sparse weight, if it has one that trains.

    A tensor with a further parametrization is a function of the entries that is not known here.
    """
    stack = stack_of(module, leaf)
    weight = stack[0] if stack is not None and len(stack) == 1 else None
    if stack is None or not isinstance(weight, SparseWeight):
        return getattr(module, leaf), None
    return weight.write(stored(stack)), weight if weight.values.requires_grad else None


def _tapped(
    output: Tensor, seen: Tensor | None, rule: Rule, *entries: SparseWeight | None
) -> Tensor:
    if not torch.is_grad_enabled() or all(part is None for part in entries):
        return output
    values = [None if part is None else part.values for part in entries]
    return _Tap.apply(output, seen, rule, *values)


def _linear_gradients(
    weight: SparseWeight | None, bias: SparseWeight | None, gradient: Tensor, inputs: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    gradient = gradient.reshape(-1, gradient.shape[-1])
    of_weight = of_bias = None
    if weight is not None and inputs is not None:
        # What autocast has multiplied with the weight is the input in the output's dtype.
        inputs = inputs.reshape(-1, inputs.shape[-1]).to(gradient.dtype)
        of_weight = products.sampled(gradient, inputs, weight).to(weight.values.dtype)
    if bias is not None:
        chosen = gradient.index_select(1, bias.index)
        of_bias = chosen.sum(0, dtype=products.sum_dtype(gradient)).to(bias.values.dtype)
    return of_weight, of_bias


def _embedding_gradients(
    weight: SparseWeight, module: nn.Embedding, gradient: Tensor, ids: Tensor | None
) -> tuple[Tensor]:
    assert ids is not None
    gradient, ids = gradient.reshape(-1, gradient.shape[-1]), ids.reshape(-1)
    # A table of token types has few rows, which many tokens share.
    small = module.num_embeddings <= len(ids)
    by_table = _of_table if small else _of_rows
    return (by_table(weight, module, gradient, ids).to(weight.values.dtype),)


def _of_table(weight: SparseWeight, module: nn.Embedding, gradient: Tensor, ids: Tensor) -> Tensor:
    """By the dense gradient of a table that is no larger than the output."""
    shape = (module.num_embeddings, module.embedding_dim)
    dense = gradient.new_zeros(shape, dtype=products.sum_dtype(gradient))
    dense.index_add_(0, ids, gradient.to(dense.dtype))
    if module.padding_idx is not None:
        dense[module.padding_idx] = 0
    return dense.view(-1)[weight.index]


def _of_rows(weight: SparseWeight, module: nn.Embedding, gradient: Tensor, ids: Tensor) -> Tensor:
    """From the rows of the ids alone: every token has the entries of its id's row."""
    first = weight.row_start[ids].long()
    counts = weight.row_start[ids + 1] - first
    if module.padding_idx is not None:
        counts = counts.masked_fill(ids == module.padding_idx, 0)
    token = torch.arange(len(ids), device=ids.device).repeat_interleave(counts)
    within = torch.arange(len(token), device=ids.device) - (counts.cumsum(0) - counts)[token]
    entry = first[token] + within
    total = gradient.new_zeros(weight.values.shape, dtype=products.sum_dtype(gradient))
    return total.index_add_(0, entry, gradient[token, weight.column[entry]].to(total.dtype))
