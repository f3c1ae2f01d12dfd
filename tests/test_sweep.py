"""`sweep` in YAML: which labelled blocks come out, and every way of getting it wrong."""

import pytest

from jiant_sparse.config import load as config
from jiant_sparse.config.sweep import expand
from jiant_sparse.errors import InputError

BASE = {
    "benchmark": "b",
    "model": "m",
    "data_dir": "d",
    "seeds": [0],
    "tasks": {"cb": {}, "rte": {}},
}


def blocks(methods: dict, **top) -> dict:
    expanded = expand({"methods": methods} | top, "f.yaml")
    assert expanded.problems == ()
    assert "sweep" not in expanded.raw
    return expanded.raw["methods"]


def problems(methods: dict, **top) -> list[str]:
    with pytest.raises(InputError) as caught:
        config.parse(BASE | {"methods": methods} | top, "f.yaml")
    return list(caught.value.problems)


def test_one_block_per_value_in_its_place():
    swept = {"density": 0.005, "sweep": {"burn_in": [500, 600]}}
    found = blocks({"bitfit": {}, "sam": swept, "lora": None})
    assert list(found) == ["bitfit", "sam_burn_in_500", "sam_burn_in_600", "lora"]
    assert found["sam_burn_in_600"] == {"method": "sam", "density": 0.005, "burn_in": 600}


def test_several_keys_give_the_product():
    sweep = {"density": [0.1, 0.2], "train.learning_rate": [1e-4, 1e-3]}
    block = {"method": "sam", "train": {"batch_size": 4}, "sweep": sweep}
    found = blocks({"mine": block})
    assert list(found) == [
        "mine_density_0.1_learning_rate_0.0001",
        "mine_density_0.1_learning_rate_0.001",
        "mine_density_0.2_learning_rate_0.0001",
        "mine_density_0.2_learning_rate_0.001",
    ]
    train = {"batch_size": 4, "learning_rate": 0.001}
    last = {"method": "sam", "density": 0.2, "train": train}
    assert found["mine_density_0.2_learning_rate_0.001"] == last
    assert block["train"] == {"batch_size": 4} and "sweep" in block, "as it was"


def test_sweep_at_the_top():
    rates = {"train.learning_rate": [0.1, 0.2]}
    methods = {"bitfit": None, "sam": {"sweep": {"burn_in": [5]}}, "lora": {"sweep": {}}}
    found = blocks(methods | {"random": {"train": {"learning_rate": 1}}}, sweep=rates)
    assert list(found) == [
        "bitfit_learning_rate_0.1", "bitfit_learning_rate_0.2", "sam_burn_in_5", "lora",
        "random_learning_rate_0.1", "random_learning_rate_0.2",
    ]  # fmt: skip
    train = {"train": {"learning_rate": 0.2}}
    assert found["bitfit_learning_rate_0.2"] == {"method": "bitfit", **train}
    assert found["random_learning_rate_0.2"] == {"method": "random", **train}
    assert found["lora"] == {}


def test_swept_cells_are_cells_like_others():
    sweep = {"density": [5e-4, 0.01], "scope": ["global", "per_tensor"], "clip": [None]}
    raw = BASE | {"methods": {"sam": {"burn_in": {"cb": 3, "rte": 4}, "sweep": sweep}}}
    cells = config.parse(raw, "f").cells
    assert len(cells) == 2 * 4
    assert cells[0].key.method == "sam_density_0.0005_scope_global_clip_null"
    assert cells[-1].method_fields["scope"] == "per_tensor"
    assert [cells[0].method_fields["burn_in"], cells[-1].method_fields["burn_in"]] == [3, 4]
    assert {cell.method_name for cell in cells} == {"sam"}
    block = {"burn_in": {"cb": 3, "rte": 4}, "sweep": {"burn_in": [7]}}
    cells = config.parse(BASE | {"methods": {"sam": block}}, "f").cells
    assert {cell.method_fields["burn_in"] for cell in cells} == {7}, (
        "in the place of values by task"
    )


def test_set_changes_all_of_a_sweep_or_the_sweep_itself(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(
        "benchmark: b\nmodel: m\ndata_dir: d\nseeds: [0]\ntasks: {cb: {}}\n"
        "methods: {sam: {sweep: {burn_in: [5, 6]}}}\n"
    )
    cells = config.load(path, ["methods.sam.density=0.5"]).cells
    assert [c.method_fields["density"] for c in cells] == [0.5, 0.5]
    cells = config.load(path, ["methods.sam.sweep.burn_in=[7]"]).cells
    assert [c.key.method for c in cells] == ["sam_burn_in_7"]
    (cell,) = config.single("cb", "sam_burn_in_6", 3, path).cells
    assert (cell.method_fields["burn_in"], cell.seed) == (6, 3)
    with pytest.raises(InputError, match="methods has no 'sam'; .*known: sam_burn_in_5, sam_burn"):
        config.single("cb", "sam", 0, path)


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        (None, "methods.sam.sweep: is None; it must be a mapping from fields to lists"),
        ({"burn_in": []}, "methods.sam.sweep.burn_in: is []; it must be a list of at least one"),
        ({"burn_in": 5}, "methods.sam.sweep.burn_in: is 5; it must be a list of at least one"),
        ({"burn_in": [5, 6, 5]}, "methods.sam.sweep.burn_in: is [5, 6, 5]; 5 is given twice"),
        ({"density": [1, 1.0]}, "1.0 is given twice"),
        ({"burn_in": [5, "5"]}, "methods.sam.sweep.burn_in: is [5, '5']; 5 is given twice"),
        ({"burn_in": [{"cb": 1}]}, "methods.sam.sweep.burn_in: has {'cb': 1}; a value is a number"),
        ({"a.b": [1]}, "methods.sam.sweep.a.b: is not a method's field; a swept key is a field or"),
        ({"train.a.b": [1]}, "methods.sam.sweep.train.a.b: is not a method's field"),
        ({"burnin": [5]}, "methods.sam_burnin_5.burnin: is not a known key; did you mean burn_in?"),
        ({"train.batch_size": [0]}, "methods.sam_batch_size_0.train.batch_size: is 0; it should"),
        ({"score": ["a b"]}, "methods: names 'sam_score_a b'; a name has letters"),
    ],
)
def test_bad_sweeps_are_one_clear_error(sweep, expected):
    found = problems({"sam": {"sweep": sweep}, "bitfit": {}})
    assert len([problem for problem in found if expected in problem]) == 1, found
    assert all(problem.startswith("f.yaml: ") for problem in found)
    assert len(found) == 1 or "names" in expected, found


def test_labels_that_meet_are_refused():
    clash = {"sam_burn_in_5": {"method": "sam"}, "sam": {"sweep": {"burn_in": [5]}}}
    expected = ["f.yaml: methods: sam_burn_in_5 and sam both make 'sam_burn_in_5'"]
    assert problems(clash) == expected


def test_a_bad_sweep_hides_no_other_problem():
    found = problems({"sam": {"density": 2, "sweep": {"burn_in": []}}}, seeds=[-1], sweep=3)
    assert [text for text in found if "sweep.burn_in: is []" in text]
    assert [text for text in found if "f.yaml: sweep: is 3; it must be a mapping" in text]
    assert [text for text in found if "methods.sam.density: is 2; it must" in text]
    assert [text for text in found if "seeds: is [-1]" in text]
    assert problems([], sweep={"burn_in": []})[0].startswith("f.yaml: sweep.burn_in: is []")


def test_combinations_are_counted_before_they_are_made():
    hundred = {f"train.{key}": list(range(100)) for key in ("batch_size", "max_steps", "patience")}
    expected = "1,000,000 methods come of sweeps with this one; at most 1,000 can be run"
    assert problems({"sam": {"sweep": hundred}}) == [f"f.yaml: methods.sam.sweep: {expected}"]
    assert len(blocks({"sam": {"sweep": {"burn_in": list(range(1, 1001))}}})) == 1000
    (problem,) = problems({"sam": {"sweep": {"burn_in": list(range(1, 1002))}}})
    assert problem.endswith("sweep.burn_in: has 1,001 values; at most 1,000 can be run")
