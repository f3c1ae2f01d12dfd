"""`select`: references that are wrong, records that do not fit, and parts of a benchmark."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.selecting import (
    MAIN,
    MODEL,
    SEARCH,
    burn_ins,
    change,
    load,
    problems,
    run,
    table,
    write,
)

from jiant_sparse.config import evidence, select
from jiant_sparse.config import load as config
from jiant_sparse.errors import InputError
from jiant_sparse.grid import plan
from jiant_sparse.schema.manifest import Manifest

CB = {"tasks": {"cb": {}}}
DATA = {"train": "t", "val": "v", "test": "x"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Two files that refer to each other, and the current directory."""
    monkeypatch.chdir(tmp_path)
    write("search.yaml", SEARCH)
    write("main.yaml", MAIN)
    return tmp_path


def test_without_an_output_directory_nothing_is_chosen(folder):
    with pytest.raises(InputError, match=r"sam.burn_in: is chosen by search.yaml from the records"):
        config.load(Path("main.yaml"))


@pytest.mark.parametrize(
    ("search", "value", "expected"),
    [
        ({}, "no.yaml", "methods.sam.burn_in: select: no.yaml: cannot be read: No such"),
        ({}, "pipe", "select: pipe: is not a regular file"),
        ({}, {"select": "search.yaml", "cb": 3}, "burn_in: `select` stands alone; remove cb"),
        ({}, 3, "burn_in: select: is 3; it must be the path of one YAML file"),
        (
            {"methods": {"samm": {"method": "sam", "sweep": {"burn_in": [1]}}}},
            "search.yaml",
            "burn_in: search.yaml has no method 'sam'; did you mean samm? known: samm",
        ),
        (
            {"methods": {"sam": {"sweep": {"density": [0.1]}}}},
            "search.yaml",
            "methods.sam of search.yaml does not sweep burn_in; known: density",
        ),
        (
            {"methods": {"sam": {}}},
            "search.yaml",
            "methods.sam of search.yaml does not sweep burn_in; it has no sweep",
        ),
        (
            CB,
            "search.yaml",
            "main.yaml: methods.sam.burn_in: search.yaml has no task rte; it has cb",
        ),
        (
            {"methods": {"sam": {"sweep": {"burn_in": [5, 0]}}}},
            "search.yaml",
            "search.yaml: methods.sam_burn_in_0.burn_in: is 0; it must be an integer of at least 1",
        ),
    ],
)
def test_bad_references_are_named_beside_all_else(folder, search, value, expected):
    os.mkfifo("pipe")
    write("search.yaml", SEARCH | search)
    reference = value if isinstance(value, dict) else {"select": value}
    write("main.yaml", MAIN | {"methods": {"sam": {"burn_in": reference, "density": 5}}})
    for check in (True, False):
        found = problems(check=check)
        assert len([problem for problem in found if expected in problem]) == 1, found
        assert "main.yaml: methods.sam.density: is 5; it must be a number in (0, 1]" in found
        assert len(found) == 2, found


def test_a_selection_that_is_wrong_is_told_once(folder):
    write("search.yaml", SEARCH | {"seeds": [-1]})
    two = {"sam": MAIN["methods"]["sam"], "again": {"method": "sam", **MAIN["methods"]["sam"]}}
    write("main.yaml", MAIN | {"methods": two})
    assert problems() == ["search.yaml: seeds: is [-1]; seeds must be distinct and in [0, 2^63)"]
    write("main.yaml", MAIN | {"tasks": 3})
    (problem,) = problems()
    assert problem.startswith("main.yaml: tasks: is 3")


def test_a_value_is_swept_or_chosen_and_not_both(folder):
    block = MAIN["methods"]["sam"] | {"sweep": {"burn_in": [5]}}
    write("main.yaml", MAIN | {"methods": {"sam": block}})
    told = "burn_in is swept and chosen by `select`; give one of the two"
    assert problems(check=True) == [f"main.yaml: methods.sam.sweep: {told}"]


@pytest.mark.parametrize("check", [True, False])
def test_references_in_a_circle_are_an_error(folder, check):
    loop = {"sweep": {"burn_in": [5]}, "density": {"select": "main.yaml"}}
    write("search.yaml", SEARCH | {"methods": {"sam": loop}})
    (problem,) = problems(check=check)
    told = "select: main.yaml is chosen by itself, directly or by others it selects"
    assert problem == f"search.yaml: methods.sam.density: {told}"


def chain(count: int, labels=("sam",)) -> None:
    """Files in a chain: each selects a value that the next one sweeps."""
    for number in range(count):
        swept, chosen = ("density", "burn_in")[:: 1 if number % 2 else -1]
        block = {"sweep": {swept: [1]}, chosen: {"select": f"{number + 1}.yaml"}}
        methods = {label: {"method": "sam", **block} for label in labels}
        write(f"{number}.yaml", {"benchmark": f"s{number}", "methods": methods})


@pytest.mark.parametrize("check", [True, False])
def test_a_chain_of_selections_has_an_end(folder, check):
    chain(21)
    (problem,) = problems("0.yaml", check=check)
    expected = "select: 20.yaml would be the 21st file of a chain; at most 20 are followed"
    assert problem == f"19.yaml: methods.sam.burn_in: {expected}"


def test_a_selection_that_is_wrong_is_tried_once(folder):
    """Else as many times as there are ways to it: here 3^12."""
    chain(12, labels=("one", "two", "three"))
    write("12.yaml", {"benchmark": "last", "methods": {"sma": {}}})
    began = time.monotonic()
    (problem,) = problems("0.yaml", check=True)
    assert "12.yaml: methods.sma: unknown method" in problem
    assert time.monotonic() - began < 10


def test_check_reads_a_selection_once_and_binds_every_candidate(folder, monkeypatch):
    sweep = {"sweep": {"burn_in": [*range(50, 20, -1), 5, 60]}}
    write("search.yaml", SEARCH | {"methods": {"diff_pruning": sweep}})
    block = {"burn_in": {"select": "search.yaml"}, "mask_interval": 4}
    write("main.yaml", MAIN | {"methods": {"diff_pruning": block}})
    read, seen = select.read_yaml, []
    monkeypatch.setattr(select, "read_yaml", lambda path: [seen.append(path), read(path)][1])
    assert config.check(Path("main.yaml")) == "2 cells"
    assert len(seen) == 1
    write("main.yaml", MAIN | {"methods": {"diff_pruning": block | {"mask_interval": 7}}})
    (problem,) = problems(check=True)
    assert "mask_interval is 7; it must be below burn_in (5)" in problem


# Records of other inputs


def test_records_of_another_model_stop_the_plan(folder, data_dir, bert_dir):
    given = {"model": str(bert_dir), "data_dir": str(data_dir)}
    for name, raw in (("search.yaml", SEARCH), ("main.yaml", MAIN)):
        write(name, raw | CB | {"split": "files", "train": {"max_seq_length": 64}})
    (job, *_) = plan.plan(config.load(Path("search.yaml"), given=given), Path("out"))
    scores = table(cb=[0.5, 1, 0.5])
    run("search.yaml", scores, given=given, inputs=job.inputs)
    (main,) = plan.plan(load(given=given), Path("out"))
    assert main.cell.method_fields["burn_in"] == 6
    run("search.yaml", scores, given=given, inputs=job.inputs | {"model": MODEL})
    with pytest.raises(InputError, match="3 records of s, .* made with another model; run it"):
        plan.plan(load(given=given), Path("out"))


def foreign(benchmark) -> list[str]:
    """What is wrong with the evidence if the benchmark reads DATA."""
    cells = [(cell, SimpleNamespace(sha256=DATA)) for cell in benchmark.cells]
    return [*evidence.foreign(benchmark.evidence, MODEL, cells)]


@pytest.mark.parametrize(
    ("search", "main", "inputs", "what"),
    [
        ({}, {}, {}, None),
        ({}, {}, {"model": "1"}, "another model"),
        ({}, {}, {"train": "0"}, "another train set of cb"),
        ({}, {}, {"val": "0"}, "another val set of cb"),
        ({}, {}, {"test": "0"}, "another test set of cb"),
        ({"split": "random"}, {"split": "files"}, {"val": "0", "train": "0"}, None),
        ({}, {"split_seed": 1}, {"val": "0", "train": "0"}, None),
        # Each seed leaves out another part of the training set.
        ({"drop_train": 0.2}, {"drop_train": 0.2, "seeds": [0, 1]}, {"train": "0"}, "another tra"),
        ({"drop_train": 0.2}, {"drop_train": 0.2, "seeds": [1]}, {"train": "0"}, None),
        ({"drop_train": 0.2}, {}, {"train": "0"}, None),
        ({"drop_train": 0.2}, {}, {"val": "0"}, "another val set of cb"),
    ],
)
def test_records_of_other_inputs_select_nothing(folder, search, main, inputs, what):
    write("search.yaml", SEARCH | CB | search)
    write("main.yaml", MAIN | CB | main)
    run("search.yaml", table(cb=[0.5, 1, 0.5]), inputs={"model": MODEL, **DATA} | inputs)
    found = foreign(load())
    assert len(found) == (what is not None)
    told = f"3 records of s, which choose values here, were made with {what}"
    assert all(problem.startswith(told) for problem in found), found


def test_candidates_are_ranked_on_one_dev_set(folder):
    """Even where the benchmark has another split, so that no dev set can be expected."""
    write("search.yaml", SEARCH | CB | {"split": "random"})
    write("main.yaml", MAIN | CB | {"split": "files"})
    run("search.yaml", table(cb=[0.5, 1, 0.5]), inputs={"model": MODEL, **DATA})
    change("cb/sam_burn_in_5", inputs={"model": MODEL, **DATA, "val": "0"})
    assert foreign(load()) == [
        "3 records of s, which choose values here, were made with 2 different val sets of cb; run "
        "it again, both into one new --output-dir"
    ]


# Parts


def test_part_needs_its_own_records_alone(folder):
    block = MAIN["methods"]["sam"] | {"density": {"cb": 0.1, "mine": 0.2}}
    other = {"train": {"batch_size": {"select": "other.yaml"}}}
    tasks = {"cb": {}, "mine": {"like": "rte"}}
    sweep = {"train.batch_size": [1, 2]}
    for name, raw in (
        ("search.yaml", SEARCH),
        ("other.yaml", {"benchmark": "o", "methods": {"bitfit": {}}, "sweep": sweep}),
        ("main.yaml", MAIN | {"methods": {"sam": block, "bitfit": other}, "seeds": [0, 1]}),
    ):
        write(name, raw | {"tasks": tasks})
    run("search.yaml", table(cb=[0.5, 1, 0.5], mine=[1, 1, 1]))
    for path in Path("out/s/mine").rglob("record.json"):
        path.unlink()
    whole = {(t, m, s) for t in tasks for m in ("sam", "bitfit") for s in (0, 1)}
    found = load(only={"task": ["cb"], "method": ["sam"], "seed": ["1"]})
    assert [(c.key.task, c.key.method, c.seed) for c in found.cells] == [("cb", "sam", 1)]
    assert burn_ins(found) == {"cb": 6}
    assert {(key.task, key.method, key.seed) for key in found.planned} == whole
    assert found.chosen == ("methods.sam.burn_in: cb 6 (dev 100.0) from s, 3 values x 1 seed",)
    assert len(found.evidence) == 3
    plan.write_manifest(found, Path("out"))
    assert len(Manifest.read(Path("out/b")).cells) == len(whole)
    for only, lacking in (({"task": ["mine"], "method": ["sam"]}, "s"), ({"task": ["cb"]}, "o")):
        with pytest.raises(InputError, match=f"{lacking} cannot choose yet") as caught:
            load(only=only)
        assert len(caught.value.problems) == 1
    one = config.single("cb", "sam", 3, Path("main.yaml"), output_dir=Path("out"))
    assert burn_ins(one) == {"cb": 6}, "and knows that `mine` is a task of the file"


def test_what_is_wrong_beside_a_part_is_told_all_the_same(folder):
    write("main.yaml", MAIN | {"methods": MAIN["methods"] | {"bitfit": {"x": 1}}})
    with pytest.raises(InputError, match="methods.bitfit.x: is not a known key"):
        load(only={"method": ["sam"]})
    with pytest.raises(InputError, match="methods.sam.burn_in: is chosen by search.yaml from"):
        config.load(write("good.yaml", MAIN), only={"task": ["cb"]})
