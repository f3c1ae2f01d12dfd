"""mu and importance written out: every connection's value, position by position, in float64.

It looks at the functions that torch's modules call, not at hooks, and only while it is told to.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn


class Unfolded:
    """What the connections of a network carried while `passing`, summed up over positions."""

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute
        self.totals: dict[Tensor, np.ndarray] = {}
        self.counts: dict[Tensor, int] = {}

    @contextmanager
    def passing(self, counted: Tensor) -> Iterator[None]:
        """A forward pass that counts. counted: (rows, tokens), whether the position does."""
        functional, real = nn.functional, counted.numpy()
        plain = {name: getattr(functional, name) for name in ("linear", "embedding", "layer_norm")}

        def linear(x, weight, bias=None):
            self._add(weight, x.detach().double().numpy(), real)
            return plain["linear"](x, weight, bias)

        def embedding(ids, weight, *rest, **options):
            spread = np.broadcast_to(ids.numpy(), real.shape)
            self._add(weight, np.eye(len(weight))[spread], real)
            return plain["embedding"](ids, weight, *rest, **options)

        def layer_norm(x, shape, weight=None, bias=None, eps=1e-5):
            if weight is not None:
                values, axes = x.detach().double().numpy(), tuple(range(-len(shape), 0))
                mean, spread = (f(values, axes, keepdims=True) for f in (np.mean, np.var))
                normal = (values - mean) / np.sqrt(spread + eps)
                self._add(weight, normal.reshape(*x.shape[: -len(shape)], -1), real)
            return plain["layer_norm"](x, shape, weight, bias, eps)

        replaced = {"linear": linear, "embedding": embedding, "layer_norm": layer_norm}
        for name, function in replaced.items():
            setattr(functional, name, function)
        try:
            yield
        finally:
            for name, function in plain.items():
                setattr(functional, name, function)

    def _add(self, weight: Tensor, values: np.ndarray, real: np.ndarray) -> None:
        # A pooler sees one vector of each row; none of them is padding.
        real = real if values.shape[:-1] == real.shape else np.ones(values.shape[:-1], bool)
        for position in zip(*np.nonzero(real), strict=True):
            value = np.abs(values[position]) if self.absolute else values[position]
            self.totals[weight] = self.totals.get(weight, 0) + value
            self.counts[weight] = self.counts.get(weight, 0) + 1

    def mu(self, weight: Tensor, shape: tuple[int, ...], kind: type[nn.Module]) -> np.ndarray:
        """Of every entry of the weight of a module of this kind."""
        mean = self.totals[weight] / self.counts[weight]
        if kind is nn.Embedding:
            mean = mean[:, None]
        return np.broadcast_to(mean.reshape(shape) if kind is nn.LayerNorm else mean, shape)

    def importance(self, encoder: nn.Module) -> dict[str, np.ndarray]:
        """|mu theta g| by tensor name, of the tensors with a (dense) gradient."""
        kinds = {m.weight: type(m) for m in encoder.modules() if hasattr(m, "weight")}
        found = {}
        for name, p in encoder.named_parameters():
            if p.grad is not None:
                shape = tuple(p.shape)
                mu = self.mu(p, shape, kinds[p]) if p in kinds else np.ones(shape)
                found[name] = np.abs(mu * p.detach().double().numpy() * p.grad.double().numpy())
        return found


def taken(importance, encoder: nn.Module) -> dict[str, np.ndarray]:
    """What `Importance.take` says, as one array of each tensor's shape."""
    weights = importance.take()
    found = {}
    for name, source in weights.items():
        flat = torch.cat([*source.chunks()])
        whole = torch.zeros(encoder.get_parameter(name).shape)
        index = torch.arange(len(flat))
        whole.view(-1)[source.positions(index)] = flat
        found[name] = whole.double().numpy()
    return found


def assert_same(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Equal up to the rounding of sums in float32; and zero where zero is expected."""
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert (found[name] >= 0).all(), name
        np.testing.assert_allclose(
            found[name], values, rtol=2e-4, atol=1e-6 * values.max(), err_msg=name
        )
        assert not found[name][values == 0].any(), name
