"""What a method is: how the weights to tune are chosen, and what happens around each step.

A new method is one new file in this folder with one dataclass derived from `Method`; its file name
is its key in a configuration and its fields are the keys below it. Nothing else has to be edited.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial, wraps
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import jiant_sparse.methods
from jiant_sparse.errors import InputError, suggest
from jiant_sparse.sparse import claims, selection, surgery

# The files of this folder that hold no method.
_SHARED = ("base", "choices")

Rng = Callable[[str], torch.Generator]
"""rng(name): a fresh CPU generator of the stream (cell seed, method, name).

On the CPU because CUDA draws differ, and a choice of weights must not depend on the device.
"""


class Probe(Protocol):
    """Gradients of fresh training batches, before training."""

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
        """Leave the mean gradient of one more batch in `.grad` and yield the batch's weight.

        The weight is the batch's number of examples over that of a full batch: 1.0, but for a
        short last batch, so that sums weighted by it give every example the same weight.

        batches: how many; None = one pass over the training set. repeat: whether the training set
        comes round again; without it, one pass is the most. dropout: model in train mode.
        max_grad_norm: clip the whole model's gradient to this norm, head included; None leaves it
        as it is. batch_size: None is the training's. head_steps: optimizer steps that the task head
        trains on a frozen encoder before the first batch.
        A tensor that the loss does not reach has no `.grad`. The encoder is never moved. The head,
        the training's data order, the global generators, the gradients and the model's mode are
        afterwards as they were before.
        """
        ...


def later(default: Any) -> Any:
    """Declare a field that an earlier version did not have.

    At its default the field does not count among the settings of a cell: records made before the
    field existed stay valid.
    """
    return field(default=default, metadata={"later": True})


HOOKS = ("penalty", "before_step", "after_step")


def _claiming(attach: Callable[..., None]) -> Callable[..., None]:
    """`attach`, which first makes the method the only one of its model.

    If it fails, the model is as it was before.
    """

    @wraps(attach)
    def claimed(
        self: "Method", model: nn.Module, probe: Probe | None = None, *rest: Any, **options
    ):
        if self._claim is not None and not self._claim.begun:
            return attach(self, model, probe, *rest, **options)  # super().attach of a subclass
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
        return None

    return claimed


def _noting(hook: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, which strikes itself off the list of hooks that nobody has called."""

    @wraps(call)
    def noted(self: "Method", *arguments: Any, **options: Any) -> Any:
        if self._claim is not None:
            self._claim.uncalled.discard(hook)
        return call(self, *arguments, **options)

    return noted


@dataclass
class Method:
    """Base of all methods: which weights train, and what happens around each step.

    The common case is a rule that chooses once, before training: override `choose`. All else
    overrides `attach`. Two fields have one meaning in every method: `density` is the trained
    fraction of the encoder's weights, and `burn_in` the batches or steps before the choice.
    """

    # Read by pydantic when a configuration is bound to the fields of a subclass.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    # What `choose` has chosen: tensor name -> index; None before that, and where nothing chooses.
    chosen: ClassVar[Mapping[str, Tensor] | None] = None

    # Number of weights that can differ from the pretrained ones in the evaluated model; None = all
    # that train.
    kept: ClassVar[int | None] = None

    # Mean number of weights updated per step, for methods that choose anew at every step; None for
    # all other methods. Before the first step, the number that a step will update.
    moved_per_step: ClassVar[float | None] = None

    # Counts up when the same fields give another result: records from before are another method's.
    revision: ClassVar[int] = 1

    # Steps that a run must have at least for the method to be what its name says.
    least_steps: ClassVar[int] = 1

    _claim: ClassVar[claims.Claim | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Let `attach` claim its model, and each hook note that the training loop calls it."""
        super().__init_subclass__(**options)
        if "attach" in vars(cls):
            cls.attach = _claiming(cls.attach)
        for hook in HOOKS:
            if hook in vars(cls):
                setattr(cls, hook, _noting(hook, vars(cls)[hook]))

    @property
    def name(self) -> str:
        """The method's key: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks that a training loop has to call for this method."""
        return tuple(h for h in HOOKS if getattr(type(self), h) is not getattr(Method, h))

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """The entries that train: tensor name -> sorted int64 vector of flat positions.

        Arguments as `attach`. The model is left as it was. A run that goes on from a checkpoint
        does not choose again; it takes the choice from there.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither choose nor attach")

    @_claiming
    def attach(self, model: nn.Module, probe: Probe | None, rng: Rng) -> None:
        """Choose, freeze and insert, through `sparse.surgery`; called once.

        model: the encoder, pretrained, unedited, all of its weights trainable; each is eligible.
        probe: gradients; None for a method that asks for none. No optimizer exists yet. Must not
        draw from the global generators.
        Raises InputError for a model that has a method already or frozen weights.
        """
        if self.chosen is None:
            self.chosen = self.choose(model, probe, rng)
        surgery.select(model, self.chosen)

    def penalty(self) -> Tensor | float:
        """Added to the loss of every micro-batch; finite and not negative."""
        return 0.0

    def before_step(self, step: int) -> None:
        """Gradients of step `step`, from 1, are complete, not yet clipped; may change `.grad`."""

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Weights are new after step `step`; may change them, what trains, and `optimizer` alike.

        Gradients are those of the step, clipped; they are dropped afterwards.
        """

    def scores_at(self, step: int) -> bool:
        """Whether a score after step `step` competes for the best checkpoint.

        Of the fields alone, so that a run without any is found before it begins.
        """
        return True

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the weights that the next step reads: tensors, numbers, strings."""
        return {f"chosen.{name}": index for name, index in (self.chosen or {}).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave: after `attach`, before weights and optimizer.

        What trains is afterwards what trained when the state was taken.
        """

    def restore(self, model: nn.Module, rng: Rng, state: Mapping[str, Any]) -> None:
        """Attach without a probe when a run goes on: the same model and edits.

        model, rng: as `attach`; weights and optimizer follow. state: of `state_dict`.
        """
        self.chosen = taken(state, "chosen") or None
        self.attach(model, None, rng)
        self.load_state_dict(state)

    def most_important(
        self, scores: Mapping[str, Tensor], density: float, *, scope: str = "global"
    ) -> dict[str, Tensor]:
        """`selection.most_important`, whose errors name the method."""
        try:
            return selection.most_important(scores, density, scope=scope)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None


def _no_probe(name: str, *_: Any, **__: Any) -> Iterator[float]:
    raise InputError(
        f"{name} looks at gradients before training, but probe is None; give a probe. If a run "
        "goes on from a checkpoint: `attach` may not look at gradients, `choose` may"
    )


def taken(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state whose keys begin with `prefix.`, by the rest of the key."""
    start = f"{prefix}."
    return {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}


@cache
def names() -> tuple[str, ...]:
    """The keys of all methods: the files of this folder."""
    modules = pkgutil.iter_modules(jiant_sparse.methods.__path__)
    return tuple(sorted(module.name for module in modules if module.name not in _SHARED))


def find(name: str) -> type[Method]:
    """The method class in `methods/<name>.py`. Raises InputError with the known names."""
    if name not in names():
        raise InputError(f"unknown method {name!r}; {suggest(name, names())}")
    module = importlib.import_module(f"{jiant_sparse.methods.__name__}.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Method)
        and value.__module__ == module.__name__
    )
    return found
