"""Which of two readings a run makes: the text of the paper, or the program of its authors.

A method lists its deciding fields in `Method.readings`. A field decides if the two readings differ
in kind there. Sizes and counts do not decide (density, rank, steps of a burn-in): the readings
agree on them, or the program's values are unknown, or they differ by task.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jiant_sparse.methods import fields

if TYPE_CHECKING:
    from jiant_sparse.methods.base import Method

Word = Literal[
    "paper",
    "released program",
    "mixed",
    "neither",
    "Akbar-Tajari and Pilehvar 2024",
    "in neither paper",
]
"""`paper`, `released program`: every deciding field has a value of that reading; `paper` if the
values fit both. `mixed`: some fields are of one reading alone, some of the other. `neither`: a
field is of neither reading. The name of the second paper: it alone compares the method. `in
neither paper`: neither Fu et al. 2023 nor the second paper compares the method.
"""

Test = Callable[[Any, Mapping[str, Any]], bool]
"""Tells from a field's value, and all settings of the run, whether a reading has the value."""

Readings = Mapping[str, tuple[Any, Any]]
"""Field -> (value in the paper, value in the authors' program). A value may be a `Test`.

Fields of the training begin with `train.`.
"""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A field that keeps a run from being one reading, or that the paper leaves open."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    field: str
    value: Any
    reading: Literal["paper", "released program", "neither", "left open"]


def anything(value: Any, run: Mapping[str, Any]) -> bool:
    """The field has no effect in this reading, or its value there is unknown."""
    return True


def one_of(*values: Any) -> Test:
    """The field has one of `values`."""
    return lambda value, run: value in values


def but(*values: Any) -> Test:
    """The field has none of `values`."""
    return lambda value, run: value not in values


# The training that decides, unless a method says otherwise. The program masks gradients, so that
# its weight decay goes on for weights that are not selected.
TRAINING: Readings = {
    "train.reshuffle": (True, False),
    "train.eval_offset": (0, 1),
    "train.dev_examples": (None, 500),
    "train.decay_unselected": (False, True),
    "train.freeze_head": (False, False),
}


def rules(kind: "type[Method]") -> Readings:
    """The deciding fields of a method, then those of its training; none without two readings."""
    if kind.readings is None:
        return {}
    own = {name: both for name, both in kind.readings.items() if name not in TRAINING}
    return {**own, **TRAINING, **kind.readings}


def compare(
    method: "Method", train: Mapping[str, Any], model: str
) -> tuple[Word, list[Difference]]:
    """The reading that a run makes, and the fields that say so.

    train: all fields of the training. model: the model's name, `roberta-base` for every name of
    the published model. Differences are empty for `paper`, `released program`, and a method of no
    paper.
    """
    own = fields.values(method)
    if method.left_open is not None:
        chosen = [Difference(name, own[name], "left open") for name in method.left_open]
        return "Akbar-Tajari and Pilehvar 2024", chosen
    if method.readings is None:
        return "in neither paper", []
    run = {**own, **{f"train.{name}": value for name, value in train.items()}, "model": model}
    paper: list[Difference] = []
    program: list[Difference] = []
    neither: list[Difference] = []
    for name, (in_paper, in_program) in rules(type(method)).items():
        fits = _fits(in_paper, run[name], run), _fits(in_program, run[name], run)
        if fits == (False, False):
            neither.append(Difference(name, run[name], "neither"))
        elif fits == (True, False):
            paper.append(Difference(name, run[name], "paper"))
        elif fits == (False, True):
            program.append(Difference(name, run[name], "released program"))
    if neither:
        return "neither", neither
    if paper and program:
        return "mixed", [*paper, *program]
    return ("released program" if program else "paper"), []


def _fits(expected: Any, value: Any, run: Mapping[str, Any]) -> bool:
    if callable(expected):
        return expected(value, run)
    # Modules are a set: their order does not matter.
    return sorted(value) == sorted(expected) if isinstance(value, list) else value == expected
