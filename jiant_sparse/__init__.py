"""Sparse fine-tuning of pretrained encoders: every way of choosing weights, one fair protocol."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiant_sparse.tuning.config import SparseConfig
    from jiant_sparse.tuning.model import SparseModel, get_sparse_model
    from jiant_sparse.tuning.trainer import SparseTrainerMixin

_ROOMS = {
    "SparseConfig": "config",
    "SparseModel": "model",
    "SparseTrainerMixin": "trainer",
    "get_sparse_model": "model",
}
__all__ = ["SparseConfig", "SparseModel", "SparseTrainerMixin", "get_sparse_model"]


def __getattr__(name: str) -> Any:
    """The library's names, imported when they are asked for: reports do without torch."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.tuning.{_ROOMS[name]}"), name)
