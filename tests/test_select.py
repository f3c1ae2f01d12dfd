"""`select` in YAML: a benchmark's values come from another's records, or not at all."""

from pathlib import Path

import pytest
from support.selecting import (
    MAIN,
    PROVENANCE,
    SEARCH,
    burn_ins,
    change,
    load,
    problems,
    run,
    table,
    write,
)

from jiant_sparse.config import load as config
from jiant_sparse.schema.record import settings_hash


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two files that refer to each other, and the current directory."""
    monkeypatch.chdir(tmp_path)
    write("search.yaml", SEARCH)
    write("main.yaml", MAIN)
    return tmp_path


def test_each_task_gets_the_value_of_its_best_dev_score(folder):
    run("search.yaml", table(cb=[0.1, 0.3, 0.2], rte=[0.612, 0.5, None]))
    benchmark = load()
    assert burn_ins(benchmark) == {"cb": 6, "rte": 5}
    assert benchmark.chosen == (
        "methods.sam.burn_in: cb 6 (dev 30.0), rte 5 (dev 61.2) from s, 3 values x 1 seed",
    )
    assert len(benchmark.evidence) == 6
    assert {found.cell.benchmark for found in benchmark.evidence} == {"s"}
    assert benchmark.name == "b"
    assert {cell.key.method for cell in benchmark.cells} == {"sam"}
    assert burn_ins(load(overrides=["methods.sam.burn_in=9"])) == {"cb": 9, "rte": 9}


def test_the_mean_over_seeds_counts_and_an_undefined_score_is_the_worst(folder):
    write("search.yaml", SEARCH | {"seeds": [0, 1]})
    for scores, best in (
        ({5: (0.5, 0.5), 6: (0.9, 0.1), 7: (0.2, 0.6)}, 5),  # the first of equals
        ({5: (None, 0.9), 6: (-0.5, -0.4), 7: (None, None)}, 6),
    ):
        run("search.yaml", lambda task, method, seed, by=scores: by[int(method[-1])][seed])
        assert burn_ins(load()) == {"cb": best, "rte": best}
        assert load().chosen[0].endswith(" from s, 3 values x 2 seeds")
    run("search.yaml", lambda *key: None)
    assert "cb 5 (dev undefined)" in load().chosen[0]


def test_diverged_run_is_the_worst(folder):
    run("search.yaml", table(cb=[0.9, 0.2, 0.3], rte=[0.1, 0.3, 0.2]))
    failed = {"status": "failed", "primary": None}
    change("cb/sam_burn_in_5", **failed, error="NotFinite: the loss is nan at step 3")
    benchmark = load()
    assert burn_ins(benchmark) == {"cb": 7, "rte": 6}
    assert benchmark.chosen[0].endswith(" from s, 3 values x 1 seed, 1 diverged")
    assert len(benchmark.evidence) == 6
    change("cb/sam_burn_in_5", **failed, error="OSError: NotFinite: no room")
    (problem,) = problems()
    assert "cb: 1 failed of 3 cells" in problem


def test_selecting_inside_train_by_label(folder):
    methods = {"sam": {}, "mine": {"method": "bitfit"}}
    sweep = {"train.learning_rate": [5.0, 6.0]}
    write("search.yaml", {"benchmark": "s", "methods": methods, "sweep": sweep})
    rate = {"learning_rate": {"select": "search.yaml"}, "batch_size": 3}
    write("main.yaml", MAIN | {"methods": {"mine": {"method": "bitfit", "train": rate}}})
    scores = {
        "cb": {"sam_5": 0.9, "sam_6": 0.0, "mine_5": 0.1, "mine_6": 0.5},
        "rte": {"sam_5": 0.0, "sam_6": 0.9, "mine_5": 0.5, "mine_6": 0.1},
    }
    run(
        "search.yaml",
        lambda task, method, seed: scores[task][method[:-2].replace("learning_rate_", "")],
    )
    cells = load().cells
    assert [(c.key.task, c.train.learning_rate) for c in cells] == [("cb", 6.0), ("rte", 5.0)]
    assert {(c.key.method, c.train.batch_size) for c in cells} == {("mine", 3)}
    assert load().chosen[0].startswith("methods.mine.train.learning_rate: cb 6.0 (dev 50.0), rte")


def test_best_combination_of_several_keys(folder):
    """By the mean over the other key, burn-in 5 and density 0.1 would win: 5/0.2 was never best."""
    sweep = {"density": [0.1, 0.2], "burn_in": [5, 6]}
    write("search.yaml", {"benchmark": "s", "methods": {"sam": {"sweep": sweep}}})
    fields = {key: {"select": "search.yaml"} for key in sweep}
    write("main.yaml", MAIN | {"methods": {"sam": fields}})
    scores = {
        "0.1_burn_in_5": 0.8,
        "0.1_burn_in_6": 0.7,
        "0.2_burn_in_5": 0.1,
        "0.2_burn_in_6": 0.9,
    }
    run("search.yaml", lambda task, method, seed: scores[method.removeprefix("sam_density_")])
    benchmark = load()
    chosen = [(c.method_fields["density"], c.method_fields["burn_in"]) for c in benchmark.cells]
    assert chosen == [(0.2, 6)] * 2
    assert len(benchmark.chosen) == 2
    assert benchmark.chosen[1].endswith("from s, 4 combinations x 1 seed")
    assert len(benchmark.evidence) == 8


def test_missing_records_are_counted_with_the_command(folder):
    other = {"methods": {"bitfit": {}}, "sweep": {"train.batch_size": [1]}}
    write("other.yaml", {"benchmark": "o"} | other)
    rate = {"train": {"batch_size": {"select": "other.yaml"}}}
    write("main.yaml", MAIN | {"methods": MAIN["methods"] | {"bitfit": rate}, "seeds": [-1]})
    run("search.yaml", table(cb=[1, 1, 1], rte=[1, 1, 1]))
    Path("out/s/cb/sam_burn_in_5/seed-0/record.json").unlink()
    change("cb/sam_burn_in_6", status="failed")
    change("cb/sam_burn_in_7", settings={}, settings_hash=settings_hash({}))
    Path("out/s/rte/sam_burn_in_6/seed-0/record.json").write_text("{")
    assert problems() == [
        "main.yaml: methods.sam.burn_in: s cannot choose yet: "
        "cb: 1 missing, 1 failed, 1 made with other settings of 3 cells; "
        "rte: 1 unreadable of 3 cells; remove the records that cannot be used, then "
        "run: jiant-sparse grid search.yaml --output-dir out --retry-failed",
        "main.yaml: methods.bitfit.train.batch_size: o cannot choose yet: "
        "cb, rte: 1 missing of 1 cells; run: jiant-sparse grid other.yaml --output-dir out",
        "main.yaml: seeds: is [-1]; seeds must be distinct and in [0, 2^63)",
    ]


def test_scores_without_many_rows_select_nothing(folder):
    origin = PROVENANCE.model_copy(update={"dropped_examples": {"dev": 9}})
    run("search.yaml", table(cb=[0.5, 1, 0.5], rte=[1, 1, 1]), provenance=origin)
    (problem,) = problems()
    assert "cb, rte: 3 short of rows of 3 cells; run: jiant-sparse grid search.yaml" in problem
    write("search.yaml", SEARCH | {"train": {"allow_dropped": True}})
    assert burn_ins(load()) == {"cb": 6, "rte": 5}


def test_given_keys_reach_the_selection_and_set_does_not(folder):
    given = {"model": "other model", "data_dir": "e"}
    write("search.yaml", SEARCH | {"device": "cpu"})
    (problem,) = problems(given=given)
    assert problem.endswith("--output-dir out --model 'other model' --data-dir e")
    run("search.yaml", table(cb=[0.5, 1, 0.5], rte=[1, 1, 1]), given=given)
    benchmark = load(given=given, overrides=["train.weight_decay=0.5", "seeds=[4]"])
    assert burn_ins(benchmark) == {"cb": 6, "rte": 5}
    assert {found.settings["model"] for found in benchmark.evidence} == {"other model"}
    assert {c.seed for c in benchmark.cells} == {4}
    # Another protocol today than when the records were made.
    write("search.yaml", SEARCH | {"train": {"weight_decay": 0.5}})
    (problem,) = problems(given=given)
    assert "3 made with other settings of 3 cells" in problem


def test_paths_are_relative_to_their_file(folder):
    write("deep/search.yaml", SEARCH)
    rate = {"learning_rate": {"select": "../rates.yaml"}}
    block = {"burn_in": {"select": "search.yaml"}, "train": rate}
    write("deep/base.yaml", {"methods": {"sam": block}})
    sweep = {"train.learning_rate": [5.0, 6.0]}
    write("rates.yaml", {"benchmark": "r", "methods": {"sam": {"sweep": sweep}}})
    Path("top").mkdir()
    Path("top/main.yaml").write_text("include: ../deep/base.yaml\nbenchmark: b\n")
    first, second = problems("top/main.yaml")
    assert "grid deep/search.yaml --output-dir out" in first
    assert "grid rates.yaml --output-dir out" in second
    assert config.check(Path("top/main.yaml")) == "2 cells"


def test_reference_and_values_by_task_replace_each_other(folder):
    write("base.yaml", {"methods": {"sam": {"burn_in": {"cb": 1, "rte": 2}}}})
    chosen, plain = "{select: search.yaml}", "{cb: 3, rte: 4}"
    for name, base, value in (("main", "base", chosen), ("plain", "main", plain)):
        text = f"include: {base}.yaml\nbenchmark: b\nmethods: {{sam: {{burn_in: {value}}}}}\n"
        Path(f"{name}.yaml").write_text(text)
    run("search.yaml", table(cb=[0.5, 1, 0.5], rte=[1, 1, 1]))
    assert burn_ins(load()) == {"cb": 6, "rte": 5}
    assert burn_ins(load("plain.yaml")) == {"cb": 3, "rte": 4}


def test_what_chooses_may_be_chosen_itself(folder):
    search = {"sweep": {"density": [0.5, 0.6]}, "burn_in": {"select": "search.yaml"}}
    write("density.yaml", {"benchmark": "d", "methods": {"sam": search}})
    write("main.yaml", MAIN | {"methods": {"sam": {"density": {"select": "density.yaml"}}}})
    (problem,) = problems()
    assert problem.startswith("density.yaml: methods.sam.burn_in: s cannot choose yet: cb, rte: 3")
    run("search.yaml", table(cb=[0.5, 1, 0.5], rte=[1, 1, 1]))
    (problem,) = problems()
    assert problem.startswith("main.yaml: methods.sam.density: d cannot choose yet: cb, rte: 2")
    run("density.yaml", lambda task, method, seed: float(method[-1] == "6"))
    benchmark = load()
    assert [c.method_fields["density"] for c in benchmark.cells] == [0.6, 0.6]
    assert [line.split(":")[0] for line in benchmark.chosen] == [
        "methods.sam.burn_in", "methods.sam.density",
    ]  # fmt: skip
    assert {found.cell.benchmark for found in benchmark.evidence} == {"s", "d"}
    # A part of the benchmark needs the records of its tasks alone.
    for path in Path("out").glob("*/rte/**/record.json"):
        path.unlink()
    assert [c.key.task for c in load(only={"task": ["cb"]}).cells] == ["cb"]
    # Another choice below makes other settings above.
    run("search.yaml", table(cb=[0.5, 0.5, 1], rte=[1, 1, 1]))
    (problem,) = problems(only={"task": ["cb"]})
    assert "d cannot choose yet: cb: 2 made with other settings of 2 cells; remove" in problem


def test_a_swept_method_may_choose_its_other_values(folder):
    block = {"burn_in": {"select": "search.yaml"}, "sweep": {"density": [0.1, 0.2]}}
    write("main.yaml", MAIN | {"methods": {"sam": block}})
    run("search.yaml", table(cb=[0.5, 1, 0.5], rte=[1, 1, 1]))
    benchmark = load()
    assert [c.method_fields["burn_in"] for c in benchmark.cells] == [6, 6, 5, 5]
    assert len(benchmark.chosen) == 1
