"""Wrappers of a method's `attach` and hooks: one method per model, and no hook forgotten."""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import claims, surgery

if TYPE_CHECKING:
    from jiant_sparse.methods.base import Method, Probe


def claiming(attach: Callable[..., None]) -> Callable[..., None]:
    """Wrap `attach`: claim the model for this method first, restore the model on failure."""

    @wraps(attach)
    def claimed(
        self: "Method", model: nn.Module, probe: "Probe | None" = None, *rest: Any, **options: Any
    ) -> None:
        if self._claim is not None and not self._claim.begun:
            attach(self, model, probe, *rest, **options)  # super().attach of a subclass
            return
        if self._claim is not None:
            raise InputError(f"this {self.name} has a model already; make a new instance")
        self._claim = claims.claim(model, self.name, self.hooks)
        try:
            attach(self, model, probe or partial(_no_probe, self.name), *rest, **options)
        except BaseException:
            self._claim = None
            surgery.abandon(model)
            raise
        self._claim.begin(model)

    return claimed


def noting(hook: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook: note that the training loop has called it."""

    @wraps(call)
    def noted(self: "Method", *arguments: Any, **options: Any) -> Any:
        if self._claim is not None:
            self._claim.uncalled.discard(hook)
        return call(self, *arguments, **options)

    return noted


def _no_probe(name: str, *_: Any, **__: Any) -> Iterator[float]:
    raise InputError(
        f"{name} looks at gradients before training, but probe is None; give a probe. If a run is "
        "resumed from a checkpoint: `attach` may not look at gradients, `choose` may"
    )
