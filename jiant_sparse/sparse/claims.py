"""Which method has an encoder, and two mistakes of a training loop that show nowhere else.

A method claims its encoder before it edits anything. A claim refuses a second method, notes which
hooks the training loop calls, and knows the parameters from before the method: an optimizer that
holds them, and nothing that the method has made, trains the task head alone.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from jiant_sparse.errors import InputError

_claims: "WeakKeyDictionary[nn.Module, Claim]" = WeakKeyDictionary()
# Parameter from before the method -> the claim on its encoder.
_former: WeakIdKeyDictionary = WeakIdKeyDictionary()


class Claim:
    """A method's hold on an encoder.

    method: its key. uncalled: hooks that the training loop has to call and has not called yet.
    begun: whether the method is attached, so that training may begin.
    """

    def __init__(self, method: str, hooks: Iterable[str]) -> None:
        self.method = method
        self.uncalled = set(hooks)
        self.begun = False
        self.made: list[Tensor] = []
        self._versions: tuple[int, ...] = ()

    def begin(self, encoder: nn.Module) -> None:
        """The method is attached: note what it has made, and how often each weight has changed."""
        self.begun = True
        self.made = [p for p in encoder.parameters() if p.requires_grad and p not in _former]
        self._versions = _versions(encoder)

    def check_hooks(self, encoder: nn.Module) -> None:
        """Raise InputError if weights have changed since `begin` and a hook was never called."""
        if self.uncalled and _versions(encoder) != self._versions:
            hooks = " and ".join(sorted(self.uncalled))
            raise InputError(
                f"{self.method}: the training loop has never called the method's {hooks}, so the "
                "weights are not what the method makes of them; call the hooks at every step, or "
                "fold with unchecked=True"
            )


def claim(encoder: nn.Module, method: str, hooks: Iterable[str]) -> Claim:
    """Claim an encoder for a method, before the method edits anything.

    Raises InputError if another method has it, or if one of its weights is frozen.
    """
    if encoder in _claims:
        raise InputError(
            f"{method}: the encoder has a method already, {_claims[encoder].method}; "
            "fold the encoder first, or take a fresh one"
        )
    frozen = [name for name, p in encoder.named_parameters() if not p.requires_grad]
    if frozen:
        raise InputError(
            f"{method}: {len(frozen)} tensors of the encoder are frozen, first {frozen[0]}; the "
            "method chooses among all weights, so requires_grad must be True for each"
        )
    _watch_optimizers()
    found = _claims[encoder] = Claim(method, hooks)
    for parameter in encoder.parameters():
        _former[parameter] = found
    return found


def claimed(encoder: nn.Module) -> Claim | None:
    """The claim on an encoder, if there is one."""
    return _claims.get(encoder)


def release(encoder: nn.Module) -> None:
    """Let another method have the encoder."""
    released = _claims.pop(encoder, None)
    for parameter in encoder.parameters():
        if released is not None and _former.get(parameter) is released:
            del _former[parameter]


def _versions(encoder: nn.Module) -> tuple[int, ...]:
    return tuple(parameter._version for parameter in encoder.parameters())


@cache
def _watch_optimizers() -> None:
    register_optimizer_step_pre_hook(_check_optimizer)


def _check_optimizer(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    stale = {id(c): c for p in held if (c := _former.get(p)) is not None and c.begun and c.made}
    for found in stale.values():
        if not {*map(id, held)} & {*map(id, found.made)}:
            raise InputError(
                f"{found.method}: the optimizer was made before the method was attached and trains "
                "nothing of what the method has made; make the optimizer afterwards"
            )
