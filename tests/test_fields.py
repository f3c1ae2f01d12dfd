"""Fields of the methods: values just outside of a declared range are refused, with the range."""

import math
from dataclasses import make_dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import torch
from annotated_types import Ge, Gt, Lt, MultipleOf

from jiant_sparse.config import load as config
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields

LATE = "random mag_pruning child_pruning diff_pruning sam"
STEPWISE = "random_per_step stochastic_tuning top_tuning"
FRACTION, COUNT, ABOVE_0 = (
    "a number in (0, 1]",
    "an integer of at least 1",
    "a finite number above 0",
)
NAN, INF = math.nan, math.inf
# (methods, field, values outside of its range, what is allowed)
OUTSIDE = [
    (
        "random",
        "density",
        (np.True_, torch.tensor(True), torch.tensor(0.5), Fraction(1, 2)),
        FRACTION,
    ),
    ("sam", "burn_in", (np.float64(3), np.True_, torch.tensor(3)), f"{COUNT} or 'exact'"),
    ("sam", "dropout", (np.True_, np.int64(1)), "true or false"),
    (f"{LATE} fish child_tuning_d", "density", (0, -0.1, 1.5, NAN, "1e-1", True), FRACTION),
    (STEPWISE, "density", (0, 1.5), f"{FRACTION} or null"),
    ("child_tuning_f", "reserve_p", (0, -0.1, 1.5, NAN), FRACTION),
    (LATE, "scope", ("layer", 1, None), "one of global, per_tensor"),
    ("random", "draw", ("some",), "one of exact, bernoulli"),
    ("mag_pruning", "burn_in", (-1, 0.5, True), "an integer of at least 0"),
    ("child_pruning child_tuning_d diff_pruning", "burn_in", (0, 2.5), f"{COUNT} or null"),
    ("sam", "burn_in", (0, "all", "010", [3]), f"{COUNT} or 'exact'"),
    ("sam", "score", ("hessian",), "one of signed_sum, fisher, absolute"),
    ("sam", "clip", (0, -1.0, INF), f"{ABOVE_0} or null"),
    ("sam", "head_steps", (-1, 1.0), "an integer of at least 0"),
    ("sam child_tuning_d", "dropout", ("on", 1), "true or false"),
    ("child_tuning_d", "clip", (0, -1.0, NAN), ABOVE_0),
    ("fish", "samples", (0, -3), COUNT),
    ("fish", "score", ("expected",), "one of fisher, absolute"),
    ("child_pruning", "interval", (0, None), COUNT),
    ("child_pruning", "momentum", (1.0, -0.1, NAN), "a number in [0, 1)"),
    ("child_pruning mixout", "reset", (0,), "true or false"),
    ("diff_pruning", "score", ("abs",), "one of delta, logit"),
    ("diff_pruning", "mask_interval", (0, -2), f"{COUNT} or null"),
    ("diff_pruning", "stretch_low", (0.0, NAN), "a finite number below 0"),
    ("diff_pruning", "stretch_high", (1.0,), "a finite number above 1"),
    ("diff_pruning", "l0_weight", (-1e-9, INF), "a finite number of at least 0"),
    ("diff_pruning", "gate_init", (NAN, INF, None), "a finite number"),
    ("diff_pruning", "structured", (1,), "true or false"),
    ("diff_pruning", "random_gates", (1,), "true or false"),
    ("diff_pruning", "gate_learning_rate", (0, -0.1), f"{ABOVE_0} or null"),
    ("diff_pruning", "gated_schedule", ("warm",), "one of own, training"),
    ("dps_dense dps_mix", "updated_fraction", (0, 1, NAN), "a number in (0, 1)"),
    ("dps_dense dps_mix", "stage_steps", (0, -3), COUNT),
    ("lora", "modules", ([], "query", [1]), "a list of names that is not empty"),
    ("lora", "rank", (0, 8.0), COUNT),
    ("lora", "alpha", (0, -1, INF), ABOVE_0),
    ("lora", "dropout", (1.0, -0.1), "a number in [0, 1)"),
    ("lora", "init_b", ("zero",), "one of zeros, kaiming"),
    ("mixout", "q", (0, 1, NAN), "a number in (0, 1)"),
    ("mixout", "mix", ("row",), "one of rows, elements, none"),
    ("mixout", "tensors", ("any",), "one of linear, all"),
    ("multi_head", "layer_norm", ("yes",), "true or false"),
    (STEPWISE, "momentum", ("x",), "one of lazy, dense"),
    ("stochastic_tuning top_tuning", "mean", ("x",), "one of signed, absolute"),
    ("stochastic_tuning top_tuning", "padding", (0,), "true or false"),
    ("adapter", "init", ("lora",), "one of mam_adapter, bert, houlsby or null"),
    ("adapter", "reduction_factor", (0, INF), f"{ABOVE_0} or null"),
]


@pytest.mark.parametrize(("names", "field", "values", "allowed"), OUTSIDE)
def test_values_just_outside_are_refused(names, field, values, allowed):
    for name in names.split():
        for value in values:
            with pytest.raises(InputError) as caught:
                base.find(name)(**{field: value})
            assert str(caught.value) == f"{name}: {field} is {value!r}; it must be {allowed}"


def test_every_field_is_in_the_table_but_the_names_of_adapters():
    tested = {(name, field) for names, field, *_ in OUTSIDE for name in names.split()}
    declared = {(name, field) for name in base.names() for field in fields.of(base.find(name))}
    assert declared - tested == {("adapter", "config")}


def test_all_problems_come_at_once_and_directly_built_methods_are_checked_alike():
    wrong = {"density": 2, "scope": "globl", "dropout": 1}
    with pytest.raises(InputError) as direct:
        base.find("sam")(**wrong)
    raw = {"benchmark": "b", "model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}}}
    with pytest.raises(InputError) as bound:
        config.parse(raw | {"methods": {"sam": wrong | {"scop": 1}}}, "f.yaml")
    of_file = [problem.removeprefix("f.yaml: methods.sam.") for problem in bound.value.problems]
    assert of_file[0] == "scop: is not a known key; did you mean scope? known: " + ", ".join(
        fields.of(base.find("sam"))
    )
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
    with pytest.raises(InputError) as caught:
        base.find(name)(**wrong)
    assert str(caught.value).startswith(f"{name}: {message}")


def test_an_integer_becomes_a_float_where_a_field_is_one():
    method = base.find("lora")(alpha=8, dropout=0)
    assert (repr(method.alpha), repr(method.dropout)) == ("8.0", "0.0")


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


def test_numbers_of_numpy_and_tuples_become_plain():
    sam, lora = base.find("sam"), base.find("lora")
    plain = [
        sam(burn_in=np.int64(3)).burn_in,
        sam(density=np.float32(0.5)).density,
        lora(alpha=np.int32(8)).alpha,
        lora(modules=("query", "value")).modules,
    ]
    assert list(map(repr, plain)) == ["3", "0.5", "8.0", "['query', 'value']"]


def test_both_ways_of_building_name_a_method_once_where_two_fields_do_not_fit():
    raw = {"benchmark": "b", "model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}}}
    with pytest.raises(InputError) as caught:
        config.parse(raw | {"methods": {"diff_pruning": {"burn_in": None}}}, "f.yaml")
    told = "burn_in and mask_interval are null: nothing would ever be cut"
    assert caught.value.problems == (f"f.yaml: methods.diff_pruning: {told}",)
