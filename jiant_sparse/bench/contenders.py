"""Ways to train the same model on the same batch, one `Trainer` each on a model of its own.

bound: every weight of the encoder frozen, the gradient flowing to the output of the embeddings'
    LayerNorm: a lower bound for any method that reaches all layers.
full: full tuning.
full_and_mu: full tuning that also collects Stochastic Tuning's statistics of the forward pass,
    without using them.
masked_gradient: sparse tuning as published: the dense gradient is computed and clipped, then
    multiplied by a dense mask, and AdamW keeps moments of every weight.
ours/...: this package's methods as the host trains them. `child_pruning` has made its cut before
    the clock starts, at the first step. On random weights `mag_pruning` and `sam` choose other
    weights than on pretrained ones: LayerNorm's weights are the largest, and embeddings of tokens
    outside the one batch have no gradient. Methods that choose at every step take as many weights
    as the encoder has biases, whatever the density.
lora: loralib's layers on query and value, rank 8.
peft/...: the sparse tuners of Hugging Face PEFT, where it is installed.

The head trains in every contender.
"""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
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

# Every other contender is compared with these.
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
        self.optimizer = AdamW(groups, lr=LEARNING_RATE, fused=True)
        self.steps = 0

    def counts(self) -> dict[str, int]:
        """The fields of a row that count weights."""
        return {"trained_weights": self.trained, "eligible_weights": self.eligible}

    @property
    def trained(self) -> int:
        """Weights of the encoder that train now, added ones included.

        For a method that chooses at every step: weights that one step updates.
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
        """Weights that the masks select."""
        return sum(int(mask.sum()) for mask in self.masks.values())

    def _mask(self, *_: Any) -> None:
        """Zero the clipped gradients of what is not selected."""
        for weight, mask in self.masks.items():
            if weight.grad is not None:
                weight.grad.mul_(mask)


def names() -> tuple[str, ...]:
    """All contenders, whether or not their library is installed."""
    return tuple(_MAKERS)


def absent() -> tuple[str, ...]:
    """The contenders whose library is not installed."""
    return () if importlib.util.find_spec("peft") else under("peft")


def chosen(only: Iterable[str]) -> tuple[str, ...]:
    """The contenders to run: `REFERENCES`, and those that `only` names, or all if it names none.

    A name before the slash, such as `ours`, stands for every name that begins with it. Raises
    InputError for an unknown contender and for one whose library is not installed.
    """
    wanted: set[str] = set()
    for name in only:
        found = under(name)
        if not found:
            raise InputError(f"contender {name!r} is unknown; {suggest(name, names())}")
        if missing := set(found) & set(absent()):
            raise InputError(f"contender {min(missing)} is not installed: pip install '{PEFT}'")
        wanted |= set(found)
    wanted = wanted or set(names()) - set(absent())
    return tuple(name for name in names() if name in wanted or name in REFERENCES)


def train(name: str, model: Classifier) -> Trainer:
    """The trainer of a contender; it changes `model`."""
    return _MAKERS[name](model)


def attempt(name: str, call: Callable[[], Any]) -> tuple[Any, dict[str, str]]:
    """What `call` returns for a contender; if it fails, None and the `error` for its row.

    Raises InputError, for the setting is wrong then, and any error of a reference.
    """
    try:
        return call(), {}
    except InputError:
        raise
    except Exception as error:  # a library can raise anything for a model that it does not know
        if name in REFERENCES:
            raise
        return None, {"error": f"{type(error).__name__}: {error}"}


def probe_of(model: Classifier) -> base.Probe:
    """A `methods.base.Probe` whose batches are all the model's one batch."""

    def probe(batches: int | None, **options: Any) -> Iterator[float]:
        model.train(options.get("dropout", False))
        for _ in range(batches or 1):
            model.zero_grad()
            model.loss().backward()
            if (norm := options.get("max_grad_norm")) is not None:
                nn.utils.clip_grad_norm_(model.parameters(), norm)
            yield 1.0
        model.zero_grad()
        model.train()

    return probe


def _full(model: Classifier) -> None:
    """Leave every weight trainable."""


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
    """1 for selected entries, else 0, in the weight's dtype: a product with a bool mask is slow."""
    drawn = torch.rand(weight.shape, generator=rng(name)) < density
    return drawn.to(weight.device, weight.dtype)


def _ours(method: str, **fields: Any) -> Callable[[Classifier], Trainer]:
    def attach(model: Classifier) -> Method:
        kind = base.find(method)
        density = {"density": model.setting.density} if hasattr(kind, "density") else {}
        made = kind(**(density | fields))
        made.attach(model.encoder, probe_of(model), rng)
        return made

    return partial(Trainer, attach=attach)


def _peft(tune: Callable[[nn.Module, float], Any]) -> Callable[[Classifier], Trainer]:
    def attach(model: Classifier) -> None:
        model.encoder = tune(model.encoder, model.setting.density)

    return partial(Trainer, attach=attach)


_MAKERS: dict[str, Callable[[Classifier], Trainer]] = {
    "bound": partial(Trainer, attach=_bound),
    "full": partial(Trainer, attach=_full),
    "full_and_mu": partial(Trainer, attach=_full_and_mu),
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
    "peft/super_tuning": _peft(peft_tuners.super_tuning),
    "peft/shira": _peft(peft_tuners.shira),
}


def under(name: str) -> tuple[str, ...]:
    """The contenders that a name stands for: itself, and every name that begins with it and /."""
    return tuple(known for known in _MAKERS if known == name or known.startswith(f"{name}/"))
