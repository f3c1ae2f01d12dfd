"""Which reading a run makes: the shipped files, every default, and each deciding field."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from support.documents import RECORD

from jiant_sparse.config import load as config
from jiant_sparse.methods import base as methods
from jiant_sparse.methods.readings import Difference, compare, rules
from jiant_sparse.report import published
from jiant_sparse.report.readings import Reading, reading_of, titles
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import MethodFacts

SECOND_PAPER = published.STOCHASTIC_SOURCE
SECOND = {*published.STOCHASTIC_METHODS} - {*published.METHODS}
STEPWISE = ("random_per_step", "top_tuning", "stochastic_tuning")
FILES = Path(__file__).parent.parent / "run_configs"
# What two readings may share: how much of something, not what.
SIZES = {
    "density", "q", "reduction_factor", "rank", "gate_init", "burn_in of sam",
}  # fmt: skip
# Neither decides nor is compared with the published experiment: no result but by rounding.
MACHINERY = {
    "eval_tokens", "length_grouping", "adam_epsilon", "checkpoint_every", "checkpoint_minutes",
    "allow_dropped", "sgd_momentum", "padding", "score_train",
}  # fmt: skip
PROGRAM_TRAIN = {"reshuffle": False, "eval_offset": 1, "dev_examples": 500}


def read(
    name: str, /, *, train: dict[str, Any] | None = None, model: str = "roberta-base", **fields: Any
) -> tuple[str, list[tuple[str, str, Any]]]:
    """(word, [(reading, value, field)]) of a method at its defaults, with changes."""
    whole = Train().model_dump() | (train or {})
    word, differences = compare(methods.find(name)(**fields), whole, model)
    return word, [(item.reading, item.value, item.field) for item in differences]


def word(name: str, /, **changes: Any) -> str:
    return read(name, **changes)[0]


def words_of_file(name: str) -> dict[str, set[str]]:
    """Reading -> labels of the methods of a shipped file."""
    found: dict[str, set[str]] = {}
    for cell in config.load(FILES / f"{name}.yaml").cells:
        found.setdefault(cell.method_facts.reading, set()).add(cell.key.method)
    return found


@pytest.mark.parametrize("name", ["table1", "table2", "figure5", "burn_in", "timing"])
def test_files_of_the_paper(name: str) -> None:
    assert {*words_of_file(f"fu2023/{name}")} == {"paper"}


def test_files_that_depart() -> None:
    # Figure 3 changes the mask for ever, with the gates of the program.
    assert words_of_file("fu2023/figure3") == {"mixed": {"diff_pruning"}}
    assert words_of_file("fu2023/released_program") == {"released program": {*published.METHODS}}
    assert words_of_file("fu2023/lora") == {"paper": {"lora"}, "mixed": {"lora_six_layers"}}
    # Mixout there is that of Lee et al.
    assert words_of_file("quickstart") == {
        "paper": {*published.METHODS} - {"mixout", "diff_pruning"},
        "neither": {"mixout"},
        "mixed": {"diff_pruning"},
        SECOND_PAPER: {"stochastic_tuning", "top_tuning"},
    }
    # Its rates are chosen by another file; the readings do not depend on them.
    assert words_of_file("stochastic2024/small_learning_rate")[SECOND_PAPER] == {
        *(f"{name}_learning_rate_{rate}" for name in SECOND for rate in ("0.0003", "0.003")),
        *(f"{n}_dense_learning_rate_{rate}" for n in STEPWISE for rate in ("0.0003", "0.003")),
        *(f"{name}_learning_rate_0.03" for name in STEPWISE),
    }


@pytest.mark.parametrize("name", methods.names())
def test_every_default_is_the_text_of_its_paper(name: str) -> None:
    found, differences = read(name)
    expected = SECOND_PAPER if name in SECOND else "in neither paper"
    assert found == ("paper" if name in published.METHODS else expected)
    assert bool(differences) == (name in SECOND and name != "frozen")


@pytest.mark.parametrize("name", published.METHODS)
def test_every_field_decides_or_is_a_size(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.find(name))}
    compared = {field for field in rules(methods.find(name)) if not field.startswith("train.")}
    sizes = {field for field in fields if field in SIZES or f"{field} of {name}" in SIZES}
    assert compared | sizes == fields
    assert not compared & sizes


@pytest.mark.parametrize("name", published.METHODS)
def test_every_field_of_the_training_decides_or_is_compared_with_the_paper(name: str) -> None:
    fields = rules(methods.find(name))
    compared = {field.removeprefix("train.") for field in fields if field.startswith("train.")}
    assert compared == {*PROGRAM_TRAIN, "decay_unselected", "freeze_head"}
    assert compared | {*published.TRAINING} | MACHINERY == {*Train.model_fields}
    assert not compared & {*published.TRAINING}


# Method -> fields that its authors' program has, each alone.
PROGRAM = {
    "random": {"draw": "bernoulli"},
    "mixout": {"mix": "none"},
    "mag_pruning": {"scope": "per_tensor", "burn_in": 7},
    "adapter": {"init": "bert"},
    "lora": {"init_b": "kaiming", "alpha": 1},
    "diff_pruning": {
        "scope": "per_tensor", "gated_schedule": "training", "score": "logit",
        "stretch_low": -3, "stretch_high": 3, "structured": False, "random_gates": True,
        "gate_learning_rate": None,
    },
    "child_pruning": {
        "scope": "per_tensor", "interval": 1, "burn_in": None, "momentum": 0.7, "reset": True,
    },
    "sam": {
        "scope": "per_tensor", "dropout": True, "clip": 1.0, "train.reshuffle": False,
        "train.eval_offset": 1, "train.dev_examples": 500, "train.decay_unselected": True,
    },
}  # fmt: skip
# Fields that neither reading has.
NEITHER = {
    "sam": {
        "score": "fisher", "clip": 0.5, "head_steps": 5, "train.freeze_head": True,
        "train.eval_offset": 7, "train.dev_examples": 100,
    },
    "mixout": {"mix": "elements", "reset": False},
    "adapter": {"init": "houlsby", "config": "double_seq_bn"},
    "lora": {
        "modules": ["query"], "alpha": 8.0, "dropout": 0.1, "train.decay_unselected": True,
    },
    "diff_pruning": {"stretch_high": 2.0, "l0_weight": 0.5},
}  # fmt: skip


def single(fields: dict[str, dict[str, Any]]) -> list[tuple[str, str, Any]]:
    return [(name, field, value) for name, its in fields.items() for field, value in its.items()]


@pytest.mark.parametrize(("name", "field", "value"), single(PROGRAM))
def test_a_single_field_of_the_program_makes_it_mixed(name: str, field: str, value: Any) -> None:
    part = field.removeprefix("train.")
    changes = {"train": {part: value}} if part != field else {field: value}
    found, differences = read(name, **changes)
    assert found == "mixed"
    of_program = [item for item in differences if item[0] == "released program"]
    assert of_program == [("released program", value, field)]
    paper = {item[2] for item in differences if item[0] == "paper"}
    assert field not in paper and {"train.reshuffle", "train.eval_offset", field} <= paper | {field}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sam", {"density": 0.01, "burn_in": 3}),
        ("mag_pruning", {"density": 0.2}),
        ("mixout", {"q": 0.9}),
        ("adapter", {"reduction_factor": 2}),
        ("lora", {"rank": 4, "alpha": 8}),
        ("lora", {"modules": ["value", "query"]}),
        ("diff_pruning", {"burn_in": 5}),
        ("diff_pruning", {"gate_learning_rate": 0.2, "gate_init": 1}),
        ("diff_pruning", {"burn_in": None, "mask_interval": 600}),
        ("child_pruning", {"interval": 5, "burn_in": 5}),
        ("full_tuning", {"train": {"decay_unselected": True}}),
    ],
)
def test_sizes_orders_and_what_has_no_effect_do_not_decide(
    name: str, changes: dict[str, Any]
) -> None:
    assert read(name, **changes) == ("paper", [])


@pytest.mark.parametrize("leak", [False, True])
def test_what_has_no_effect_in_the_program_does_not_decide(leak: bool) -> None:
    train = {**PROGRAM_TRAIN, "decay_unselected": leak}
    assert word("full_tuning", train=train) == "released program"
    assert word("mixout", mix="none", tensors="all", train=train) == "released program"
    fields = {"scope": "per_tensor", "interval": 1, "burn_in": None, "momentum": 0.7}
    assert word("child_pruning", train=train, **fields) == "released program"
    assert word("bitfit", train=train) == ("released program" if leak else "mixed")


@pytest.mark.parametrize(("name", "field", "value"), single(NEITHER))
def test_what_neither_reading_has(name: str, field: str, value: Any) -> None:
    part = field.removeprefix("train.")
    changes = {"train": {part: value}} if part != field else {field: value}
    assert read(name, **changes) == ("neither", [("neither", value, field)])


@pytest.mark.parametrize(
    ("l0_weight", "model", "expected"),
    [
        (1.25e-7, "roberta-base", "paper"),
        (1.25e-7, "tiny", "paper"),
        (8.02e-9, "roberta-base", "mixed"),
        (1 / 124_645_632, "FacebookAI/roberta-base", "mixed"),
        (8.02e-9, "tiny", "neither"),
    ],
)
def test_the_programs_penalty_is_one_over_the_weights(
    l0_weight: float, model: str, expected: str
) -> None:
    raw = {"benchmark": "b", "model": model, "data_dir": "d", "seeds": [0], "tasks": {"cb": {}}}
    raw["methods"] = {"diff_pruning": {"l0_weight": l0_weight}}
    (cell,) = config.parse(raw, "f.yaml").cells
    assert cell.method_facts.reading == expected


@pytest.mark.parametrize("name", sorted(SECOND))
def test_what_the_second_paper_leaves_open_is_every_field_but_the_size(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.find(name))}
    assert {*(methods.find(name).left_open or ())} == fields - {"density"}


def facts(reading: str, *differences: tuple[str, Any, str]) -> MethodFacts:
    items = [Difference(*item) for item in differences]
    return MethodFacts(title="T", paper="P", category="c", reading=reading, differences=items)


def test_the_report_words_what_the_record_says() -> None:
    for found, expected in (
        (facts("paper"), Reading("paper")),
        (
            facts("mixed", ("clip", None, "paper"), ("train.reshuffle", False, "released program")),
            Reading("mixed", ("paper: clip is null", "released program: train.reshuffle is false")),
        ),
        (
            facts("neither", ("modules", ["a", "b\n"], "neither")),
            Reading("neither", ("modules is a, b\\n",)),
        ),
        (
            facts(SECOND_PAPER, ("mean", "signed", "left open"), ("k", True, "left open")),
            Reading(SECOND_PAPER, ("left open there, here: mean is signed, k is true",)),
        ),
    ):
        assert reading_of(RECORD.model_copy(update={"method": found})) == expected
    old = RECORD.model_copy(update={"method": None})
    assert reading_of(old) == Reading("unknown", ("not recorded in schema version 1",))
    named = RECORD.model_copy(update={"method": facts("paper")})
    assert titles([named, old, named]) == ["T (P)"]
