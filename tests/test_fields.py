"""Fields of the methods: values just outside of a declared range are refused, with the range."""

import math

import pytest

from jiant_sparse.config import load as config
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields

LATE = "random mag_pruning child_pruning diff_pruning sam"
STEPWISE = "random_per_step stochastic_tuning top_tuning"
FRACTION, COUNT, ABOVE_0 = "a number in (0, 1]", "an integer of at least 1", "a number above 0"
NAN, INF = math.nan, math.inf
# (methods, field, values outside of its range, what is allowed)
OUTSIDE = [
    (f"{LATE} fish child_tuning_d", "density", (0, -0.1, 1.5, NAN, "1e-1", True), FRACTION),
    (STEPWISE, "density", (0, 1.5), f"{FRACTION} or null"),
    ("child_tuning_f", "reserve_p", (0, -0.1, 1.5, NAN), FRACTION),
    (LATE, "scope", ("layer", 1, None), "one of global, per_tensor"),
    ("random", "draw", ("some",), "one of exact, bernoulli"),
    ("mag_pruning", "burn_in", (-1, 0.5, True), "an integer of at least 0"),
    ("child_pruning child_tuning_d diff_pruning", "burn_in", (0, 2.5), f"{COUNT} or null"),
    ("sam", "burn_in", (0, "all", "010", [3]), f"{COUNT} or exact"),
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
    ("diff_pruning", "stretch_low", (0.0, NAN), "a number below 0"),
    ("diff_pruning", "stretch_high", (1.0,), "a number above 1"),
    ("diff_pruning", "l0_weight", (-1e-9, INF), "a number of at least 0"),
    ("diff_pruning", "gate_init", (INF, None), "a number"),
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
    assert str(caught.value).startswith(message)


def test_an_integer_becomes_a_float_where_a_field_is_one():
    method = base.find("lora")(alpha=8, dropout=0)
    assert (repr(method.alpha), repr(method.dropout)) == ("8.0", "0.0")
