"""Ways to train the same model on the same batch, one `Trainer` each on a model of its own.

bound: every weight of the encoder frozen, the gradient flowing to the output of the embeddings'
    LayerNorm: the least that a method that reaches all layers can cost.
full: full tuning.
full_and_mu: full tuning that collects what connections carry, as Stochastic Tuning does in its
    forward passes, and makes nothing of it.
masked_gradient: sparse tuning as published: the whole gradient is computed and clipped, then
    multiplied by a dense mask, and AdamW keeps moments of every weight.
ours/...: this package's methods as the host trains them; `child_pruning` after its cut, which is
    made at the first step, before the clock starts. On random weights the choices of
    `mag_pruning` and `sam` are not those on pretrained ones: LayerNorm's weights are the largest,
    and the embeddings of tokens outside of the one batch have no gradient. Those that choose at
    each step take as many weights as the encoder has biases, whatever the density.
lora: loralib's layers on query and value, rank 8.
peft/...: the sparse tuners of Hugging Face PEFT, where it is installed.

The head trains in all of them.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.bench import peft_tuners
from jiant_sparse.bench.models import Classifier, rng
from jiant_sparse.errors import InputError, suggest
from jiant_sparse.methods import base
from jiant_sparse.methods.base import Method
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.importance import Importance
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step

# What all others are compared with.
REFERENCES = ("bound", "full")
PEFT = "peft>=0.21"  # the first with Super-Tuning
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
MAX_GRAD_NORM = 1.0


class Trainer:
    """Trains a model, one `step` at a time.

    eligible: weights of the encoder.
    """

    def __init__(self, model: Classifier, attach: Callable[[Classifier], Method | None]) -> None:
        names = surgery.eligible(model.encoder)
        self.eligible = sum(weight.numel() for weight in names.values())
        self.model = model
        self.method = attach(model) or Method()
        model.train()  # what has been added too
        self.names = names.keys()
        groups = surgery.parameter_groups(model, WEIGHT_DECAY)
        self.optimizer = AdamW(groups, lr=LEARNING_RATE)
        self.steps = 0

    @property
    def trained(self) -> int:
        """Weights of the encoder that train at present, added ones included; or, if they are
        others at every step, that move in one.
        """
        if self.method.moved_per_step is not None:
            return round(self.method.moved_per_step)
        return sum(surgery.count(self.model.encoder, self.names))

    def step(self) -> None:
        """One whole training step."""
        self.backward()
        self.steps += 1
        optimizer_step(
            self.model, self.method, self.optimizer, self.steps, max_grad_norm=MAX_GRAD_NORM
        )

    def backward(self) -> None:
        """Forward and backward pass."""
        (self.model.loss() + self.method.penalty()).backward()


class MaskedGradient(Trainer):
    """Sparse tuning as published."""

    def __init__(self, model: Classifier) -> None:
        super().__init__(model, _full)
        self.masks = {
            weight: _drawn_mask(name, weight, model.setting.density)
            for name, weight in surgery.eligible(model.encoder).items()
        }
        self.optimizer.register_step_pre_hook(self._mask)

    @property
    def trained(self) -> int:
        """Weights that the masks leave their gradients."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    def _mask(self, *_: Any) -> None:
        """Zero the clipped gradients of what is not selected."""
        for weight, mask in self.masks.items():
            weight.grad.mul_(mask)


def names() -> tuple[str, ...]:
    """All contenders, whether or not their library is installed."""
    return tuple(_MAKERS)


def absent() -> tuple[str, ...]:
    """The contenders whose library is not installed."""
    return () if importlib.util.find_spec("peft") else _under("peft")


def chosen(only: Sequence[str], always: Sequence[str]) -> tuple[str, ...]:
    """The contenders to run: `always`, and those that `only` names, or all if it names none.

    A name before the slash stands for all of its kind. Raises InputError for an unknown contender
    or one whose library is not installed.
    """
    wanted: set[str] = set()
    for name in only:
        found = _under(name)
        if not found:
            raise InputError(f"contender {name!r} is unknown; {suggest(name, names())}")
        if missing := set(found) & set(absent()):
            raise InputError(f"contender {min(missing)} is not installed: pip install '{PEFT}'")
        wanted |= set(found)
    wanted = wanted or set(names()) - set(absent())
    return tuple(name for name in names() if name in wanted or name in always)


def train(name: str, model: Classifier) -> Trainer:
    """The trainer of a contender, which takes `model` over."""
    return _MAKERS[name](model)


def attempt(name: str, call: Callable[[], Any]) -> tuple[Any, dict[str, str]]:
    """What `call` returns for a contender; or None, and the `error` for its row, if it fails.

    Raises InputError, which the setting is to blame for, and whatever a reference fails with.
    """
    try:
        return call(), {}
    except InputError:
        raise
    except Exception as error:  # whatever a library makes of a model that it does not know
        if name in REFERENCES:
            raise
        return None, {"error": f"{type(error).__name__}: {error}"}


def probe_of(model: Classifier) -> base.Probe:
    """A probe, as methods take it, whose batches are all the model's one batch."""

    def probe(
        batches: int | None, *, dropout: bool = False, max_grad_norm: float | None = None, **_: Any
    ) -> Iterator[float]:
        model.train(dropout)
        for _ in range(batches or 1):
            model.zero_grad()
            model.loss().backward()
            if max_grad_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
            yield 1.0
        model.zero_grad()
        model.train()

    return probe


def _full(model: Classifier) -> None:
    """Every weight trains already."""


def _bound(model: Classifier) -> None:
    surgery.freeze(model.encoder)
    model.encoder.embeddings.LayerNorm.register_forward_hook(_begin_gradient)


def _full_and_mu(model: Classifier) -> None:
    Importance(model.encoder, mean="signed", padding=False)


def _begin_gradient(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    start = output.detach()
    start.requires_grad = True
    return start


def _drawn_mask(name: str, weight: Tensor, density: float) -> Tensor:
    """In the weight's dtype: ten times as fast to multiply with as a bool mask, if four times as
    large."""
    drawn = torch.rand(weight.shape, generator=rng(name)) < density
    return drawn.to(weight.device, weight.dtype)


def _attach(method: str, fields: dict[str, Any], model: Classifier) -> Method:
    kind = base.find(method)
    if "density" in kind.__dataclass_fields__:
        fields = {"density": model.setting.density} | fields
    made = kind(**fields)
    made.attach(model.encoder, probe_of(model), rng)
    return made


def _trainer(attach: Callable[[Classifier], Method | None], model: Classifier) -> Trainer:
    return Trainer(model, attach)


def _ours(method: str, **fields: Any) -> Callable[[Classifier], Trainer]:
    return partial(_trainer, partial(_attach, method, fields))


_MAKERS: dict[str, Callable[[Classifier], Trainer]] = {
    "bound": partial(_trainer, _bound),
    "full": partial(_trainer, _full),
    "full_and_mu": partial(_trainer, _full_and_mu),
    "masked_gradient": MaskedGradient,
    "ours/random": _ours("random"),
    "ours/mag_pruning": _ours("mag_pruning"),
    "ours/sam": _ours("sam", burn_in=1),
    "ours/child_pruning": _ours("child_pruning", burn_in=1, interval=1),
    "ours/bitfit": _ours("bitfit"),
    "ours/stochastic_tuning": _ours("stochastic_tuning", density=None),
    "ours/top_tuning": _ours("top_tuning", density=None),
    "ours/random_per_step": _ours("random_per_step", density=None),
    "lora": _ours("lora"),
    "peft/super_tuning": partial(_trainer, peft_tuners.super_tuning),
    "peft/shira": partial(_trainer, peft_tuners.shira),
}


def _under(name: str) -> tuple[str, ...]:
    return tuple(known for known in _MAKERS if known == name or known.startswith(f"{name}/"))
