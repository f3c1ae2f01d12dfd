"""A probe from any batches: the gradients that methods look at before training."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError, NotFinite, shown
from jiant_sparse.seeds import derive
from jiant_sparse.sparse.optimizer import clip_grad_norm_

LossFn = Callable[[nn.Module, Any], Tensor]
"""loss_fn(model, batch): the mean loss of the batch's examples, a scalar with a gradient."""


@dataclass
class Calibration:
    """`methods.base.Probe` over batches of the user.

    model: whole, with its head. batches: an iterable of batches; None raises as soon as a method
    asks for gradients. loss_fn: None = a batch is a mapping of the model's arguments with labels.
    seed: of dropout and shuffling. method: its name, for errors.

    A loader starts again where a method asks for more batches than it has. `batch_size` splits
    batches into smaller ones. `head_steps` is refused: there is no learning rate for a head.
    """

    model: nn.Module
    batches: Iterable[Any] | None
    loss_fn: LossFn | None
    seed: int
    method: str

    def __call__(
        self,
        batches: int | None,
        *,
        repeat: bool = True,
        dropout: bool = False,
        max_grad_norm: float | None = None,
        batch_size: int | None = None,
        head_steps: int = 0,
    ) -> Iterator[float]:
        if self.batches is None:
            raise InputError(
                f"{self.method} looks at gradients before training, but calibration is None; it "
                "must be an iterable of batches with labels"
            )
        if head_steps:
            raise InputError(
                f"{self.method}: head_steps is {head_steps}; it must be 0 in the library, which "
                "has no learning rate for a head: train the head before"
            )
        device = next(self.model.parameters()).device
        full = batch_size or getattr(self.batches, "batch_size", None)
        stream = self._stream(self.batches, batches is not None and repeat, batch_size)
        with _restoring(self.model, getattr(self.batches, "generator", None)):
            torch.manual_seed(derive(self.seed, self.method, "probe"))
            for batch in islice(stream, batches):
                self.model.train(dropout)
                self.model.zero_grad()
                self._loss(_mapped(batch, lambda tensor: tensor.to(device))).backward()
                if max_grad_norm is not None:
                    clip_grad_norm_(self.model.parameters(), max_grad_norm)
                full = full or _examples(batch)
                yield _examples(batch) / full

    def _stream(
        self, batches: Iterable[Any], endless: bool, batch_size: int | None
    ) -> Iterator[Any]:
        for _ in count() if endless else range(1):
            batch = None
            for batch in batches:
                yield from [batch] if batch_size is None else _split(batch, batch_size)
            if batch is None:
                raise InputError(
                    f"calibration has fewer batches than {self.method} asks for, or none, and "
                    "cannot start again; it must be a list, a DataLoader or the like"
                )

    def _loss(self, batch: Any) -> Tensor:
        loss: Any
        if self.loss_fn is not None:
            loss = self.loss_fn(self.model, batch)
        elif isinstance(batch, Mapping):
            loss = getattr(self.model(**batch), "loss", None)
            if loss is None:
                raise InputError(
                    f"{type(self.model).__name__} returns no loss for a calibration batch of "
                    f"{', '.join(map(str, batch))}; add labels to the batches, or give loss_fn"
                )
        else:
            raise InputError(
                f"a calibration batch is a {type(batch).__name__}; it must be a mapping of the "
                "model's arguments, unless there is a loss_fn(model, batch)"
            )
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise InputError(
                f"the loss of a calibration batch is {shown(loss)}; it must be a tensor of one "
                "number with a gradient"
            )
        if not math.isfinite(loss.item()):
            raise NotFinite(f"the loss is {loss.item()} while weights are being chosen")
        return loss


@contextmanager
def _restoring(model: nn.Module, generator: torch.Generator | None) -> Iterator[None]:
    """Restore modes, gradients, buffers and generators after the block."""
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    python, numpy = random.getstate(), np.random.get_state()
    own = None if generator is None else generator.get_state()
    for parameter in gradients:
        parameter.grad = None
    try:
        with torch.random.fork_rng():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for buffer, value in buffers.items():
            buffer.copy_(value)
        random.setstate(python)
        np.random.set_state(numpy)
        if generator is not None and own is not None:
            generator.set_state(own)


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with every tensor changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    kind: Callable = type(batch)
    if isinstance(batch, Mapping):
        return kind({key: _mapped(value, change) for key, value in batch.items()})
    if isinstance(batch, tuple | list):
        parts = [_mapped(value, change) for value in batch]
        return kind(*parts) if hasattr(batch, "_fields") else kind(parts)
    return batch


def _examples(batch: Any) -> int:
    """The first dimension of the first tensor; 1 if there is none."""
    found: list[Tensor] = []
    _mapped(batch, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found[0].shape[0] if found and found[0].dim() else 1


def _split(batch: Any, size: int) -> Iterator[Any]:
    """Batches of `size` examples; what has another first dimension goes into each of them."""
    examples = _examples(batch)
    for start in range(0, examples, size):

        def part(tensor: Tensor, start: int = start) -> Tensor:
            return tensor[start : start + size] if tensor.shape[:1] == (examples,) else tensor

        yield _mapped(batch, part)
