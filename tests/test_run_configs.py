"""The shipped configurations: each binds, and each is the experiment that the paper names."""

from pathlib import Path

import pytest

from jiant_sparse.benchmark import config
from jiant_sparse.benchmark.cell import Benchmark
from jiant_sparse.errors import InputError
from jiant_sparse.report import published

ROOT = Path(__file__).parent.parent / "run_configs"
PATHS = sorted(ROOT.rglob("*.yaml"))
BURN_IN = {
    "cola": 600, "mrpc": 600, "stsb": 1000, "rte": 700, "cb": 700, "copa": 700, "wsc": 2000,
}  # fmt: skip
TASKS = 7
LONG = ("released_program", "quickstart")


def load(name: str) -> Benchmark:
    return config.load(ROOT / "fu2023" / f"{name}.yaml")


def by_method(benchmark: Benchmark, task: str) -> dict:
    return {c.key.method: c for c in benchmark.cells if c.key.task == task and c.seed == 0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("quickstart", "70 cells"),
        ("fu2023/protocol", "to be included"),
        ("fu2023/table1", f"{10 * TASKS * 10} cells"),
        ("fu2023/table1_selected", f"{10 * TASKS * 10} cells"),
        ("fu2023/table2", f"{10 * TASKS * 10} cells"),
        ("fu2023/figure3", "1 cells"),
        ("fu2023/figure5", f"{10 * TASKS * 10} cells"),
        ("fu2023/timing", f"{8 * TASKS} cells"),
        ("fu2023/burn_in", f"{7 * TASKS} cells"),
        ("fu2023/learning_rate", f"{9 * 6 * TASKS} cells"),
        ("fu2023/lora", f"{2 * TASKS * 10} cells"),
        ("fu2023/released_program", f"{10 * TASKS * 10} cells"),
    ],
)
def test_every_configuration_has_the_cells_of_its_experiment(name, expected):
    assert config.check(ROOT / f"{name}.yaml") == expected


def test_no_configuration_is_left_out():
    (counted,) = test_every_configuration_has_the_cells_of_its_experiment.pytestmark
    assert {ROOT / f"{name}.yaml" for name, _ in counted.args[1]} == set(PATHS)


def test_the_name_is_the_place_and_a_file_is_read_at_a_glance():
    for path in PATHS:
        text = path.read_text()
        name = str(path.relative_to(ROOT).with_suffix(""))
        assert f"benchmark: {name}\n" in text or name == "fu2023/protocol"
        assert len(text.splitlines()) <= (30 if path.stem not in LONG else 65), path
        assert text.startswith("# "), path
    for path in PATHS:
        if path.parent.name == "fu2023" and path.stem != "protocol":
            # Of one protocol: another batch size there is another batch size everywhere.
            assert "include: protocol.yaml" in path.read_text() or "table1" in path.read_text()


def test_published_protocol_is_what_the_paper_and_its_program_say():
    sam = {c.key.task: c for c in load("table1").cells if c.key.method == "sam"}
    assert {task: cell.method_fields["burn_in"] for task, cell in sam.items()} == BURN_IN
    train = sam["cb"].train
    assert (train.batch_size, train.learning_rate, train.patience) == (16, 1e-4, 40)
    assert sam["cb"].setup.model == "roberta-base"
    assert sam["cb"].setup.split == "published"
    for name in ("table1", "table2", "timing"):
        assert not [d for c in load(name).cells for d in published.departures(c.settings, None)]


def test_table_2_is_table_1_with_a_tenth_of_the_training_set_left_out():
    one, two = load("table1"), load("table2")
    assert {cell.setup.drop_train for cell in two.cells} == {0.1}
    assert {cell.seed for cell in two.cells} == set(range(10))
    plain = [cell.settings | {"drop_train": 0.0} for cell in two.cells]
    assert plain == [cell.settings for cell in one.cells]


def test_figure_3_changes_the_mask_every_600_steps_and_is_scored_then():
    (cell,) = load("figure3").cells
    fields = cell.method_fields
    assert (cell.key.task, cell.method_name, fields["density"]) == ("cb", "diff_pruning", 0.005)
    assert (fields["burn_in"], fields["mask_interval"]) == (None, 600)
    assert cell.make_method().scores_at(cell.train.eval_every)


def test_figure_5_has_the_ten_densities_and_table_1_is_one_of_them():
    benchmark = load("figure5")
    labels = dict.fromkeys(c.key.method for c in benchmark.cells)
    found = [float(label.removeprefix("sam_density_")) for label in labels]
    assert found == [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    same = [c for c in benchmark.cells if c.method_fields["density"] == 0.005]
    table1 = [c for c in load("table1").cells if c.method_name == "sam"]
    assert [c.settings for c in same] == [c.settings for c in table1]


def test_table_3_leaves_out_the_two_methods_that_it_does_not_time():
    timing, table1 = by_method(load("timing"), "cb"), by_method(load("table1"), "cb")
    assert table1.keys() - timing.keys() == {"mixout", "mag_pruning"}
    assert all(cell.settings == table1[name].settings for name, cell in timing.items())


def test_the_burn_in_is_searched_where_the_paper_searched_it():
    cells = load("burn_in").cells
    values = [c.method_fields["burn_in"] for c in cells if c.key.task == "wsc"]
    assert values == [500, 600, 700, 800, 900, 1000, 2000]
    assert {c.method_name for c in cells} == {"sam"}


def test_rates_are_searched_for_the_methods_of_table_1_as_it_has_them():
    """A candidate that differs in more than its rate would choose for another method."""
    table1 = by_method(load("table1"), "cb")
    found: dict[str, list[float]] = {}
    for cell in by_method(load("learning_rate"), "cb").values():
        found.setdefault(cell.method_name, []).append(cell.train.learning_rate)
        assert cell.method_fields == table1[cell.method_name].method_fields
    assert found.keys() == table1.keys() - {"sam"}
    assert set(map(tuple, found.values())) == {(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)}


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
    cells = by_method(load("released_program"), "cb")
    same = by_method(load("table1"), "cb")
    assert cells.keys() == same.keys() == set(published.METHODS)
    assert cells["full_tuning"].train.decay_unselected
    assert cells["full_tuning"].train.eval_offset == 1
    for name, cell in cells.items():
        if name not in ("full_tuning", "bitfit"):
            assert cell.method_fields != same[name].method_fields, name
    assert [name for name, cell in cells.items() if cell.train.freeze_head] == ["lora"]
    scopes = ("mag_pruning", "diff_pruning", "child_pruning", "sam")
    assert all(cells[name].method_fields["scope"] == "per_tensor" for name in scopes)
