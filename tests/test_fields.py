"""Fields of the methods: values just outside of a declared range are refused, with the range."""

import math
from dataclasses import make_dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Lt, MultipleOf
from support.methods import configure

from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields

FRACTION, COUNT, POSITIVE = (
    "a number in (0, 1]",
    "an integer of at least 1",
    "a finite number above 0",
)
NAN, INF = math.nan, math.inf
# (method, field, values outside of its range, what is allowed): each kind of range once.
OUTSIDE = [
    ("random", "density", (0, -0.1, 1.5, NAN, "1e-1", True, Fraction(1, 2)), FRACTION),
    ("random", "density", (np.True_, torch.tensor(True), torch.tensor(0.5)), FRACTION),
    ("random_per_step", "density", (0, 1.5), f"{FRACTION} or null"),
    ("random", "scope", ("layer", 1, None), "one of global, per_tensor"),
    ("mag_pruning", "burn_in", (-1, 0.5, True), "an integer of at least 0"),
    ("child_pruning", "burn_in", (0, 2.5), f"{COUNT} or null"),
    ("child_pruning", "momentum", (1.0, -0.1, NAN), "a number in [0, 1)"),
    ("sam", "burn_in", (0, "all", "010", [3], np.float64(3), np.True_), f"{COUNT} or 'exact'"),
    ("sam", "dropout", ("on", 1, np.True_, np.int64(1)), "true or false"),
    ("sam", "clip", (0, -1.0, INF), f"{POSITIVE} or null"),
    ("diff_pruning", "stretch_low", (0.0, NAN), "a finite number below 0"),
    ("diff_pruning", "stretch_high", (1.0,), "a finite number above 1"),
    ("diff_pruning", "l0_weight", (-1e-9, INF), "a finite number of at least 0"),
    ("diff_pruning", "gate_init", (NAN, INF, None), "a finite number"),
    ("lora", "modules", ([], "query", [1]), "a list of names that is not empty"),
    ("mixout", "q", (0, 1, NAN), "a number in (0, 1)"),
    ("adapter", "init", ("lora",), "one of mam_adapter, bert, houlsby or null"),
]


@pytest.mark.parametrize(("name", "field", "values", "allowed"), OUTSIDE)
def test_values_just_outside_are_refused(name, field, values, allowed):
    for value in values:
        with pytest.raises(InputError) as caught:
            base.find(name)(**{field: value})
        assert str(caught.value) == f"{name}: {field} is {value!r}; it must be {allowed}"


def test_all_problems_come_at_once_and_directly_built_methods_are_checked_alike():
    wrong = {"density": 2, "scope": "globl", "dropout": 1}
    with pytest.raises(InputError) as direct:
        base.find("sam")(**wrong)
    with pytest.raises(InputError) as bound:
        configure("sam", wrong | {"scop": 1})
    of_file = [problem.removeprefix("f.yaml: methods.sam.") for problem in bound.value.problems]
    known = ", ".join(fields.of(base.find("sam")))
    assert of_file[0] == f"scop: is not a known key; did you mean scope? known: {known}"
    expected = [problem.removeprefix("sam: ") for problem in direct.value.problems]
    assert [problem.replace(": is", " is") for problem in of_file[1:]] == expected


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("sam", {"burn_in": "exact", "dropout": True}, "burn_in is 'exact'; dropout must be false"),
        ("sam", {"burn_in": "exact", "clip": 1.0}, "burn_in is 'exact'; dropout must be false"),
        ("mixout", {"mix": "none", "reset": False}, "mix is 'none' and reset is false: that is fu"),
        ("child_pruning", {"burn_in": None, "reset": True}, "reset is true and burn_in null: the"),
        ("diff_pruning", {"burn_in": None}, "burn_in and mask_interval are null: nothing would"),
        ("diff_pruning", {"mask_interval": 500}, "mask_interval is 500; it must be below burn_in"),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused(name, wrong, message):
    with pytest.raises(InputError) as direct:
        base.find(name)(**wrong)
    assert str(direct.value).startswith(f"{name}: {message}")
    with pytest.raises(InputError) as bound:
        configure(name, wrong)
    assert bound.value.problems == (f"f.yaml: methods.{direct.value}",)


@pytest.mark.parametrize(
    ("hint", "good", "wrong", "allowed"),
    [
        (str, "query", 1, "text"),
        (list[int], [1, 2], ["a"], "of type list[int]"),
        (tuple[float, float], (0.5, 1.0), [0.5], "of type tuple[float, float]"),
        (list[tuple[str, int]], [("a", 1)], [("a", "b")], "of type list[tuple[str, int]]"),
        (dict[str, float], {"a": 0.5}, {"a": "b"}, "of type dict[str, float]"),
        (torch.Tensor, None, 0.5, "of type Tensor"),
        (Literal[1, 2], 2, "2", "one of 1, 2"),
        (Literal[1, 2, 3, 4, 5, 6], 6, "7", "known: 1, 2, 3, 4, 5, 6"),
        (Annotated[int, MultipleOf(4)], 8, 6, "an integer that is a multiple of 4"),
        (Annotated[int, Ge(1), MultipleOf(4)], 8, 0, "an integer of at least 1 that is a mul"),
        (Annotated[float, Lt(1), Gt(0)], 0.5, 1, "a number in (0, 1)"),
        (Annotated[float, "doc"], 0.5, INF, "a finite number"),
    ],
)
def test_a_field_may_have_any_plain_type(hint: Any, good: Any, wrong: Any, allowed: str):
    kind = make_dataclass("Plain", [("field", hint)])
    told = fields.check(kind, {"field": wrong})[1]["field"]
    assert told.startswith(f"is {wrong!r}; ") and allowed in told
    assert told.endswith(fields.allowed(hint)) or "known" in told
    if good is not None:
        assert fields.check(kind, {"field": good}) == ({"field": good}, {})


def test_integers_numbers_of_numpy_and_tuples_become_plain():
    sam, lora = base.find("sam"), base.find("lora")
    plain = [
        sam(burn_in=np.int64(3)).burn_in,
        sam(density=np.float32(0.5)).density,
        lora(alpha=np.int32(8)).alpha,
        lora(dropout=0).dropout,
        lora(modules=("query", "value")).modules,
    ]
    assert list(map(repr, plain)) == ["3", "0.5", "8.0", "0.0", "['query', 'value']"]
