"""Importance of each weight for a batch, |mu theta g|, for Stochastic Tuning.

Akbar-Tajari and Pilehvar, Findings of EMNLP 2024, section 2.2: theta is the weight, g its gradient,
and mu the average over the batch of the value that the connection carries, which is the activation
of the neuron that it starts from. Unfolded, a network is made of connections of four kinds:

- weight (i, j) of a linear layer carries feature j of the layer's input, for every i;
- row r of an embedding carries 1 for a token whose id is r, and 0 for any other token;
- weight j of a layer normalisation carries the normalised feature j;
- a bias carries 1.

The average is over the positions (tokens, or rows where the layer sees one vector for each) of all
forward passes of a step: its micro-batches, COPA's two passes, and all modules that share a weight.
It is taken of what training sees, dropout included.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from jiant_sparse.errors import InputError
from jiant_sparse.sparse._torch_private import in_backward
from jiant_sparse.sparse.blocks import Product, Rows, Stored, Weights
from jiant_sparse.sparse.tree import check_no_max_norm, keep_hooks, remove_hooks

MEANS = ("signed", "absolute")
_PURPOSE = "importance"


class Importance:
    """Collects mu in every forward pass in training mode, and multiplies.

    encoder: of linear layers, embeddings and layer normalisations.
    mean: `signed`, or `absolute` for the mean of the absolute values.
    padding: whether padding counts. The ids that the first embedding with a padding_idx is given
        tell which positions are padding, for every later layer with positions of that shape.

    Uses of a weight outside of the encoder do not count. `forget` removes the hooks.
    Raises InputError for a weight in another kind of module, one that modules of two kinds share,
    and an embedding with max_norm, which rewrites weights as they are looked up.
    """

    def __init__(self, encoder: nn.Module, *, mean: str, padding: bool) -> None:
        self.mean, self.padding = mean, padding
        self.weights = dict(encoder.named_parameters())
        self.real: Tensor | None = None
        self._carried = _carriers(encoder)
        self._totals: dict[Tensor, tuple[Tensor, Tensor]] = {}
        forget(encoder)
        collected = [m for m in encoder.modules() if isinstance(m, tuple(_COLLECT))]
        padded = [m for m in collected if getattr(m, "padding_idx", None) is not None]
        self.tokens = next(iter(padded), None)
        for module in collected:
            if module.weight is not None:
                hook = module.register_forward_hook(self._collect, with_kwargs=True)
                keep_hooks(module, _PURPOSE, hook)

    def take(self) -> dict[str, Weights]:
        """The importance of every weight, by tensor name.

        To be called once a step, when the gradients are complete: it begins the next mu. A tensor
        that the loss does not reach is left out. Under torch.distributed, where gradients are
        averages over the processes, mu is too: every process gets the same importance.
        """
        self._share()
        with torch.no_grad():
            found = {
                name: self._weights(weight, weight.grad, self._mu(name, weight))
                for name, weight in self.weights.items()
                if weight.grad is not None
            }
        self._totals.clear()
        self.real = None
        return found

    def _share(self) -> None:
        """Add up what all processes have collected, in one vector."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        parts = [t.reshape(-1) for w in self.weights.values() for t in self._totals.get(w, ())]
        if distributed.get_world_size() == 1 or not parts:
            return
        whole = torch.cat(parts)
        distributed.all_reduce(whole)
        summed = iter(whole.split([part.numel() for part in parts]))
        for weight in self.weights.values():
            if weight in self._totals:
                total, count = self._totals[weight]
                self._totals[weight] = next(summed).view_as(total), next(summed).view_as(count)

    def _weights(self, weight: Tensor, gradient: Tensor, mu: Tensor) -> Weights:
        kind = self._carried[weight]
        if kind is nn.Linear:
            return Product(weight, gradient, mu)
        if kind is nn.Embedding:
            numbers = mu.nonzero().view(-1)
            part = weight[numbers] * gradient[numbers] * mu[numbers, None]
            return Rows(part.abs(), numbers)
        return Stored((weight * gradient * mu).abs())

    def _mu(self, name: str, weight: Tensor) -> Tensor:
        """By column, row, entry, or for all entries, according to the kind."""
        if self._carried[weight] is None:
            return torch.ones((), device=weight.device)
        if weight not in self._totals:
            raise InputError(f"{name}: has a gradient, but its module did not run in training mode")
        total, count = self._totals[weight]
        return total / count.clamp(min=1)

    @torch.no_grad()
    def _collect(self, module: Any, args: Any, kwargs: Any, output: Tensor) -> None:
        # Checkpointed layers run a second time in the backward pass.
        if not module.training or in_backward():
            return
        (kind,) = (kind for kind in _COLLECT if isinstance(module, kind))
        seen = args[0] if args else kwargs["input"]
        with torch.autocast(seen.device.type, enabled=False):
            total, count = _COLLECT[kind](self, module, seen)
        if module.weight in self._totals:
            former_total, former_count = self._totals[module.weight]
            total, count = former_total + total, former_count + count
        self._totals[module.weight] = total, count

    def positions(self, shape: torch.Size, device: torch.device) -> Tensor:
        """(n,) float32: 1 for each position that counts, 0 for padding that does not."""
        if self.real is not None and self.real.shape == shape:
            return self.real.reshape(-1).float()
        return torch.ones(shape, device=device).view(-1)

    def sum(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(sums by feature over the positions that count, number of these positions)."""
        counts = self.positions(features.shape[:-1], features.device)
        if self.mean == "absolute":
            features = features.abs()
        return counts @ features.reshape(len(counts), -1).float(), counts.sum()


def forget(encoder: nn.Module) -> None:
    """Remove the hooks of every `Importance` of this encoder."""
    for module in encoder.modules():
        remove_hooks(module, _PURPOSE)


def _linear(collector: Importance, module: nn.Linear, inputs: Tensor) -> tuple[Tensor, Tensor]:
    return collector.sum(inputs)


def _layer_norm(
    collector: Importance, module: nn.LayerNorm, inputs: Tensor
) -> tuple[Tensor, Tensor]:
    shape = list(module.normalized_shape)
    normal = functional.layer_norm(inputs.float(), shape, eps=module.eps)
    total, count = collector.sum(normal.flatten(-len(shape)))
    return total.view(shape), count


def _embedding(collector: Importance, module: nn.Embedding, ids: Tensor) -> tuple[Tensor, Tensor]:
    if module is collector.tokens and module.padding_idx is not None:
        collector.real = ids.ne(module.padding_idx) | collector.padding
    real = collector.real
    # Positions may be numbered once for all rows of the batch.
    if real is not None and ids.shape != real.shape and ids.shape == (1, *real.shape[1:]):
        ids = ids.expand_as(real)
    counts = collector.positions(ids.shape, ids.device)
    total = torch.zeros(module.num_embeddings, device=ids.device)
    return total.index_add_(0, ids.reshape(-1), counts), counts.sum()


_COLLECT: Mapping[type[nn.Module], Callable[..., tuple[Tensor, Tensor]]] = {
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.Embedding: _embedding,
}


def _carriers(encoder: nn.Module) -> dict[Tensor, type[nn.Module] | None]:
    """The kind of module whose `weight` each tensor is; None for biases, which carry 1.

    Raises InputError as `Importance`.
    """
    carriers: dict[Tensor, type[nn.Module] | None] = {}
    for path, module in encoder.named_modules():
        for leaf, weight in module.named_parameters(recurse=False):
            name = f"{path}.{leaf}" if path else leaf
            kinds = [kind for kind in _COLLECT if isinstance(module, kind)]
            if not kinds:
                raise InputError(
                    f"{name}: which values a weight of {type(module).__name__} carries is not "
                    f"known; it must be of {', '.join(kind.__name__ for kind in _COLLECT)}"
                )
            check_no_max_norm(name, module)
            carrier = kinds[0] if leaf == "weight" else None
            if carriers.setdefault(weight, carrier) is not carrier:
                raise InputError(f"{name}: modules of two kinds share this weight")
    return carriers
