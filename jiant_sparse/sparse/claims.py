"""Which method has an encoder, and mistakes of a training loop that show nowhere else.

A method claims its encoder before it edits anything. The claim refuses a second method, notes which
hooks the training loop calls and whether an optimizer steps, and raises an error for two things
that would have no effect: an optimizer made before the method was attached, which trains nothing of
what the method has made, and an embedding that is resized afterwards.
"""

from collections.abc import Iterable
from functools import cache, partial
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from jiant_sparse.errors import InputError

# Attributes of the encoder and of its embeddings, which survive a deep copy.
_CLAIM = "_jiant_sparse_claim"
_SIZE_CHECK = "_jiant_sparse_size_check"
_encoders: WeakSet[nn.Module] = WeakSet()
# Optimizers that have been looked at, with the number of the newest claim at that time.
_seen: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
_numbers = count(1)
_newest = 0


class Claim:
    """A method's hold on an encoder.

    method: its key. uncalled: hooks that the training loop has to call and has not called yet.
    begun: whether the method is attached, so that training may begin. stepped: whether an optimizer
    has trained something of the encoder since.
    """

    def __init__(self, method: str, hooks: Iterable[str]) -> None:
        self.method = method
        self.uncalled = set(hooks)
        self.begun = self.stepped = False

    def begin(self, encoder: nn.Module) -> None:
        """Note that the method is attached; watch optimizers and the sizes of embeddings."""
        global _newest
        self.begun, _newest = True, next(_numbers)
        for name, module in encoder.named_modules():
            if isinstance(module, nn.Embedding):
                check = partial(_check_size, self.method, name, module.num_embeddings)
                module.__dict__[_SIZE_CHECK] = check, module.register_forward_pre_hook(check)

    def check_hooks(self) -> None:
        """Raise InputError if an optimizer has stepped, but a hook was never called."""
        if self.stepped and self.uncalled:
            hooks = " and ".join(sorted(self.uncalled))
            raise InputError(
                f"{self.method}: the training loop has never called the method's {hooks}, so the "
                "weights are not what the method makes of them; call the hooks at every step, or "
                "fold with unchecked=True"
            )


def claim(encoder: nn.Module, method: str, hooks: Iterable[str]) -> Claim:
    """Claim an encoder for a method, before the method edits anything.

    Raises InputError if another method has it, or a part of it, or if one of its weights is frozen.
    """
    other = claimed(encoder) or _overlapping(encoder)
    if other is not None:
        raise InputError(
            f"{method}: the encoder has a method already, {other.method}; "
            "fold the encoder first, or take a fresh one"
        )
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    if frozen:
        raise InputError(
            f"{method}: {len(frozen)} tensors of the encoder are frozen, first {frozen[0]}; the "
            "method chooses among all weights, so requires_grad must be True for each"
        )
    _watch_optimizers()
    _encoders.add(encoder)
    found = Claim(method, hooks)
    setattr(encoder, _CLAIM, found)
    return found


def claimed(encoder: nn.Module) -> Claim | None:
    """The claim on an encoder; None if no method has it."""
    return getattr(encoder, _CLAIM, None)


def release(encoder: nn.Module) -> None:
    """Let another method have the encoder. Raises InputError for an embedding that was resized."""
    _encoders.discard(encoder)
    if claimed(encoder) is not None:
        delattr(encoder, _CLAIM)
    for module in encoder.modules():
        if _SIZE_CHECK in module.__dict__:
            check, handle = module.__dict__[_SIZE_CHECK]
            check(module)
            handle.remove()
            del module.__dict__[_SIZE_CHECK]


def _overlapping(encoder: nn.Module) -> Claim | None:
    """The claim on another encoder that shares a weight with this one."""
    own = {*map(id, encoder.parameters())}
    for other in _encoders:
        if own & {*map(id, other.parameters())}:
            return claimed(other)
    return None


def _check_size(method: str, name: str, rows: int, module: nn.Embedding, _: Any = None) -> None:
    if module.num_embeddings != rows:
        raise InputError(
            f"{method}: {name}.weight, of {rows:,} rows, was resized to {module.num_embeddings:,} "
            "after the method was attached, which has no effect on what trains; resize it before"
        )


@cache
def _watch_optimizers() -> None:
    register_optimizer_step_pre_hook(_look_at)


def _look_at(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Note, once for each optimizer and claim, that it trains a claimed encoder.

    Raises InputError for an optimizer that was made before the method was attached.
    """
    if _seen.get(optimizer) == _newest:
        return
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for encoder in _encoders:
        found = claimed(encoder)
        trainable = {id(p) for p in encoder.parameters() if p.requires_grad}
        frozen = {id(p) for p in encoder.parameters() if not p.requires_grad}
        if found is None or not found.begun or not trainable:
            continue
        if held & trainable:
            found.stepped = True
        elif frozen and frozen <= held:
            raise InputError(
                f"{found.method}: the optimizer was made before the method was attached and trains "
                "nothing of what the method has made; make the optimizer afterwards"
            )
    _seen[optimizer] = _newest
