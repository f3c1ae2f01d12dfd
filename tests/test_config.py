"""YAML -> cells: what is bound, and every error of a file at once."""

import time

import pytest

from jiant_sparse.config import load as config
from jiant_sparse.data.split import KINDS
from jiant_sparse.errors import InputError
from jiant_sparse.schema import cell

BASE = {
    "benchmark": "b",
    "model": "m",
    "data_dir": "d",
    "seeds": [0, 1],
    "tasks": {"cb": {}, "rte": None},
    "methods": {"full_tuning": {}, "sam": {"density": 0.01}},
}


def problems(raw: dict) -> list[str]:
    with pytest.raises(InputError) as caught:
        config.parse(raw, "f.yaml")
    return list(caught.value.problems)


def test_cells_are_every_combination_in_order():
    benchmark = config.parse(BASE, "f.yaml")
    keys = [(c.key.task, c.key.method, c.seed) for c in benchmark.cells]
    assert keys == [
        (task, method, seed)
        for task in ("cb", "rte")
        for method in ("full_tuning", "sam")
        for seed in (0, 1)
    ]
    assert benchmark.cells[2].method_fields["density"] == 0.01
    assert benchmark.cells[2].make_method().density == 0.01


def test_a_field_may_differ_by_task_and_train_by_task_and_method():
    raw = BASE | {
        "train": {"max_steps": 5},
        "tasks": {"cb": {"train": {"max_steps": 7, "batch_size": 4}}, "rte": {"seeds": [3]}},
        "methods": {
            "sam": {"burn_in": {"cb": 2, "rte": 3, "cola": 9}, "train": {"batch_size": 2}},
            "narrow": {"method": "sam", "scope": "per_tensor"},
            "bitfit": {"train": {"learning_rate": {"cb": 0.1, "rte": 1e-2, "cola": 9}}},
        },
    }
    cells = {(c.key.task, c.key.method, c.seed): c for c in config.parse(raw, "f").cells}
    assert {key[2] for key in cells if key[0] == "rte"} == {3}
    assert cells["cb", "sam", 0].method_fields["burn_in"] == 2
    assert cells["rte", "sam", 3].method_fields["burn_in"] == 3
    assert cells["cb", "sam", 0].train.max_steps == 7
    assert cells["cb", "sam", 0].train.batch_size == 2
    assert cells["cb", "narrow", 0].train.batch_size == 4
    assert cells["cb", "narrow", 0].method_name == "sam"
    assert cells["cb", "narrow", 0].settings["method"]["scope"] == "per_tensor"
    assert cells["cb", "bitfit", 0].train.learning_rate == 0.1
    assert cells["rte", "bitfit", 3].train.learning_rate == 0.01
    assert cells["cb", "bitfit", 0].train.max_steps == 7


def test_a_variant_of_a_known_task_needs_no_code():
    raw = BASE | {"tasks": {"my_nli": {"like": "cb", "metric": "avg_f1"}}}
    cell = config.parse(raw, "f").cells[0]
    assert (cell.task.name, cell.task.like, cell.task.metric) == ("my_nli", "cb", "avg_f1")


def test_the_papers_split_is_the_default_of_the_papers_tasks_alone():
    tasks = {"cb": {"metric": "avg_f1"}, "mine": {"like": "cb"}, "sst": {}}
    raw = BASE | {"seeds": [0], "tasks": tasks, "methods": {"sam": {}}}

    def splits(**changes):
        cells = config.parse(raw | changes, "f").cells
        assert all(cell.settings["split"] == cell.setup.split for cell in cells)
        return [cell.setup.split for cell in cells]

    assert splits() == splits(split=None) == ["published", "files", "files"]
    for kind in KINDS:
        assert splits(split=kind) == [kind] * 3, "asked for, it holds for all"
    plain, said = (config.parse(raw | more, "f").cells[0] for more in ({}, {"split": "published"}))
    assert plain.settings_hash == said.settings_hash


def test_all_errors_of_a_file_come_at_once():
    raw = BASE | {
        "trian": {},
        "train": {"learning_rat": 1, "batch_size": 0, "eval_batch_size": 32, "eval_tokens": 0},
        "tasks": {"cbb": {}, "rte": {"seeds": []}},
        "methods": {"samm": {}, "sam": {"density": 1.5}, "bitfit": {"x": 1}, "a/b": None},
    }
    text = "\n".join(problems(raw))
    for expected in (
        "f.yaml: trian: is not a known key; did you mean train?",
        "f.yaml: train.learning_rat: is not a known key; did you mean learning_rate?",
        "f.yaml: train.batch_size: is 0; it should be greater than or equal to 1",
        "f.yaml: train.eval_tokens: is 0; it should be greater than or equal to 1",
        "f.yaml: train.eval_batch_size: is no longer a key; set eval_tokens, the most tokens of an "
        "evaluation batch",
        "tasks.cbb: task 'cbb' is unknown",
        "f.yaml: tasks.rte.seeds: is []",
        "f.yaml: methods: names 'a/b'; a name has letters",
        "f.yaml: methods.samm: unknown method 'samm'; did you mean sam?",
        "f.yaml: methods.sam.density: is 1.5; it must be a number in (0, 1]",
        "f.yaml: methods.bitfit.x: is not a known key; it has no keys",
    ):
        assert expected in text, (expected, text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"methods": {"random": {"density": 0}}}, "methods.random.density: is 0; it must be a num"),
        ({"methods": {"sam": {"burn_in": {"cb": 3}}}}, "burn_in: has no value for task rte"),
        ({"methods": {"sam": {"burn_in": {"cb": 3, "rte": 1, "nli": 2}}}}, "names 'nli'"),
        (
            {"methods": {"sam": {"train": {"batch_size": {"cb": 3}}}}},
            "methods.sam.train.batch_size: has no value for task rte",
        ),
        (
            {"methods": {"sam": {"train": {"batch_size": {"cb": 3, "rte": 0}}}}},
            "methods.sam.train.batch_size: is 0",
        ),
        ({"train": {"batch_size": {"cb": 3, "rte": 1}}}, "train.batch_size: is {'cb': 3"),
        ({"methods": {"sam": {"train": 3}}}, "methods.sam.train: is 3; it must be a mapping"),
        ({"seeds": [1, 1]}, "seeds: is [1, 1]; seeds must be distinct and in [0, 2^63)"),
        ({"seeds": [0, 2**63]}, "seeds: is [0, 9223372036854775808]; seeds must be distinct and"),
        ({"seeds": [True]}, "seeds.0: is True; it should be a valid integer"),
        ({"tasks": {"cb": {"seeds": [-1]}}}, "tasks.cb.seeds: is [-1]; seeds must be distinct"),
        ({"split_seed": 2**63}, "split_seed: is 9223372036854775808; it should be less than"),
        ({"train": {"batch_size": 16.0}}, "train.batch_size: is 16.0; it should be a valid integ"),
        ({"train": {"learning_rate": "1e-4"}}, "learning_rate: is '1e-4'; it should be a valid n"),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate: is nan"),
        ({"train": {"learning_rate": 10**400}}, "train.learning_rate: is 1000"),
        ({"train": {"reshuffle": 1}}, "train.reshuffle: is 1; it should be a valid boolean"),
        ({"threads": 1025}, "threads: is 1025; it should be less than or equal to 1024"),
        ({"threads": 0}, "threads: is 0"),
        (
            {"split": "thirds"},
            "split: is 'thirds'; it should be 'published', 'random', 'files' or 'dev_as_test'",
        ),
        ({"train": {"eval_every": 5, "eval_offset": 5}}, "eval_offset: is 5; it must be below"),
        (
            {"train": {"sgd_momentum": 0.5}},
            "train.sgd_momentum: is 0.5, but optimizer is adamw; it must be null",
        ),
        ({"drop_train": 1.0}, "drop_train: is 1.0; it should be less than 1"),
        ({"tasks": {"cb": {"metric": "mcc"}}}, "metric is 'mcc'"),
        ({"tasks": {"cb": 3}}, "tasks.cb: is 3"),
        ({"tasks": {}}, "tasks: is {}"),
    ],
)
def test_bad_values_are_named(change, expected):
    found = problems(BASE | change)
    assert any(expected in problem and problem.startswith("f.yaml: ") for problem in found), found


def test_missing_keys_are_named():
    assert problems({"benchmark": "b"}) == [
        f"f.yaml: {key}: is missing" for key in ("model", "data_dir", "seeds", "tasks", "methods")
    ]


def test_one_cell_of_a_file_or_of_nothing(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(
        "benchmark: b\nmodel: m\ndata_dir: d\nseeds: [0]\ntasks: {cb: {seeds: [4]}, rte: {}}\n"
        "methods: {sam: {}, random: {}}\n"
    )
    (cell,) = config.single("cb", "sam", 7, path).cells
    assert (cell.key.benchmark, cell.seed) == ("b", 7)
    with pytest.raises(InputError, match="tasks has no 'cola'; known: cb, rte"):
        config.single("cola", "sam", 0, path)
    (cell,) = config.single(
        "cb", "sam", 0, overrides=["methods.sam.burn_in=9"], given={"model": "m", "data_dir": "d"}
    ).cells
    assert cell.key.benchmark == "run"
    assert cell.method_fields["burn_in"] == 9
    with pytest.raises(InputError, match="command line: model: is missing"):
        config.single("cb", "sam", 0)


def test_every_count_has_a_bound_and_the_message_says_it():
    for block in (cell.Train, cell.Setup):
        for name, field in block.model_json_schema()["properties"].items():
            for kind in field.get("anyOf", [field]):
                if kind.get("type") == "integer":
                    assert kind.keys() & {"maximum", "exclusiveMaximum"}, name
    train = {"batch_size": 65_536, "max_steps": 1_000_000_000}
    assert config.parse(BASE | {"train": train}, "f").cells
    assert problems(BASE | {"train": {field: most + 1 for field, most in train.items()}}) == [
        f"f.yaml: train.{field}: is {most + 1}; it should be less than or equal to {most}"
        for field, most in train.items()
    ]


def test_settings_are_all_that_decides_the_result_and_nothing_else():
    often = {"checkpoint_every": 3, "checkpoint_minutes": 0.5, "allow_dropped": True}
    one, two, three = (
        config.parse(BASE | change, "f").cells
        for change in ({}, {"data_dir": "other", "train": often}, {"train": {"weight_decay": 0.02}})
    )
    assert two[0].train.checkpoint_every == 3 and two[0].settings == one[0].settings
    assert [c.settings_hash for c in one] == [c.settings_hash for c in two]
    assert len({c.settings_hash for c in (*one, *three)}) == 2 * len(one)
    assert one[0].setup.threads == 1
    for change in ({"threads": 2}, {"train": {"eval_tokens": 4096}}):
        other = config.parse(BASE | change, "f").cells[0]
        assert other.settings_hash != one[0].settings_hash


def test_settings_of_later_fields_and_revisions():
    """A field that was added later does not count at its default; another result does."""
    raw = BASE | {"tasks": {"cb": {}}, "seeds": [0], "methods": {"sam": {}, "random": {}}}
    sam, random = config.parse(raw, "f.yaml").cells
    assert sam.settings["method"] == {
        "name": "sam", "revision": 2, "density": 0.005, "burn_in": 600, "score": "signed_sum",
        "scope": "global", "dropout": False, "clip": None,
    }  # fmt: skip
    assert random.settings["method"].keys() == {"name", "density", "scope", "draw"}
    assert not {"optimizer", "sgd_momentum", "allow_dropped"} & sam.settings["train"].keys()
    (other,) = config.parse(raw | {"methods": {"sam": {"head_steps": 1}}}, "f").cells
    assert other.settings["method"]["head_steps"] == 1
    assert other.settings_hash != sam.settings_hash


# Labels become folders


@pytest.mark.parametrize("name", ["a" * 201, "..", "", "a\0b"])
def test_labels_that_cannot_be_folders_are_refused(name):
    shown = repr(name) if len(name) < 100 else f"'{'a' * 99}"
    for kind, block in (("tasks", {"like": "cb"}), ("methods", {"method": "sam"})):
        found = problems(BASE | {kind: {name: block}})
        assert [text for text in found if f"f.yaml: {kind}: names {shown}" in text], found
        assert [text for text in found if "at most 200 characters" in text], found
    for whole in (name, f"a/{name}"):
        assert problems(BASE | {"benchmark": whole})[0].startswith("f.yaml: benchmark: is ")


def test_labels_that_another_file_or_folder_has_are_refused():
    blocks = {name: {"like": "cb"} for name in ("data", "Report", "benchmark.json", "report")}
    own = "which is a file or folder of its own here; choose another"
    twin = "which are one folder where case is ignored"
    assert problems(BASE | {"tasks": blocks}) == [
        f"f.yaml: tasks: names 'data', {own}",
        f"f.yaml: tasks: names 'Report', {own}",
        f"f.yaml: tasks: names 'benchmark.json', {own}",
        f"f.yaml: tasks: names 'report', {own}",
        f"f.yaml: tasks: names 'Report' and 'report', {twin}",
    ]
    methods = {"Sam": {"method": "sam"}, "sam": {}}
    assert problems(BASE | {"methods": methods}) == [
        f"f.yaml: methods: names 'Sam' and 'sam', {twin}"
    ]
    assert config.parse(BASE | {"methods": {"report": {"method": "sam"}}}, "f").cells


# Much of everything

NAMES = [f"t{number}" for number in range(400)]
TASKS = {name: {"like": "cb"} for name in NAMES}


def test_the_cells_of_a_benchmark_are_counted_before_they_are_made():
    raw = BASE | {"seeds": list(range(25_001))}
    assert problems(raw) == ["f.yaml: file: has 100,004 cells; at most 100,000 can be run"]


@pytest.mark.parametrize(
    "change",
    [{"model": "a\0b"}, {"data_dir": "a" * 5000}, {"train": {"learning_rate": "x" * 100_000}}],
)
def test_what_was_given_is_cut_and_what_is_allowed_is_not(change):
    (found,) = problems(BASE | change)
    assert found.startswith("f.yaml: ") and ": is " in found and "; " in found
    assert len(found) < 300


@pytest.mark.parametrize(
    "fields",
    [{"burn_in": {f"u{name}": 1 for name in NAMES}}, {name: {f"u{name}": 1} for name in NAMES}],
)
def test_many_cells_are_bound_and_many_mistakes_told_in_seconds(fields):
    """Each mistake for each task, and with each known name compared: that took hours."""
    began = time.monotonic()
    found = problems(BASE | {"tasks": TASKS, "methods": {"sam": fields}})
    assert config.parse(BASE | {"tasks": TASKS, "methods": {"bitfit": {}, "sam": {}}}, "f").cells
    assert time.monotonic() - began < 20
    assert len(found) <= 1001
    assert sum(map(len, found)) < 2_000_000


def test_of_very_many_problems_and_known_names_the_first_are_told():
    found = problems(BASE | {"methods": {f"m{i}": {"method": "sma"} for i in range(1001)}})
    assert len(found) == 1001
    assert found[0].startswith("f.yaml: methods.m0: unknown method 'sma'; did you mean sam?")
    assert found[-1] == "f.yaml: file: has more problems; the first 1,000 are told"
    by_task = {"burn_in": {"nli": 1} | dict.fromkeys(NAMES, 2)}
    assert problems(BASE | {"tasks": TASKS, "methods": {"sam": by_task}}) == [
        "f.yaml: methods.sam.burn_in: names 'nli', which is not a task; "
        f"known: {', '.join(NAMES[:100])} and 300 more"
    ]
