"""`select` in YAML: a benchmark's values come from another's records, or not at all."""

import json
from pathlib import Path

import pytest
import yaml

from jiant_sparse.benchmark import config, plan, record
from jiant_sparse.benchmark.record import Primary, Provenance, Record
from jiant_sparse.errors import InputError

BASE = {"model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}, "rte": {}}}
SEARCH = {"benchmark": "s", "methods": {"sam": {"sweep": {"burn_in": [5, 6, 7]}}}}
MAIN = {"benchmark": "b", "methods": {"sam": {"burn_in": {"select": "search.yaml"}}}}
PROVENANCE = Provenance(
    commit=None,
    dirty=None,
    versions={},
    device="cpu",
    threads=1,
    pooler=None,
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:09+00:00",
)
MODEL = "0" * 64


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two files that refer to each other, and the current directory."""
    monkeypatch.chdir(tmp_path)
    write("search.yaml", SEARCH)
    write("main.yaml", MAIN)
    return tmp_path


def write(name: str, raw: dict) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(BASE | raw, sort_keys=False))
    return path


def run(name: str, dev, output: str = "out", given=None, inputs=None, **changes) -> None:
    """A record of every cell of a file; dev: (task, method, seed) -> the score, or None."""
    for cell in config.load(Path(name), given=given, output_dir=Path(output)).cells:
        key = cell.key
        fields = {
            "cell": key,
            "settings": cell.settings,
            "settings_hash": cell.settings_hash,
            "inputs": inputs or {"model": MODEL},
            "status": "ok",
            "primary": Primary(name="acc", dev=dev(key.task, key.method, key.seed), test=0.5),
            "provenance": PROVENANCE,
        }
        Record(**fields | changes).write(key.directory(Path(output)))


def table(**scores):
    """Scores by task, those of each candidate in turn."""
    return lambda task, method, seed: scores[task][int(method[-1]) - 5]


def load(name="main.yaml", **options):
    return config.load(Path(name), output_dir=Path("out"), **options)


def problems(name="main.yaml", check=False, **options) -> list[str]:
    with pytest.raises(InputError) as caught:
        config.check(Path(name)) if check else load(name, **options)
    return list(caught.value.problems)


def burn_ins(benchmark) -> dict[str, int]:
    return {cell.key.task: cell.method_fields["burn_in"] for cell in benchmark.cells}


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


def test_the_mean_over_seeds_counts_and_the_first_of_equals_wins(folder):
    write("search.yaml", SEARCH | {"seeds": [0, 1]})
    scores = {5: (0.5, 0.5), 6: (0.9, 0.1), 7: (0.2, 0.6)}
    run("search.yaml", lambda task, method, seed: scores[int(method[-1])][seed])
    benchmark = load()
    assert burn_ins(benchmark) == {"cb": 5, "rte": 5}
    assert benchmark.chosen[0].endswith("(dev 50.0) from s, 3 values x 2 seeds")


def test_a_score_that_is_undefined_is_the_worst_and_so_is_its_mean(folder):
    write("search.yaml", SEARCH | {"seeds": [0, 1]})
    scores = {5: (None, 0.9), 6: (-0.5, -0.4), 7: (None, None)}
    run("search.yaml", lambda task, method, seed: scores[int(method[-1])][seed])
    assert burn_ins(load()) == {"cb": 6, "rte": 6}
    run("search.yaml", lambda *key: None)
    benchmark = load()
    assert burn_ins(benchmark) == {"cb": 5, "rte": 5}
    assert "cb 5 (dev undefined)" in benchmark.chosen[0]


def test_a_rate_is_chosen_inside_train_and_a_label_stands_for_its_own(folder):
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


def test_of_keys_swept_together_the_best_combination_is_taken(folder):
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


def test_what_is_lacking_is_counted_all_at_once_with_the_command(folder):
    write(
        "other.yaml",
        {"benchmark": "o", "methods": {"bitfit": {}}, "sweep": {"train.batch_size": [1]}},
    )
    rate = {"train": {"batch_size": {"select": "other.yaml"}}}
    write("main.yaml", MAIN | {"methods": MAIN["methods"] | {"bitfit": rate}, "seeds": [-1]})
    run("search.yaml", table(cb=[1, 1, 1], rte=[1, 1, 1]))
    place = Path("out/s/cb")
    (place / "sam_burn_in_5/seed-0/record.json").unlink()
    for name, changes in (("6", {"status": "failed"}), ("7", {"settings_hash": "1"})):
        path = place / f"sam_burn_in_{name}/seed-0/record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    Path("out/s/rte/sam_burn_in_6/seed-0/record.json").write_text("{")
    assert problems() == [
        "main.yaml: methods.sam.burn_in: s cannot choose yet: "
        "cb: 1 missing, 1 failed, 1 made with other settings of 3 cells; "
        "rte: 1 unreadable of 3 cells; remove the records that cannot be used, then "
        "run: jiant-sparse grid search.yaml --output-dir out --retry-failed",
        "main.yaml: methods.bitfit.train.batch_size: o cannot choose yet: "
        "cb, rte: 1 missing of 1 cells; run: jiant-sparse grid other.yaml --output-dir out",
        "main.yaml: seeds: is [-1]; seeds must be distinct and not negative",
    ]


def test_one_task_that_lacks_nothing_is_not_told(folder):
    run("search.yaml", table(cb=[1, 1, 1], rte=[1, 1, 1]))
    Path("out/s/cb/sam_burn_in_5/seed-0/record.json").unlink()
    (problem,) = problems()
    assert "cannot choose yet: cb: 1 missing of 3 cells; run:" in problem


def test_given_keys_hold_for_the_selection_too_and_set_does_not(folder):
    given = {"model": "other model", "data_dir": "e"}
    Path("search.yaml").write_text(yaml.safe_dump(SEARCH | {"seeds": [0], "tasks": BASE["tasks"]}))
    (problem,) = problems(given=given)
    assert problem.endswith("--output-dir out --model 'other model' --data-dir e")
    write("search.yaml", SEARCH | {"device": "cpu"})
    run("search.yaml", table(cb=[1, 2, 1], rte=[1, 1, 1]), given=given)
    benchmark = load(given=given, overrides=["train.weight_decay=0.5", "seeds=[4]"])
    assert burn_ins(benchmark) == {"cb": 6, "rte": 5}
    assert {found.settings["model"] for found in benchmark.evidence} == {"other model"}
    assert {c.seed for c in benchmark.cells} == {4}
    # Another protocol today than when the records were made.
    write("search.yaml", SEARCH | {"train": {"weight_decay": 0.5}})
    (problem,) = problems(given=given)
    assert "3 made with other settings of 3 cells" in problem


def test_a_set_value_takes_the_place_of_a_reference(folder):
    assert burn_ins(load(overrides=["methods.sam.burn_in=9"])) == {"cb": 9, "rte": 9}


def test_paths_are_relative_to_the_file_in_which_they_stand(folder):
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


def test_a_reference_replaces_values_by_task_of_an_included_file_and_the_other_way(folder):
    write("base.yaml", {"methods": {"sam": {"burn_in": {"cb": 1, "rte": 2}}}})
    Path("main.yaml").write_text(
        "include: base.yaml\nbenchmark: b\nmethods: {sam: {burn_in: {select: search.yaml}}}\n"
    )
    run("search.yaml", table(cb=[1, 2, 1], rte=[1, 1, 1]))
    assert burn_ins(load()) == {"cb": 6, "rte": 5}
    Path("plain.yaml").write_text(
        "include: main.yaml\nmethods: {sam: {burn_in: {cb: 3, rte: 4}}}\n"
    )
    assert burn_ins(load("plain.yaml")) == {"cb": 3, "rte": 4}


def test_what_chooses_may_be_chosen_itself(folder):
    search = {"sweep": {"density": [0.5, 0.6]}, "burn_in": {"select": "search.yaml"}}
    write("density.yaml", {"benchmark": "d", "methods": {"sam": search}})
    write("main.yaml", MAIN | {"methods": {"sam": {"density": {"select": "density.yaml"}}}})
    (problem,) = problems()
    assert problem.startswith("density.yaml: methods.sam.burn_in: s cannot choose yet: cb, rte: 3")
    run("search.yaml", table(cb=[1, 2, 1], rte=[1, 1, 1]))
    (problem,) = problems()
    assert problem.startswith("main.yaml: methods.sam.density: d cannot choose yet: cb, rte: 2")
    run("density.yaml", lambda task, method, seed: float(method[-1] == "6"))
    benchmark = load()
    assert [c.method_fields["density"] for c in benchmark.cells] == [0.6, 0.6]
    assert [line.split(":")[0] for line in benchmark.chosen] == [
        "methods.sam.burn_in", "methods.sam.density",
    ]  # fmt: skip
    assert {found.cell.benchmark for found in benchmark.evidence} == {"s", "d"}
    # Another choice below makes other settings above.
    run("search.yaml", table(cb=[1, 1, 2], rte=[1, 1, 1]))
    (problem,) = problems()
    assert "d cannot choose yet: cb: 2 made with other settings of 2 cells; remove" in problem


def test_a_swept_method_may_choose_its_other_values(folder):
    block = {"burn_in": {"select": "search.yaml"}, "sweep": {"density": [0.1, 0.2]}}
    write("main.yaml", MAIN | {"methods": {"sam": block}})
    run("search.yaml", table(cb=[1, 2, 1], rte=[1, 1, 1]))
    benchmark = load()
    assert [c.method_fields["burn_in"] for c in benchmark.cells] == [6, 6, 5, 5]
    assert len(benchmark.chosen) == 1


def test_one_cell_needs_the_records_of_its_task_and_method_alone(folder):
    other = {"train": {"batch_size": {"select": "nowhere.yaml"}}}
    write("main.yaml", MAIN | {"methods": MAIN["methods"] | {"bitfit": other}})
    run("search.yaml", table(cb=[1, 2, 1], rte=[1, 1, 1]))
    for path in Path("out/s/rte").rglob("record.json"):
        path.unlink()
    found = config.single("cb", "sam", 3, Path("main.yaml"), output_dir=Path("out"))
    assert burn_ins(found) == {"cb": 6}
    assert "cb 6 (dev 200.0) from s" in found.chosen[0]
    with pytest.raises(InputError, match="rte: 3 missing of 3 cells"):
        config.single("rte", "sam", 0, Path("main.yaml"), output_dir=Path("out"))


def test_without_an_output_directory_nothing_is_chosen(folder):
    with pytest.raises(InputError, match=r"sam.burn_in: is chosen by search.yaml from the records"):
        config.load(Path("main.yaml"))


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize(
    ("search", "value", "expected"),
    [
        (SEARCH, {"select": "no.yaml"}, "methods.sam.burn_in: select: there is no file no.yaml"),
        (SEARCH, {"select": "search.yaml", "cb": 3}, "burn_in: `select` stands alone; remove cb"),
        (SEARCH, {"select": 3}, "burn_in: select: is 3; it must be the path of one YAML file"),
        (
            SEARCH | {"methods": {"samm": {"method": "sam", "sweep": {"burn_in": [1]}}}},
            {"select": "search.yaml"},
            "burn_in: search.yaml has no method 'sam'; did you mean samm? known: samm",
        ),
        (
            SEARCH | {"methods": {"sam": {"sweep": {"density": [0.1]}}}},
            {"select": "search.yaml"},
            "methods.sam of search.yaml does not sweep burn_in; known: density",
        ),
        (
            SEARCH | {"methods": {"sam": {}}},
            {"select": "search.yaml"},
            "methods.sam of search.yaml does not sweep burn_in; it has no sweep",
        ),
        (
            SEARCH | {"tasks": {"cb": {}}},
            {"select": "search.yaml"},
            "main.yaml: methods.sam.burn_in: search.yaml has no task rte; it has cb",
        ),
        (
            SEARCH | {"methods": {"sam": {"sweep": {"burn_in": [5, 0]}}}},
            {"select": "search.yaml"},
            "search.yaml: methods.sam_burn_in_0: burn_in is 0; it must be at least 1",
        ),
    ],
)
def test_bad_references_are_named_beside_all_else(folder, search, value, expected, check):
    write("search.yaml", search)
    methods = {"sam": {"burn_in": value, "density": 5}, "bitfit": {}}
    write("main.yaml", MAIN | {"methods": methods})
    found = problems(check=check)
    assert len([problem for problem in found if expected in problem]) == 1, found
    assert "main.yaml: methods.sam: density is 5.0; it must be in (0, 1]" in found
    assert len(found) == 2, found


def test_a_selection_that_is_wrong_is_told_once(folder):
    write("search.yaml", SEARCH | {"seeds": [-1]})
    two = {"sam": MAIN["methods"]["sam"], "again": {"method": "sam", **MAIN["methods"]["sam"]}}
    write("main.yaml", MAIN | {"methods": two})
    assert problems() == ["search.yaml: seeds: is [-1]; seeds must be distinct and not negative"]


@pytest.mark.parametrize("check", [True, False])
def test_references_in_a_circle_are_an_error(folder, check):
    loop = {"sweep": {"burn_in": [5]}, "density": {"select": "main.yaml"}}
    write("search.yaml", SEARCH | {"methods": {"sam": loop}})
    (problem,) = problems(check=check)
    assert problem.startswith(
        "search.yaml: methods.sam.density: select: main.yaml is chosen by itself"
    )
    write("main.yaml", MAIN | {"methods": {"sam": {"burn_in": {"select": "main.yaml"}}}})
    (problem,) = problems(check=check)
    assert "main.yaml: methods.sam.burn_in: select: main.yaml is chosen by itself" in problem


def test_check_binds_every_candidate_where_it_will_stand(folder):
    search = {"diff_pruning": {"sweep": {"burn_in": [50, 5, 60]}}}
    write("search.yaml", {"benchmark": "s", "methods": search})
    block = {"burn_in": {"select": "search.yaml"}, "mask_interval": 7}
    write("main.yaml", MAIN | {"methods": {"diff_pruning": block}})
    (problem,) = problems(check=True)
    assert "mask_interval is 7; it must be below burn_in (5)" in problem


def test_a_value_is_swept_or_chosen_and_not_both(folder):
    block = MAIN["methods"]["sam"] | {"sweep": {"burn_in": [5]}}
    write("main.yaml", MAIN | {"methods": {"sam": block}})
    found = problems(check=True)
    assert found == [
        "main.yaml: methods.sam.sweep: burn_in is swept and chosen by `select`; give one of the two"
    ]


def test_tasks_that_are_wrong_leave_one_problem(folder):
    write("main.yaml", MAIN | {"tasks": 3})
    (problem,) = problems()
    assert problem.startswith("main.yaml: tasks: is 3")


def test_records_of_another_model_or_dev_set_choose_nothing(folder, data_dir, bert_dir):
    given = {"model": str(bert_dir), "data_dir": str(data_dir)}
    for name, raw in (("search.yaml", SEARCH), ("main.yaml", MAIN)):
        write(name, raw | {"split": "files", "train": {"max_seq_length": 64}})
    scores = table(cb=[1, 2, 1], rte=[1, 1, 1])
    jobs = plan.plan(config.load(Path("search.yaml"), given=given), Path("out"))
    inputs = {job.cell.key.task: job.inputs for job in jobs}
    run("search.yaml", scores, given=given, inputs=inputs["cb"])
    for job in jobs:
        path = job.directory / record.FILE_NAME
        path.write_text(json.dumps(json.loads(path.read_text()) | {"inputs": job.inputs}))
    main = plan.plan(load(given=given), Path("out"))
    assert [job.cell.method_fields["burn_in"] for job in main] == [6, 5]
    path = jobs[0].directory / record.FILE_NAME
    good = path.read_text()
    for change, expected in (
        (
            {"model": MODEL},
            "1 records of s, which choose values here, were made with another model",
        ),
        ({"val": "0"}, "1 records of s, which choose values here, were made with another val set"),
    ):
        changed = json.loads(good) | {"inputs": jobs[0].inputs | change}
        path.write_text(json.dumps(changed))
        with pytest.raises(InputError) as caught:
            plan.plan(load(given=given), Path("out"))
        (problem,) = caught.value.problems
        assert problem.startswith(expected)
    # A perturbation leaves out a part of the training set, and it alone.
    path.write_text(json.dumps(json.loads(good) | {"inputs": jobs[0].inputs | {"train": "0"}}))
    assert plan.plan(load(given=given), Path("out"))
