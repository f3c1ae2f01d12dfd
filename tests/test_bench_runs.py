"""The benches on a tiny model: which rows there are and what they hold; never how fast."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from support.models import SIZES

from jiant_sparse.bench import contenders, memory, process, product, sample, select, step
from jiant_sparse.bench.models import Setting
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import products

TIMES = {"milliseconds_median", "milliseconds_min", "milliseconds_max", "repeats"}
SHARED = {"bench", "contender", "model", "batch_size", "sequence_length", "shapes", "device"}


@pytest.fixture
def config(tmp_path) -> str:
    sizes = {"model_type": "bert", "vocab_size": 50} | SIZES
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    return str(tmp_path)


@pytest.fixture
def setting(config) -> Setting:
    return Setting(config, batch_size=2, sequence_length=8, density=0.05)


@pytest.fixture
def here(monkeypatch):
    """Fresh processes are this one."""
    monkeypatch.setattr(process, "fresh", lambda function, *arguments: function(*arguments))


def ratios(to: str) -> set[str]:
    return {f"ratio_to_{to}{end}" for end in ("", "_min", "_max")}


def broken(model):
    raise TypeError("no such layer")


def with_peak(measure, name, setting):
    """A measurement whose peak is known."""
    peak = {"bound": 1000, "full": 3000, "ours/random": 1500, "lora": None}[name]
    return measure(name, setting) | {"peak_bytes": peak}


def test_step(setting, monkeypatch):
    monkeypatch.setitem(contenders._MAKERS, "lora", broken)
    lines = []
    found = step.run(setting, repeats=2, only=["ours/random", "lora"], notify=lines.append)
    rows = {row["contender"]: row for row in found}
    assert [*rows] == ["bound", "full", "ours/random", "lora"]
    row = rows["ours/random"]
    wanted = SHARED | TIMES | ratios("bound") | ratios("full")
    assert wanted | {"trained_weights", "eligible_weights"} < row.keys()
    assert row["bench"] == "step"
    assert row["shapes"] == {"layers": 2, "hidden": 16, "intermediate": 32, "vocabulary": 50}
    assert row["trained_weights"] == int(0.05 * row["eligible_weights"])
    assert rows["full"]["ratio_to_full"] == rows["bound"]["ratio_to_bound"] == 1
    assert rows["lora"]["error"] == "TypeError: no such layer"
    assert not TIMES & rows["lora"].keys()
    assert lines[0] == "step: bound"
    assert json.loads(json.dumps(row)) == row


def test_a_reference_that_fails_ends_it(setting, here, monkeypatch):
    monkeypatch.setitem(contenders._MAKERS, "bound", broken)
    for bench in (step, memory):
        with pytest.raises(TypeError, match="no such layer"):
            list(bench.run(setting, repeats=1, only=["lora"]))


def test_memory(setting, here, monkeypatch):
    monkeypatch.setitem(contenders._MAKERS, "lora", broken)
    monkeypatch.setattr(memory, "measure", partial(with_peak, memory.measure))
    found = memory.run(setting, repeats=2, only=["ours/random", "lora"])
    rows = {row["contender"]: row for row in found}
    assert [*rows] == ["bound", "full", "ours/random", "lora"]
    row = rows["ours/random"]
    assert row.keys() > SHARED
    assert row["peak_bytes_median"] == row["peak_bytes_min"] == row["peak_bytes_max"] == 1500
    assert row["above_bound_bytes"] == 500
    assert row["share_of_full_measured"] == 0.25
    assert row["share_of_full"] == round(500 / 12 / row["eligible_weights"], 4)
    assert row["repeats"] == 2
    assert rows["lora"]["error"] == "TypeError: no such layer"


def test_memory_in_a_process_of_its_own(setting):
    found = process.fresh(memory.measure, "full", setting)
    assert found["peak_bytes"] >= found["start_bytes"] > 0
    assert found["trained_weights"] == found["eligible_weights"]


def test_select(setting, here):
    rows = {(row["part"], row["contender"]): row for row in select.run(setting, repeats=2)}
    assert [*rows] == [
        ("burn_in", "full_without_dropout"),
        ("burn_in", "full"),
        ("burn_in", "ours/signed_sum"),
        ("burn_in", "ours/fisher"),
        ("burn_in", "ours/absolute"),
        ("top_k", "ours"),
        ("top_k", "torch.topk"),
        ("uniform", "ours"),
        ("uniform", "torch.randperm"),
    ]
    for (part, _), row in rows.items():
        expected = (
            ratios("full_without_dropout") | ratios("full") if part == "burn_in" else ratios("ours")
        )
        assert SHARED | TIMES | expected < row.keys()
        assert (part == "burn_in") != ("extra_bytes" in row)


def test_what_is_compared_chooses_the_same():
    torch.manual_seed(0)
    scores = {"a": torch.rand(30, 20), "b": torch.rand(7)}
    contended = select._choices(scores, 0.1)
    ours, theirs = (contended["top_k"][name]() for name in ("ours", "torch.topk"))
    assert torch.equal(torch.cat([ours["a"], ours["b"] + 600]), theirs.values)
    ours, theirs = (contended["uniform"][name]() for name in ("ours", "torch.randperm"))
    assert sum(map(len, ours.values())) == len(theirs.values) == 60


def test_sample(setting):
    rows = {row["contender"]: row for row in sample.run(setting, k=5, repeats=2, peers=True)}
    assert [*rows] == ["ours", "exponential_race", "numpy_choice"]
    assert all(SHARED | TIMES | ratios("ours") | {"k"} < row.keys() for row in rows.values())
    assert [row["repeats"] for row in rows.values()] == [2, 2, 1]
    assert len([*sample.run(setting, k=5, repeats=1)]) == 2
    with pytest.raises(InputError, match="k is 99999; it must be at most"):
        list(sample.run(setting, k=99999, repeats=1))


def test_other_draws_take_distinct_positive_entries():
    weights = {"a": torch.tensor([[0.0, 1.0], [2.0, 0.0]]), "b": torch.tensor([3.0, 0.0])}
    for draw in (sample.exponential_race, sample.numpy_choice):
        assert sorted(np.asarray(draw(weights, 3)).tolist()) == [1, 2, 4]


def test_product(setting):
    found = list(product.run(setting, repeats=2))
    assert {(row["rows"], row["columns"]) for row in found} == {(16, 16), (32, 16), (16, 32)}
    assert {row["contender"] for row in found} == {"whole", "operator"}
    for row in found:
        assert TIMES | ratios("whole") < row.keys()
        assert row["tokens"] == 16
        assert row["taken"] == (
            (row["contender"] == "whole") == (row["share"] >= products.DENSE_FROM)
        )
    assert {row["share"] for row in found} == {*product.SHARES}
    assert len(found) == 3 * 2 * len(product.SHARES)
    assert json.loads(json.dumps(found)) == found
