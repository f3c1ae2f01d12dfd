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


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(
        "benchmark: b\nmodel: m\ndata_dir: d\nseeds: [0]\ntasks: {cb: }\n"
        "train: {learning_rate: 1e-4}\nmethods: {sam: {density: 5e-3}}\n"
    )
    cell = config.load(path, ["train.adam_epsilon=1e-6", "methods.sam.burn_in=3"]).cells[0]
    assert cell.train.learning_rate == 1e-4
    assert cell.train.adam_epsilon == 1e-6
    assert cell.method_fields["density"] == 0.005
    assert cell.method_fields["burn_in"] == 3


def test_all_errors_of_a_file_come_at_once():
    raw = BASE | {
        "trian": {},
        "train": {"learning_rat": 1, "batch_size": 0},
        "tasks": {"cbb": {}, "rte": {"seeds": []}},
        "methods": {"samm": {}, "sam": {"density": 1.5, "scope": "globl"}, "bitfit": {"x": 1}},
    }
    text = "\n".join(problems(raw))
    for expected in (
        "f.yaml: trian: is not a known key; did you mean train?",
        "f.yaml: train.learning_rat: is not a known key; did you mean learning_rate?",
        "f.yaml: train.batch_size: is 0; it should be greater than or equal to 1",
        "tasks.cbb: task 'cbb' is unknown",
        "f.yaml: tasks.rte.seeds: is []",
        "f.yaml: methods.samm: unknown method 'samm'; did you mean sam?",
        "f.yaml: methods.sam.density: is 1.5; it must be a number in (0, 1]",
        "f.yaml: methods.bitfit.x: is not a known key; it has no keys",
    ):
        assert expected in text, (expected, text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"methods": {"random": {"density": 0}}}, "methods.random.density: is 0; it must be a num"),
        ({"methods": {"random": {"density": True}}}, "methods.random.density: is True"),
        (
            {"methods": {"sam": {"burn_in": 0}}},
            "burn_in: is 0; it must be an integer",
        ),
        ({"methods": {"sam": {"score": "hessian"}}}, "sam.score: is 'hessian'; it must be one"),
        (
            {"methods": {"sam": {"clip": -1}}},
            "sam.clip: is -1; it must be a finite number above 0",
        ),
        ({"methods": {"sam": {"burn_in": {"cb": 3}}}}, "burn_in: has no value for task rte"),
        ({"methods": {"sam": {"burn_in": {"cb": 3, "rte": 1, "nli": 2}}}}, "names 'nli'"),
        (
            {"methods": {"sam": {"train": {"batch_size": {"cb": 3}}}}},
            "methods.sam.train.batch_size: has no value for task rte",
        ),
        (
            {"methods": {"sam": {"train": {"batch_size": {"cb": 3, "rte": 1, "nli": 2}}}}},
            "methods.sam.train.batch_size: names 'nli'",
        ),
        (
            {"methods": {"sam": {"train": {"batch_size": {"cb": 3, "rte": 0}}}}},
            "methods.sam.train.batch_size: is 0",
        ),
        ({"train": {"batch_size": {"cb": 3, "rte": 1}}}, "train.batch_size: is {'cb': 3"),
        ({"methods": {"sam": {"burn_in": "many"}}}, "methods.sam.burn_in: is 'many'; it must"),
        ({"methods": {"sam": {"train": 3}}}, "methods.sam.train: is 3; it must be a mapping"),
        ({"methods": {"a/b": {"method": "sam"}}}, "methods: names 'a/b'"),
        ({"seeds": [1, 1]}, "seeds: is [1, 1]; seeds must be distinct and in [0, 2^63)"),
        ({"seeds": [-1]}, "seeds: is [-1]; seeds must be distinct and in [0, 2^63)"),
        ({"seeds": [0, 2**63]}, "seeds: is [0, 9223372036854775808]; seeds must be distinct and"),
        ({"seeds": [True]}, "seeds.0: is True; it should be a valid integer"),
        ({"seeds": ["010"]}, "seeds.0: is '010'; it should be a valid integer"),
        ({"seeds": [1.0]}, "seeds.0: is 1.0; it should be a valid integer"),
        ({"tasks": {"cb": {"seeds": [2**63]}}}, "tasks.cb.seeds: is [9223372036854775808]; seeds"),
        ({"tasks": {"cb": {"seeds": ["1:30"]}}}, "tasks.cb.seeds.0: is '1:30'; it should be a val"),
        ({"split_seed": 2**63}, "split_seed: is 9223372036854775808; it should be less than"),
        ({"split_seed": "0x1f"}, "split_seed: is '0x1f'; it should be a valid integer"),
        ({"train": {"batch_size": "1_6"}}, "train.batch_size: is '1_6'; it should be a valid int"),
        ({"train": {"batch_size": 16.0}}, "train.batch_size: is 16.0; it should be a valid integ"),
        ({"train": {"learning_rate": "1e-4"}}, "learning_rate: is '1e-4'; it should be a valid n"),
        ({"train": {"reshuffle": "yes"}}, "train.reshuffle: is 'yes'; it should be a valid bool"),
        ({"train": {"reshuffle": 1}}, "train.reshuffle: is 1; it should be a valid boolean"),
        ({"methods": {"sam": {"burn_in": "010"}}}, "methods.sam.burn_in: is '010'; it must be an"),
        (
            {"methods": {"sam": {"dropout": "on"}}},
            "methods.sam.dropout: is 'on'; it must be true or false",
        ),
        (
            {"methods": {"sam": {"clip": float("inf")}}},
            "methods.sam.clip: is inf; it must be a finite number above 0 or null",
        ),
        ({"methods": {"sam": {"density": 10**400}}}, "methods.sam.density: is 1000"),
        ({"train": {"learning_rate": 10**400}}, "train.learning_rate: is 1000"),
        ({"threads": 1025}, "threads: is 1025; it should be less than or equal to 1024"),
        (
            {"split": "thirds"},
            "split: is 'thirds'; it should be 'published', 'random', 'files' or 'dev_as_test'",
        ),
        ({"benchmark": "../up"}, "benchmark: is '../up'"),
        ({"train": {"eval_every": 5, "eval_offset": 5}}, "eval_offset: is 5; it must be below"),
        (
            {"train": {"sgd_momentum": 0.5}},
            "train.sgd_momentum: is 0.5, but optimizer is adamw; it must be null",
        ),
        (
            {"methods": {"sam": {"burn_in": [3]}}},
            "methods.sam.burn_in: is [3]; it must be an integer of at least 1 or 'exact'",
        ),
        ({"train": {"learning_rate": float("nan")}}, "train.learning_rate: is nan"),
        ({"train": {"reshuffle": "perhaps"}}, "train.reshuffle: is 'perhaps'"),
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


def test_settings_hash_counts_settings_and_not_the_place_of_the_data():
    one, two = (config.parse(BASE | change, "f").cells for change in ({}, {"data_dir": "other"}))
    assert [c.settings_hash for c in one] == [c.settings_hash for c in two]
    assert len({c.settings_hash for c in one}) == len(one)
    other = config.parse(BASE | {"train": {"weight_decay": 0.02}}, "f").cells
    assert not {c.settings_hash for c in one} & {c.settings_hash for c in other}


def test_what_decides_nothing_is_not_in_the_settings():
    plain, often, threads = (
        config.parse(BASE | change, "f").cells[0]
        for change in (
            {},
            {"train": {"checkpoint_every": 3, "checkpoint_minutes": 0.5, "allow_dropped": True}},
            {"threads": 2},
        )
    )
    assert (often.train.checkpoint_every, often.train.checkpoint_minutes) == (3, 0.5)
    assert often.settings == plain.settings
    assert plain.setup.threads == 1
    assert threads.settings_hash != plain.settings_hash
    assert any("threads: is 0" in problem for problem in problems(BASE | {"threads": 0}))


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


STEPS = 1_000_000_000
ROWS = 65_536


@pytest.mark.parametrize(
    ("field", "most"),
    [("batch_size", ROWS), ("gradient_accumulation", ROWS), ("eval_batch_size", ROWS)]
    + [("length_grouping", ROWS), ("max_epochs", STEPS), ("max_steps", STEPS)]
    + [("eval_every", STEPS), ("eval_offset", STEPS), ("dev_examples", STEPS)]
    + [("min_steps", STEPS), ("patience", STEPS), ("checkpoint_every", STEPS)],
)
def test_counts_are_bounded_and_the_message_says_by_what(field, most):
    train = {"eval_every": STEPS, field: most - (field == "eval_offset")}
    assert config.parse(BASE | {"train": train}, "f").cells
    (found,) = problems(BASE | {"train": {field: most + 1}})
    assert found.startswith(
        f"f.yaml: train.{field}: is {most + 1}; it should be less than or equal"
    )
    assert found.endswith(f"to {most}")


def test_every_count_has_a_bound():
    for block in (cell.Train, cell.Setup):
        for name, field in block.model_json_schema()["properties"].items():
            for kind in field.get("anyOf", [field]):
                if kind.get("type") == "integer":
                    assert kind.keys() & {"maximum", "exclusiveMaximum"}, name


def test_the_cells_of_a_benchmark_are_counted_before_they_are_made():
    raw = BASE | {"seeds": list(range(25_001))}
    assert problems(raw) == ["f.yaml: file: has 100,004 cells; at most 100,000 can be run"]
    tasks = {f"t{i}": {"like": "cb"} for i in range(1000)}
    methods = {f"m{i}": {"method": "bitfit"} for i in range(1000)}
    found = problems(BASE | {"tasks": tasks, "methods": methods})
    assert found == ["f.yaml: file: has 2,000,000 cells; at most 100,000 can be run"]


@pytest.mark.parametrize("name", ["a" * 201, "a.", ".", "..", ".a", "", "-a", "a\0b", "ä"])
def test_labels_that_cannot_be_folders_are_refused(name):
    shown = repr(name) if len(name) < 100 else f"'{'a' * 99}"
    for kind, block in (("tasks", {"like": "cb"}), ("methods", {"method": "sam"})):
        found = problems(BASE | {kind: {name: block}})
        assert [text for text in found if f"f.yaml: {kind}: names {shown}" in text], found
        assert [text for text in found if "at most 200 characters" in text], found
    assert any("f.yaml: benchmark: is " in text for text in problems(BASE | {"benchmark": name}))
    assert any(
        "f.yaml: benchmark: is " in text for text in problems(BASE | {"benchmark": f"a/{name}"})
    )


@pytest.mark.parametrize("name", ["data", "report", "benchmark.json", "Report"])
def test_labels_of_tasks_are_not_those_of_the_products_own_files(name):
    found = problems(BASE | {"tasks": {name: {"like": "cb"}}})
    what = "which is a file or folder of its own here"
    assert found == [f"f.yaml: tasks: names {name!r}, {what}; choose another"]
    assert config.parse(BASE | {"methods": {name: {"method": "sam"}}}, "f").cells


def test_labels_that_differ_in_case_alone_are_one_folder_somewhere():
    methods = {"Sam": {"method": "sam"}, "sam": {}}
    expected = "f.yaml: methods: names 'Sam' and 'sam', which are one folder where case is ignored"
    assert problems(BASE | {"methods": methods}) == [expected]
    tasks = {"nli": {"like": "cb"}, "NLI": {"like": "cb"}}
    assert [text for text in problems(BASE | {"tasks": tasks}) if "'nli' and 'NLI'" in text]


@pytest.mark.parametrize("key", ["model", "data_dir"])
@pytest.mark.parametrize("path", ["a\0b", "a" * 5000])
def test_paths_that_no_system_has_are_refused(key, path):
    (found,) = problems(BASE | {key: path})
    assert found.startswith(f"f.yaml: {key}: is ")
    assert len(found) < 300


def test_long_values_are_cut_and_what_is_allowed_is_not():
    (found,) = problems(BASE | {"train": {"learning_rate": "x" * 100_000}})
    assert len(found) < 300
    assert found.endswith("; it should be a valid number")


def test_a_wide_configuration_is_bound_in_seconds():
    methods = {f"m{i}": {"method": "sam"} for i in range(1000)}
    began = time.monotonic()
    assert len(config.parse(BASE | {"methods": methods}, "f").cells) == 4000
    assert time.monotonic() - began < 20


NAMES = [f"t{number}" for number in range(400)]


@pytest.mark.parametrize(
    "fields",
    [{"burn_in": {f"u{name}": 1 for name in NAMES}}, {name: {f"u{name}": 1} for name in NAMES}],
)
def test_many_mistakes_are_told_in_seconds(fields):
    """Each of them for each task, and with each known name compared: that took hours."""
    raw = BASE | {"tasks": {name: {"like": "cb"} for name in NAMES}}
    began = time.monotonic()
    found = problems(raw | {"methods": {"sam": fields}})
    assert time.monotonic() - began < 20
    assert len(found) <= 1001
    assert sum(map(len, found)) < 2_000_000


def test_of_very_many_problems_the_first_are_told():
    methods = {f"m{number}": {"method": "sma"} for number in range(1001)}
    found = problems(BASE | {"methods": methods})
    assert len(found) == 1001
    assert found[0].startswith("f.yaml: methods.m0: unknown method 'sma'; did you mean sam?")
    assert found[-1] == "f.yaml: file: has more problems; the first 1,000 are told"


def test_of_very_many_known_names_the_first_are_told():
    raw = BASE | {"tasks": {name: {"like": "cb"} for name in NAMES}}
    found = problems(raw | {"methods": {"sam": {"burn_in": {"nli": 1} | dict.fromkeys(NAMES, 2)}}})
    assert found == [
        "f.yaml: methods.sam.burn_in: names 'nli', which is not a task; "
        f"known: {', '.join(NAMES[:100])} and 300 more"
    ]


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
    (other, _) = config.parse(
        raw | {"methods": {"sam": {"head_steps": 1}, "random": {}}}, "f"
    ).cells
    assert other.settings["method"]["head_steps"] == 1
    assert other.settings_hash != sam.settings_hash
