"""Which reading a run made: the shipped files and all defaults are bound to their words."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from jiant_sparse.config import load as config
from jiant_sparse.methods import base as methods
from jiant_sparse.report import published
from jiant_sparse.report.readings import Reading, deciding, left_open, reading_of
from jiant_sparse.schema.cell import Train

SECOND = {*published.STOCHASTIC_METHODS} - {*published.METHODS}
STEPWISE = ("random_per_step", "top_tuning", "stochastic_tuning")
FILES = Path(__file__).parent.parent / "run_configs"
# What two readings may share: how much of something, not what.
SIZES = {
    "density", "q", "reduction_factor", "rank", "gate_init", "burn_in of sam",
}  # fmt: skip
# Neither decides nor is compared with the published experiment: no result but by rounding.
MACHINERY = {
    "eval_batch_size", "length_grouping", "adam_epsilon", "checkpoint_every", "checkpoint_minutes",
    "allow_dropped", "sgd_momentum",
}  # fmt: skip
PAPER_TRAIN = {
    "reshuffle": True,
    "eval_offset": 0,
    "dev_examples": None,
    "decay_unselected": False,
    "freeze_head": False,
}


def settings(name: str, /, *, train: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """Defaults of a method, changed by `fields`; its training is `PAPER_TRAIN` and `train`."""
    known = dataclasses.asdict(methods.find(name)(**fields))
    return {"method": {"name": name, **known}, "train": {**PAPER_TRAIN, **(train or {})}}


def word(name: str, /, *, train: dict[str, Any] | None = None, **fields: Any) -> str:
    return reading_of(settings(name, train=train, **fields)).word


def words_of_file(name: str) -> dict[str, set[str]]:
    """Reading -> labels of the methods of a shipped file."""
    found: dict[str, set[str]] = {}
    for cell in config.load(FILES / f"{name}.yaml").cells:
        found.setdefault(reading_of(cell.settings).word, set()).add(cell.key.method)
    return found


@pytest.mark.parametrize("name", ["table1", "table2", "figure5", "burn_in", "timing"])
def test_files_of_the_paper(name: str) -> None:
    assert {*words_of_file(f"fu2023/{name}")} == {"paper"}


def test_figure_3_refreshes_for_ever_with_the_gates_of_the_program() -> None:
    assert words_of_file("fu2023/figure3") == {"mixed": {"diff_pruning"}}


def test_the_file_of_the_released_program() -> None:
    assert words_of_file("fu2023/released_program") == {"released program": {*published.METHODS}}


def test_files_that_depart_say_so() -> None:
    assert words_of_file("fu2023/lora") == {"paper": {"lora"}, "mixed": {"lora_six_layers"}}
    others = {*published.METHODS} - {"mixout"}
    # Mixout there is that of Lee et al.
    assert words_of_file("quickstart") == {
        **{"paper": others, "neither": {"mixout"}},
        published.STOCHASTIC_SOURCE: {"stochastic_tuning", "top_tuning"},
    }
    # Its rates are chosen by another file; the readings do not hang on them.
    assert words_of_file("stochastic2024/small_learning_rate")[published.STOCHASTIC_SOURCE] == {
        *(f"{name}_learning_rate_{rate}" for name in SECOND for rate in ("0.0003", "0.003")),
        *(f"{n}_dense_learning_rate_{rate}" for n in STEPWISE for rate in ("0.0003", "0.003")),
        *(f"{name}_learning_rate_0.03" for name in STEPWISE),
    }


@pytest.mark.parametrize("name", methods.names())
def test_every_default_is_the_text_of_the_paper(name: str) -> None:
    found = reading_of({"method": settings(name)["method"], "train": Train().model_dump()})
    expected = published.STOCHASTIC_SOURCE if name in SECOND else "in neither paper"
    assert found.word == ("paper" if name in published.METHODS else expected)
    assert bool(found.differences) == (name in SECOND and name != "frozen")


@pytest.mark.parametrize("name", published.METHODS)
def test_every_field_of_a_method_decides_or_is_a_size(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.find(name))}
    compared = {*deciding(name)[0]}
    assert compared <= fields
    sizes = {field for field in fields if field in SIZES or f"{field} of {name}" in SIZES}
    assert compared | sizes == fields
    assert not compared & sizes


def test_every_field_of_the_training_decides_or_is_compared_with_the_published_one() -> None:
    compared = {*deciding("sam")[1]}
    assert compared == {*PAPER_TRAIN}
    assert compared | {*published.TRAINING} | MACHINERY == {*Train.model_fields}
    assert not compared & {*published.TRAINING}


# One field alone is of the program: (method, field, its value there).
SINGLE = [
    ("random", {"draw": "bernoulli"}, "draw is bernoulli"),
    ("mixout", {"mix": "none"}, "mix is none"),
    ("mag_pruning", {"scope": "per_tensor"}, "scope is per_tensor"),
    ("mag_pruning", {"burn_in": 7}, "burn_in is 7"),
    ("adapter", {"init": "bert"}, "init is bert"),
    ("lora", {"init_b": "kaiming"}, "init_b is kaiming"),
    ("lora", {"alpha": 1}, "alpha is 1"),
    ("diff_pruning", {"scope": "per_tensor"}, "scope is per_tensor"),
    ("diff_pruning", {"gated_schedule": "training"}, "gated_schedule is training"),
    ("diff_pruning", {"score": "logit"}, "score is logit"),
    ("diff_pruning", {"stretch_low": -3}, "stretch_low is -3"),
    ("diff_pruning", {"stretch_high": 3}, "stretch_high is 3"),
    ("diff_pruning", {"structured": False}, "structured is false"),
    ("diff_pruning", {"random_gates": True}, "random_gates is true"),
    ("diff_pruning", {"gate_learning_rate": None}, "gate_learning_rate is null"),
    ("child_pruning", {"scope": "per_tensor"}, "scope is per_tensor"),
    ("child_pruning", {"interval": 1}, "interval is 1"),
    ("child_pruning", {"burn_in": None}, "burn_in is null"),
    ("child_pruning", {"momentum": 0.7}, "momentum is 0.7"),
    ("child_pruning", {"reset": True}, "reset is true"),
    ("sam", {"scope": "per_tensor"}, "scope is per_tensor"),
    ("sam", {"dropout": True}, "dropout is true"),
    ("sam", {"clip": 1.0}, "clip is 1.0"),
]


@pytest.mark.parametrize(("name", "fields", "said"), SINGLE)
def test_a_single_field_of_the_program_makes_it_mixed(
    name: str, fields: dict[str, Any], said: str
) -> None:
    found = reading_of(settings(name, **fields))
    assert found.word == "mixed"
    of_program = [text for text in found.differences if text.startswith("released program")]
    assert of_program == [f"released program: {said}"]
    assert "paper: train.reshuffle is true" in found.differences


@pytest.mark.parametrize(
    ("l0_weight", "model", "expected"),
    [
        (1.25e-7, "roberta-base", "paper"),
        (1.25e-7, "tiny", "paper"),
        (8.02e-9, "roberta-base", "mixed"),
        (1 / 124_645_632, "FacebookAI/roberta-base", "mixed"),
        (8.02e-9, "tiny", "neither"),
        (8.02e-9, None, "neither"),
        (0.5, "roberta-base", "neither"),
        (0, "roberta-base", "neither"),
    ],
)
def test_the_programs_penalty_is_one_over_the_weights(
    l0_weight: float, model: str | None, expected: str
) -> None:
    found = reading_of({**settings("diff_pruning", l0_weight=l0_weight), "model": model})
    assert found.word == expected
    of_program = f"released program: l0_weight is {l0_weight}"
    assert (of_program in found.differences) == (expected == "mixed")
    if expected == "neither":
        assert found.differences == (f"l0_weight is {l0_weight}",)


@pytest.mark.parametrize(
    ("field", "value"),
    [("reshuffle", False), ("eval_offset", 1), ("dev_examples", 500), ("decay_unselected", True)],
)
def test_the_training_decides_too(field: str, value: Any) -> None:
    found = reading_of(settings("sam", train={field: value}))
    assert found.word == "mixed"
    shown = str(value).lower()
    assert f"released program: train.{field} is {shown}" in found.differences
    assert "paper: scope is global" in found.differences


def test_sizes_and_counts_do_not_decide() -> None:
    assert word("sam", density=0.01, burn_in=3) == "paper"
    assert word("mag_pruning", density=0.2) == "paper"
    assert word("mixout", q=0.9) == "paper"
    assert word("adapter", reduction_factor=2) == "paper"
    assert word("lora", rank=4, alpha=8) == "paper"
    assert word("diff_pruning", burn_in=5) == "paper"
    assert word("diff_pruning", gate_learning_rate=0.2, gate_init=1) == "paper"
    assert word("child_pruning", interval=5, burn_in=5) == "paper"


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("sam", {"score": "fisher"}, "score is fisher"),
        ("sam", {"clip": 0.5}, "clip is 0.5"),
        ("mixout", {"mix": "elements"}, "mix is elements"),
        ("mixout", {"reset": False}, "reset is false"),
        ("adapter", {"init": "houlsby"}, "init is houlsby"),
        ("adapter", {"config": "double_seq_bn"}, "config is double_seq_bn"),
        ("lora", {"modules": ["query"]}, "modules is query"),
        ("lora", {"alpha": 8.0}, "alpha is 8.0"),
        ("lora", {"dropout": 0.1}, "dropout is 0.1"),
        ("diff_pruning", {"stretch_high": 2.0}, "stretch_high is 2.0"),
        ("sam", {"train": {"freeze_head": True}}, "train.freeze_head is true"),
        ("sam", {"train": {"eval_offset": 7}}, "train.eval_offset is 7"),
        ("sam", {"train": {"dev_examples": 100}}, "train.dev_examples is 100"),
        ("lora", {"train": {"decay_unselected": True}}, "train.decay_unselected is true"),
    ],
)
def test_what_neither_reading_has_is_another(name: str, fields: dict[str, Any], said: str) -> None:
    assert reading_of(settings(name, **fields)) == Reading("neither", (said,))


PROGRAM_TRAIN = {"reshuffle": False, "eval_offset": 1, "dev_examples": 500}


def test_what_has_no_effect_does_not_decide() -> None:
    for leak in (False, True):
        train = {**PROGRAM_TRAIN, "decay_unselected": leak}
        assert word("full_tuning", train=train) == "released program"
        assert word("mixout", mix="none", tensors="all", train=train) == "released program"
        assert word("full_tuning", train={"decay_unselected": leak}) == "paper"
        fields = {"scope": "per_tensor", "interval": 1, "burn_in": None, "momentum": 0.7}
        assert word("child_pruning", train=train, **fields) == "released program"
    assert word("bitfit", train=PROGRAM_TRAIN) == "mixed"
    assert word("bitfit", train={**PROGRAM_TRAIN, "decay_unselected": True}) == "released program"


def test_a_refreshed_mask_is_figure_3_which_the_program_cannot() -> None:
    refreshed = {"burn_in": None, "mask_interval": 600}
    assert word("diff_pruning", **refreshed) == "paper"
    found = reading_of(settings("diff_pruning", **refreshed, score="logit"))
    assert "paper: mask_interval is 600" in found.differences
    assert "paper: burn_in is null" in found.differences


def test_the_order_of_modules_does_not_matter() -> None:
    assert word("lora", modules=["value", "query"]) == "paper"


def test_what_is_not_recorded_is_unknown_and_not_guessed() -> None:
    known = settings("sam")
    del known["method"]["scope"], known["train"]["reshuffle"]
    expected = ("scope is unknown", "train.reshuffle is unknown")
    assert reading_of(known) == Reading("unknown", expected)
    # What is known may be enough: nothing unknown can undo a mixture.
    known["method"]["dropout"] = True
    assert reading_of(known).word == "mixed"
    known["method"]["score"] = "fisher"
    assert reading_of(known) == Reading("neither", ("score is fisher",))


@pytest.mark.parametrize("strange", [{}, {"method": None}, {"method": "sam"}, {"method": {}}])
def test_strange_settings_are_unknown(strange: dict[str, Any]) -> None:
    assert reading_of(strange) == Reading("unknown", ("method is unknown",))


def test_a_training_that_is_not_recorded() -> None:
    found = reading_of({"method": {"name": "full_tuning"}, "train": None})
    assert found.word == "unknown"
    assert "train.dev_examples is unknown" in found.differences


def test_methods_of_other_papers() -> None:
    for name in ("fish", "child_tuning_d", "dps_dense"):
        assert reading_of({"method": {"name": name}}) == Reading("in neither paper")


@pytest.mark.parametrize("name", sorted(SECOND))
def test_what_the_second_paper_leaves_open_is_told(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(methods.find(name))}
    # How many move in a step is no choice of kind.
    assert {*left_open(name)} == fields - {"density"}
    found = reading_of(settings(name))
    assert found.word == published.STOCHASTIC_SOURCE
    for field in left_open(name):
        assert f"{field} is " in found.differences[0]
        known = settings(name)
        del known["method"][field]
        assert reading_of(known) == Reading("unknown", (f"{field} is unknown",))


def test_the_choices_of_stochastic_tuning_in_words() -> None:
    said = "left open there, here: mean is absolute, padding is true, momentum is lazy"
    found = reading_of(settings("stochastic_tuning", mean="absolute", padding=True, density=0.01))
    assert found == Reading("Akbar-Tajari and Pilehvar 2024", (said,))


def test_what_older_records_do_not_say_is_what_was_done_then() -> None:
    then = settings("sam")
    del then["method"]["head_steps"]
    assert reading_of(then).word == "paper"
    then = settings("diff_pruning")
    del then["method"]["gated_schedule"]
    assert reading_of(then).word == "mixed"
    assert reading_of(settings("sam", head_steps=5)) == Reading("neither", ("head_steps is 5",))
