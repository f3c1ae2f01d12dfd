"""A probe from any batches: the gradients that methods look at before training."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError, NotFinite, shown
from jiant_sparse.seeds import derive
from jiant_sparse.sparse.optimizer import clip_grad_norm_

LossFn = Callable[[nn.Module, Any], Tensor]
"""loss_fn(model, batch): the mean loss of the batch's examples, a scalar with a gradient."""


class Calibration:
    """`methods.base.Probe` over batches of the user.

    model: whole, with its head. batches: an iterable of batches; None raises as soon as a method
    asks for gradients. loss_fn: None = a batch is a mapping of the model's arguments, labels among
    them, and the model returns a loss. seed: of dropout and of what loaders draw. method: its
    name, for errors.

    A loader starts again where a method asks for more batches than it has. `batch_size` splits
    batches into smaller ones. `head_steps` is refused: there is no learning rate to train a head.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[Any] | None,
        loss_fn: LossFn | None,
        *,
        seed: int,
        method: str,
    ) -> None:
        self.model, self.batches, self.loss_fn = model, batches, loss_fn
        self.seed, self.method = seed, method

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
                f"{self.method} looks at gradients before training, but calibration is None; give "
                "an iterable of batches with labels"
            )
        if head_steps:
            raise InputError(
                f"{self.method}: head_steps is {head_steps}; it must be 0 in the library, which "
                "has no learning rate for the head: train the head before"
            )
        full, device = None, next(self.model.parameters()).device
        endless = batches is not None and repeat
        with _restoring(self.model, getattr(self.batches, "generator", None)):
            torch.manual_seed(derive(self.seed, self.method, "probe"))
            for batch in islice(self._stream(endless, batch_size), batches):
                self.model.train(dropout)
                self.model.zero_grad()
                loss = self._loss(_mapped(batch, lambda tensor: tensor.to(device)))
                loss.backward()
                if max_grad_norm is not None:
                    clip_grad_norm_(self.model.parameters(), max_grad_norm)
                examples = _examples(batch)
                full = full or batch_size or _loader_size(self.batches) or examples
                yield examples / full

    def _stream(self, endless: bool, batch_size: int | None) -> Iterator[Any]:
        """The batches, from the start again at the end if `endless`."""
        assert self.batches is not None
        passes = 0
        while endless or not passes:
            empty = True
            for batch in self.batches:
                empty = False
                yield from [batch] if batch_size is None else _split(batch, batch_size)
            if empty and passes:
                raise InputError(
                    f"calibration ends before {self.method} has the batches that it asks for, and "
                    "cannot start again; give a list or a DataLoader, or ask for fewer"
                )
            if empty:
                raise InputError("calibration has no batches")
            passes += 1

    def _loss(self, batch: Any) -> Tensor:
        if self.loss_fn is not None:
            loss = self.loss_fn(self.model, batch)
        elif isinstance(batch, Mapping):
            output = self.model(**batch)
            loss = output.get("loss") if isinstance(output, Mapping) else None
            loss = getattr(output, "loss", None) if loss is None else loss
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
    drawn = random.getstate(), np.random.get_state()
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
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        if generator is not None and own is not None:
            generator.set_state(own)


def _loader_size(batches: object) -> int | None:
    size = getattr(batches, "batch_size", None)
    return size if isinstance(size, int) else None


def _mapped(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with every tensor changed."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        made: Callable = type(batch)
        return made({key: _mapped(value, change) for key, value in batch.items()})
    if isinstance(batch, tuple | list):
        parts = [_mapped(value, change) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def _examples(batch: Any) -> int:
    """The first dimension of the first tensor; 1 if there is none."""
    sizes: list[int] = []
    _mapped(batch, lambda tensor: (sizes.extend(tensor.shape[:1]), tensor)[1])
    return sizes[0] if sizes else 1


def _split(batch: Any, size: int) -> Iterator[Any]:
    """Batches of `size` examples; what has another first dimension goes into each of them."""
    examples = _examples(batch)
    for start in range(0, examples, size):
        part = slice(start, start + size)
        yield _mapped(batch, lambda t, p=part: t[p] if t.shape[:1] == (examples,) else t)
