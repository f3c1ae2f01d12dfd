"""Which reading of Fu et al. 2023 a run made: the text of the paper or the authors' program.

Of the methods that only Akbar-Tajari and Pilehvar 2024 compare there is one reading, and what that
paper leaves open, this house has chosen.

docs/methods.md lists both. What decides is a difference in kind: a field for which the two
readings stand for different things. Sizes and counts do not decide (density, q, rank, reduction
factor, the steps of a burn-in): the two agree on them, or the program's are unknown, or they
differ by task; `published.departures` looks at the first two. A field that has no effect in a
reading takes any value there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jiant_sparse.report.published import METHODS, MODELS

Word = Literal[
    "paper",
    "released program",
    "mixed",
    "neither",
    "unknown",
    "Akbar-Tajari and Pilehvar 2024",
    "in neither paper",
]
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a run made of its method.

    word: `paper` or `released program` if every deciding field is of that reading (`paper` if of
        both); `mixed` if some are of one alone and some of the other; `neither` if one is of
        neither; `unknown` if one is not recorded; the name of the second paper for a method that
        it alone compares; `in neither paper` for others.
    differences: what is of which reading if `mixed`, of neither if `neither`, missing if `unknown`;
        what the second paper leaves open, as it was chosen.
    """

    word: Word
    differences: tuple[str, ...] = ()


_ABSENT = object()


@dataclass(frozen=True)
class _Rule:
    """A deciding field, and which of its values are the paper's and the program's; the second
    argument is all fields of the method, and the `model`. unsaid: its value in records without it.
    """

    field: str
    paper: Callable[[Any, Fields], bool]
    program: Callable[[Any, Fields], bool]
    unsaid: Any = _ABSENT


def _is(*allowed: Any) -> Callable[[Any, Fields], bool]:
    return lambda value, _: value in allowed


def _any(value: Any, fields: Fields) -> bool:
    return True


def _number(value: Any, fields: Fields) -> bool:
    return value is not None


def _modules(*expected: str) -> Callable[[Any, Fields], bool]:
    return lambda value, _: isinstance(value, list) and sorted(map(str, value)) == sorted(expected)


def _official_scale(alpha: Any, fields: Fields) -> bool:
    """The official alpha / rank, 2, at any rank."""
    rank = fields.get("rank")
    return isinstance(alpha, (int, float)) and isinstance(rank, int) and alpha == 2 * rank


def _one_over_weights(l0_weight: Any, fields: Fields) -> bool:
    """1 over the weights of RoBERTa-base; of another model, how many there are is not recorded
    in the settings, and no value is taken for the program's."""
    known = fields.get("model") in MODELS and isinstance(l0_weight, (int, float))
    return known and math.isclose(l0_weight, 8.02e-9, rel_tol=0.01)


_SCOPE = _Rule("scope", _is("global"), _is("per_tensor"))
_SIX_LAYERS = ("query", "key", "value", "output.dense", "intermediate.dense")
_RULES: dict[str, tuple[_Rule, ...]] = {
    "full_tuning": (),
    "random": (
        _Rule("draw", _is("exact"), _is("bernoulli")),
        _Rule("scope", _is("global"), _any),
    ),
    "mixout": (
        _Rule("mix", _is("rows"), _is("none")),
        _Rule("tensors", _is("linear"), _any),
        # Without the reset Mixout is that of Lee et al., of which nothing is sparse.
        _Rule("reset", _is(True), _is(True)),
    ),
    "bitfit": (),
    "mag_pruning": (_SCOPE, _Rule("burn_in", _is(0), lambda value, _: value != 0)),
    "adapter": (
        _Rule("config", _is("seq_bn", "pfeiffer"), _is("seq_bn", "pfeiffer")),
        _Rule("init", _is(None, "mam_adapter"), _is("bert")),
    ),
    "lora": (
        _Rule("modules", _modules("query", "value"), _modules(*_SIX_LAYERS)),
        _Rule("alpha", _official_scale, _is(1)),
        _Rule("dropout", _is(0), _is(0)),
        _Rule("init_b", _is("zeros"), _is("kaiming")),
    ),
    "diff_pruning": (
        _SCOPE,
        _Rule("score", _is("delta"), _is("logit")),
        # Figure 3 refreshes the mask for ever, which the program cannot.
        _Rule("burn_in", _any, _number),
        _Rule("mask_interval", _any, _is(None)),
        _Rule("stretch_low", _is(-1.5), _is(-3)),
        _Rule("stretch_high", _is(1.5), _is(3)),
        # The program's penalty is a mean: its factor is 1 over the weights of the model.
        _Rule("l0_weight", _is(1.25e-7), _one_over_weights),
        _Rule("structured", _is(True), _is(False)),
        _Rule("random_gates", _is(False), _is(True)),
        _Rule("gate_learning_rate", _number, _is(None)),
        _Rule("gated_schedule", _is("own"), _is("training"), unsaid="training"),
    ),
    "child_pruning": (
        _SCOPE,
        _Rule("interval", lambda value, _: value != 1, _is(1)),
        _Rule("burn_in", _number, _is(None)),
        # The program has both, and how it was called is not known.
        _Rule("momentum", _is(0), _any),
        _Rule("reset", _is(False), _any),
    ),
    "sam": (
        _SCOPE,
        _Rule("score", _is("signed_sum"), _is("signed_sum")),
        _Rule("dropout", _is(False), _is(True)),
        _Rule("clip", _is(None), _is(1)),
        _Rule("head_steps", _is(0), _is(0), unsaid=0),
    ),
}
_PROTOCOL = (
    _Rule("reshuffle", _is(True), _is(False)),
    _Rule("eval_offset", _is(0), _is(1)),
    _Rule("dev_examples", _is(None), _is(500)),
)
# Masked gradients let the program's decay go on. What it freezes does not decay; where all weights
# train to the end nothing can leak, and the field has no effect.
_LEAK = _Rule("decay_unselected", _is(False), _is(True))
_NO_LEAK = _Rule("decay_unselected", _is(False), _is(False))
_LEAKS = {
    "full_tuning": _Rule("decay_unselected", _any, _any),
    "mixout": _Rule("decay_unselected", _any, _any),
    "adapter": _NO_LEAK,
    "lora": _NO_LEAK,
    "diff_pruning": _NO_LEAK,
    "child_pruning": _Rule("decay_unselected", _is(False), _any),
}
# Methods of the second paper alone -> their fields that its text says nothing, or no more than a
# word, about. DPS is of Zhang et al. 2022, whose program has the defaults.
_SIGNAL = ("mean", "padding", "momentum")
_OPEN: dict[str, tuple[str, ...]] = {
    "frozen": (),
    "random_per_step": ("momentum",),
    "dps_mix": ("updated_fraction", "stage_steps"),
    "multi_head": ("layer_norm",),
    "top_tuning": _SIGNAL,
    "stochastic_tuning": _SIGNAL,
}


def reading_of(settings: Mapping[str, Any]) -> Reading:
    """The reading that the settings of a record make.

    Compares the deciding fields of the method and, of the training, `reshuffle`, `eval_offset`,
    `dev_examples`, `decay_unselected` and `freeze_head`. The rest of the protocol is the same in
    both readings; `published.departures` compares it.
    """
    fields, train = settings.get("method"), settings.get("train")
    key = fields.get("name") if isinstance(fields, Mapping) else None
    if not isinstance(fields, Mapping) or not isinstance(key, str):
        return Reading("unknown", ("method is unknown",))
    if key in _OPEN:
        return _second_paper(key, fields)
    if key not in METHODS:
        return Reading("in neither paper")
    known = train if isinstance(train, Mapping) else {}
    of_model = {**fields, "model": settings.get("model")}
    found = [*_compared(_RULES[key], of_model), *_compared(_training(key), known, "train.")]
    return _reading(found)


def _second_paper(key: str, fields: Fields) -> Reading:
    absent = [f"{name} is unknown" for name in _OPEN[key] if name not in fields]
    if absent:
        return Reading("unknown", tuple(absent))
    chosen = ", ".join(f"{name} is {_shown(fields[name])}" for name in _OPEN[key])
    said = (f"left open there, here: {chosen}",) if chosen else ()
    return Reading("Akbar-Tajari and Pilehvar 2024", said)


def left_open(key: str) -> tuple[str, ...]:
    """The fields of a method of the second paper alone that its text leaves open."""
    return _OPEN[key]


def deciding(key: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of the method with this key, and those of its training, that are compared."""
    method, train = _RULES[key], _training(key)
    return tuple(rule.field for rule in method), tuple(rule.field for rule in train)


def _training(key: str) -> tuple[_Rule, ...]:
    head = _Rule("freeze_head", _is(False), _is(key == "lora"))
    return (*_PROTOCOL, _LEAKS.get(key, _LEAK), head)


def _compared(
    rules: tuple[_Rule, ...], fields: Fields, prefix: str = ""
) -> list[tuple[str, bool | None, bool | None]]:
    """(what is there, whether it is the paper's, whether it is the program's); None = absent."""
    found: list[tuple[str, bool | None, bool | None]] = []
    for rule in rules:
        value = fields.get(rule.field, rule.unsaid)
        if value is _ABSENT:
            found.append((f"{prefix}{rule.field} is unknown", None, None))
        else:
            said = f"{prefix}{rule.field} is {_shown(value)}"
            found.append((said, rule.paper(value, fields), rule.program(value, fields)))
    return found


def _reading(found: list[tuple[str, bool | None, bool | None]]) -> Reading:
    def said(paper: bool | None, program: bool | None) -> tuple[str, ...]:
        return tuple(text for text, *which in found if which == [paper, program])

    neither, unknown = said(False, False), said(None, None)
    paper, program = said(True, False), said(False, True)
    if neither:
        return Reading("neither", neither)
    if paper and program:
        parts = [f"paper: {text}" for text in paper]
        return Reading("mixed", (*parts, *(f"released program: {text}" for text in program)))
    if unknown:
        return Reading("unknown", unknown)
    return Reading("released program" if program else "paper")


def _shown(value: Any) -> str:
    """As YAML writes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
