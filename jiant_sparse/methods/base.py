"""The contract of a method: which weights train, and what happens around each step.

A new method is one new file in this folder, with one dataclass derived from `Method`. The file name
is the method's key in a configuration; the dataclass's fields are the keys below it. No other file
is edited: reports take title, category and reading from the class. A whole method:

    @dataclass
    class Largest(Method):
        title = "Largest"
        paper = "Doe et al. 2024, arXiv 2401.00000"
        category = "rule-based"

        density: Density = 0.005

        def choose(self, model, probe, rng):
            scores = {name: w.detach().abs() for name, w in surgery.eligible(model).items()}
            return self.most_important(scores, self.density)

`sam.py` chooses by gradients; `mixout.py` acts at every step.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import jiant_sparse.methods
from jiant_sparse.errors import InputError, shown, suggest
from jiant_sparse.methods import fields
from jiant_sparse.methods.attaching import claiming, noting
from jiant_sparse.methods.readings import TRAINING, Readings
from jiant_sparse.sparse import claims, selection, surgery

# The files of this folder that hold no method.
SHARED = ("attaching", "base", "choices", "fields", "readings")

Category = Literal[
    "reference",
    "random",
    "rule-based",
    "projection-based",
    "approximation",
    "per-step",
    "added modules",
]
"""How a method chooses: the groups of Fu et al. 2023, and three more.

`reference`: all weights train, or none. `per-step`: a new choice at every step or stage. `added
modules`: new weights train.
"""

Rng = Callable[[str], torch.Generator]
"""rng(name): a fresh CPU generator, seeded with (cell's seed, method, name).

It draws on the CPU: CUDA draws differ, and a choice of weights must not depend on the device.
"""


class Probe(Protocol):
    """Computes gradients of training batches before training starts."""

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
        """Put the mean gradient of one more batch into `.grad`, and yield the batch's weight.

        The weight is the batch's number of examples over that of a full batch: 1.0, or less for a
        short last batch. A sum weighted by it gives every example the same weight.

        batches: how many; None = one pass over the training set. repeat: whether to start the
        training set again at its end; if not, one pass is the limit. dropout: whether dropout is
        on. max_grad_norm: norm to which the whole model's gradient is clipped, head included;
        None = no clipping. batch_size: examples in a batch; None = as in training. head_steps:
        optimizer steps of the task head, on a frozen encoder, before the first batch.
        A tensor that the loss does not reach has no `.grad`. The encoder's weights never change.
        Head, training order, global generators, gradients and the model's mode are restored in
        the end.
        """
        ...


HOOKS = ("penalty", "before_step", "after_step")


class Method:
    """Base of all methods: which weights train, and what happens around each step.

    A method that chooses once, before training, overrides `choose`; any other method overrides
    `attach` and hooks. A field's type states its range or choices (`fields.py`), checked for a
    configuration and for a method that is built directly. In every method, `density` is the
    trained fraction of the encoder's weights, and `burn_in` counts batches or steps before the
    choice.
    """

    title: str
    """The name as the paper writes it."""

    paper: str
    """Authors, year and arXiv number."""

    category: Category

    readings: Readings | None = None
    """Fields that tell the paper's text from its authors' program; None = there is one reading."""

    left_open: tuple[str, ...] | None = None
    """Fields that Akbar-Tajari and Pilehvar 2024 leave open, for methods that they alone compare.
    """

    revision: int = 1
    """Raised when the same fields give another result: older records then count as stale."""

    chosen: Mapping[str, Tensor] | None = None
    """What `choose` returned: tensor name -> index. None before, and if nothing is chosen."""

    _claim: claims.Claim | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Wrap the subclass's `attach` and hooks."""
        super().__init_subclass__(**options)
        own = vars(cls)
        wrapped = {hook: noting(hook, own[hook]) for hook in HOOKS if hook in own}
        if "attach" in own:
            wrapped["attach"] = claiming(own["attach"])
        for name, function in wrapped.items():
            setattr(cls, name, function)

    def __post_init__(self) -> None:
        """Check every field. Raises InputError for each value outside of its field's type.

        A subclass checks relations between fields in a `__post_init__` of its own, after this one;
        its errors begin with `name`.
        """
        good, wrong = fields.check(type(self), fields.values(self))
        if wrong:
            raise InputError(*(f"{self.name}: {name} {text}" for name, text in wrong.items()))
        vars(self).update(good)

    @property
    def name(self) -> str:
        """The method's key: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def hooks(self) -> tuple[str, ...]:
        """The hooks that a training loop has to call for this method."""
        return tuple(h for h in HOOKS if getattr(type(self), h) is not getattr(Method, h))

    @property
    def packs(self) -> bool:
        """Whether it works on packed batches: nothing of it tells rows or padding apart."""
        return True

    @property
    def support_size(self) -> int | None:
        """Number of weights that can differ from the base in the evaluated model.

        None = all trained weights.
        """
        return None

    @property
    def moved_per_step(self) -> float | None:
        """Mean number of weights updated per step, for methods that reselect every step; else None.

        Before the first step: the number that a step will update.
        """
        return None

    @property
    def least_steps(self) -> int:
        """The shortest run, in steps, in which the method does what its name says."""
        return 1

    def choose(self, model: nn.Module, probe: Probe, rng: Rng) -> dict[str, Tensor]:
        """Choose the weights that train: tensor name -> sorted int64 vector of flat positions.

        Arguments as `attach`. Leaves the model unchanged. A resumed run does not choose again: it
        reads the choice from its checkpoint.
        """
        raise NotImplementedError(f"{type(self).__name__} overrides neither choose nor attach")

    @claiming
    def attach(self, model: nn.Module, probe: Probe | None, rng: Rng) -> None:
        """Choose weights, freeze the rest and insert modules; called once, before the optimizer.

        model: the pretrained encoder, unedited; all of its weights are trainable and eligible.
        probe: computes gradients; None in a call means that the method asks for none. `attach`
        edits the model through `sparse.surgery` alone, and never draws from the global generators.
        Raises InputError for a model that has a method or frozen weights.
        """
        if self.chosen is None:
            assert probe is not None  # `claiming` replaces None by a probe that refuses
            self.chosen = self.choose(model, probe, rng)
        surgery.select(model, self.chosen)

    def penalty(self) -> Tensor | float:
        """Term added to the loss of every micro-batch: finite, at least 0."""
        return 0.0

    def before_step(self, step: int) -> None:
        """Called when step `step` (from 1) has all gradients, before clipping; may edit `.grad`."""

    def after_step(self, step: int, optimizer: Optimizer) -> None:
        """Called when the optimizer has updated the weights; may edit weights and `optimizer`.

        May also change which weights train. `.grad` holds the step's clipped gradients.
        """

    def scores_at(self, step: int) -> bool:
        """Whether a dev score after step `step` competes for the best checkpoint.

        Depends on the fields alone: a run in which no score competes is refused at its start.
        """
        return True

    def state_dict(self) -> dict[str, Any]:
        """All that the next step reads beside the weights: tensors, numbers, strings."""
        return {f"chosen.{name}": index for name, index in (self.chosen or {}).items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave: after `attach`, before weights and optimizer are loaded.

        Afterwards the same weights train as when the state was taken.
        """

    def restore(self, model: nn.Module, rng: Rng, state: Mapping[str, Any]) -> None:
        """Attach to a resumed run's model, without a probe: the same edits as before.

        model, rng: as `attach`. state: what `state_dict` gave. Weights and optimizer are loaded
        afterwards.
        """
        self.chosen = taken(state, "chosen") or None
        self.attach(model, None, rng)
        self.load_state_dict(state)

    def most_important(
        self, scores: Mapping[str, Tensor], density: float, *, scope: str = "global"
    ) -> dict[str, Tensor]:
        """Call `selection.most_important`; its errors name the method."""
        try:
            return selection.most_important(scores, density, scope=scope)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None


def taken(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries of a state whose keys start with `prefix.`, without the prefix.

    >>> taken({"chosen.a.weight": 1, "step": 2}, "chosen")
    {'a.weight': 1}
    """
    start = f"{prefix}."
    return {key.removeprefix(start): v for key, v in state.items() if key.startswith(start)}


@cache
def names() -> tuple[str, ...]:
    """The keys of all methods: the files on the path of `jiant_sparse.methods`."""
    modules = pkgutil.iter_modules(jiant_sparse.methods.__path__)
    return tuple(sorted(module.name for module in modules if module.name not in SHARED))


def find(name: str) -> type[Method]:
    """The method class in `methods/<name>.py`.

    Raises InputError for an unknown name, and for a class whose declarations have mistakes.
    """
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
    mistakes = [f"{module.__file__}: {found.__name__} {text}" for text in _mistakes(found)]
    if mistakes:
        raise InputError(*mistakes)
    return found


def _mistakes(kind: type[Method]) -> Iterator[str]:
    lacking = [part for part in ("title", "paper", "category") if not hasattr(kind, part)]
    if lacking:
        yield f"lacks {', '.join(lacking)}"
    elif kind.category not in get_args(Category):
        yield f"has category {shown(kind.category)}; {suggest(kind.category, get_args(Category))}"
    if inspect.get_annotations(kind) and "__dataclass_fields__" not in vars(kind):
        yield "is no dataclass; decorate it with @dataclass"
        return
    own = [*fields.of(kind)]
    # Other fields of the training are known to `schema`, and checked with the configuration.
    named = [name for name in kind.readings or () if not name.startswith("train.")]
    for where, names, known in (
        ("readings", named, [*own, *TRAINING]),
        ("left_open", kind.left_open or (), own),
    ):
        for name in names:
            if name not in known:
                yield f"names {shown(name)} in {where}, which is no field; {suggest(name, known)}"
