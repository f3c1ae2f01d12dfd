"""The measurements on a tiny model: which rows there are and what they hold; never how fast."""

import json
import tempfile

import numpy as np
import pytest
import torch
from safetensors.torch import save
from support.models import write_shape

from jiant_sparse.bench import (
    contenders,
    delta,
    measure,
    memory,
    process,
    product,
    sample,
    select,
    step,
)
from jiant_sparse.bench.models import Setting
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import products

CPU = torch.device("cpu")
TIMES = {"milliseconds_median", "milliseconds_min", "milliseconds_max", "repeats"}
SHARED = {"bench", "contender", "model", "batch_size", "sequence_length", "shapes", "device"}


@pytest.fixture
def setting(tmp_path) -> Setting:
    return Setting(write_shape(tmp_path), batch_size=2, sequence_length=8, density=0.05)


def broken(model):
    raise TypeError("no such layer")


def ratios(to: str) -> set[str]:
    return {f"ratio_to_{to}{end}" for end in ("", "_min", "_max")}


# Times and memory


def test_contenders_take_turns(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append("|"))
    named = {name: lambda name=name: calls.append(name) for name in "ABC"}
    times = measure.alternate(named, 2, torch.device("cuda"), warmup=1)
    assert "".join(calls) == "|A||B||C|" * 3
    assert [*times] == ["A", "B", "C"]
    assert all(len(rounds) == 2 and min(rounds) >= 0 for rounds in times.values())
    calls.clear()
    measure.alternate(named, 1, warmup=0)
    assert calls == ["A", "B", "C"]


def test_times_are_milliseconds(monkeypatch):
    clock = iter([1.0, 1.25, 5.0, 5.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    assert measure.alternate({"A": int, "B": int}, 1, warmup=0) == {"A": [250.0], "B": [500.0]}


def test_numbers():
    # The machine is twice as slow in the second round; the ratio does not see it.
    rows = measure.numbers({"ours": [1.0, 2.0, 1.50049], "full": [2.0, 4.0, 2.0]}, "full")
    assert rows["ours"] == {
        "milliseconds_median": 1.5, "milliseconds_min": 1.0, "milliseconds_max": 2.0,
        "ratio_to_full": 0.5, "ratio_to_full_min": 0.5, "ratio_to_full_max": 0.75, "repeats": 3,
    }  # fmt: skip


def test_environment(monkeypatch):
    monkeypatch.setattr(measure, "PACKAGES", ("torch", "no-such-package"))
    found = measure.environment(CPU)
    assert (found["threads"], found["device_name"]) == (torch.get_num_threads(), "cpu")
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["no-such-package"] is None


def test_a_fresh_process(setting):
    found = process.fresh(memory.measure, "full", setting)
    assert found["peak_bytes"] >= found["start_bytes"] > 0
    assert found["trained_weights"] == found["eligible_weights"]


def test_the_peak_starts_anew(monkeypatch):
    before = process.restart_peak(CPU)
    torch.ones(1 << 24)
    assert process.peak(CPU) - before > 1 << 25
    assert process.restart_peak(CPU) - before < 1 << 25
    monkeypatch.setattr("jiant_sparse.host.device.peak_bytes", lambda device: None)
    with pytest.raises(OSError, match="does not tell VmHWM"):
        process.peak(CPU)


# Rows


def test_step(setting):
    lines = []
    found = step.run(setting, repeats=2, only=["ours/random"], notify=lines.append)
    rows = {row["contender"]: row for row in found}
    assert [*rows] == ["bound", "full", "ours/random"]
    row = rows["ours/random"]
    wanted = SHARED | TIMES | ratios("bound") | ratios("full")
    assert wanted | {"trained_weights", "eligible_weights"} < row.keys()
    assert row["bench"] == "step"
    assert row["shapes"] == {"layers": 2, "hidden": 16, "intermediate": 32, "vocabulary": 50}
    assert row["trained_weights"] == int(0.05 * row["eligible_weights"])
    assert rows["full"]["ratio_to_full"] == rows["bound"]["ratio_to_bound"] == 1
    assert lines[0] == "step: bound"
    assert json.loads(json.dumps(row)) == row


def test_a_reference_that_fails_ends_it(setting, one_process, monkeypatch):
    monkeypatch.setitem(contenders._MAKERS, "bound", broken)
    for bench in (step, memory):
        with pytest.raises(TypeError, match="no such layer"):
            list(bench.run(setting, repeats=1, only=["lora"]))


def test_memory(setting, one_process, monkeypatch):
    monkeypatch.setitem(contenders._MAKERS, "lora", broken)
    real = memory.measure

    def with_known_peak(name, setting):
        peak = {"bound": 1000, "full": 3000, "ours/random": 1500, "lora": None}[name]
        return real(name, setting) | {"peak_bytes": peak}

    monkeypatch.setattr(memory, "measure", with_known_peak)
    found = memory.run(setting, repeats=2, only=["ours/random", "lora"])
    rows = {row["contender"]: row for row in found}
    assert [*rows] == ["bound", "full", "ours/random", "lora"]
    row = rows["ours/random"]
    assert row.keys() > SHARED
    assert row["peak_bytes_median"] == row["peak_bytes_min"] == row["peak_bytes_max"] == 1500
    assert (row["start_bytes"], row["attach_extra_bytes"]) == (5, 2)
    assert row["above_bound_bytes"] == 500
    assert row["share_of_full_measured"] == 0.25
    assert row["share_of_full"] == round(500 / 12 / row["eligible_weights"], 4)
    assert row["repeats"] == 2
    assert rows["lora"]["error"] == "TypeError: no such layer"


def test_select(setting, one_process):
    rows = {(row["part"], row["contender"]): row for row in select.run(setting, repeats=2)}
    assert [*rows] == [
        *(("burn_in", name) for name in ("full_without_dropout", "full", "ours/signed_sum")),
        *(("burn_in", name) for name in ("ours/fisher", "ours/absolute")),
        *(("top_k", name) for name in ("ours", "torch.topk")),
        *(("uniform", name) for name in ("ours", "torch.randperm")),
    ]
    for (part, _), row in rows.items():
        both = ratios("full_without_dropout") | ratios("full")
        assert SHARED | TIMES | (both if part == "burn_in" else ratios("ours")) < row.keys()
        assert row.get("extra_bytes") == (None if part == "burn_in" else 2)


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
        whole = row["share"] >= products.DENSE_FROM
        assert row["taken"] == ((row["contender"] == "whole") == whole)
    assert {row["share"] for row in found} == {*product.SHARES}
    assert len(found) == 3 * 2 * len(product.SHARES)
    assert json.loads(json.dumps(found)) == found


def test_delta(bert_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = {row["contender"]: row for row in delta.run(bert_dir, density=0.5, repeats=3)}
    assert list(tmp_path.iterdir()) == [], "files go away"
    assert list(rows) == [
        "save", "save_bfloat16", "save_float16", "checkpoint_save",
        "load", "apply", "load_and_apply", "checkpoint_load",
    ]  # fmt: skip
    base = delta._weights(bert_dir)
    weights = sum(weight.numel() for weight in base.values())
    size = {name: row["bytes"] for name, row in rows.items()}
    for row in rows.values():
        assert TIMES | {"bench", "contender"} < row.keys()
        assert (row["tensors"], row["weights"], row["density"]) == (len(base), weights, 0.5)
        assert (row["changed"], row["repeats"]) == (weights // 2, 3)
        # A bit for each position, and what is left over in each tensor's last byte.
        assert 0.2 < row["index_bytes_per_entry"] < 0.3
        ratio = row["bytes"] / size["checkpoint_save"]
        assert row["ratio_to_checkpoint"] == pytest.approx(ratio, abs=1e-6)
    assert size["checkpoint_save"] == size["checkpoint_load"] == len(save(base))
    assert size["save"] == size["load"] == size["apply"] == size["load_and_apply"]
    # Half the values' bytes go; the header grows by a line for each rounded tensor.
    for name in ("save_bfloat16", "save_float16"):
        half = 2 * rows["save"]["changed"]
        assert size["save"] - size[name] == pytest.approx(half, abs=100 * len(base))


def test_delta_refuses_bad_input(bert_dir, tmp_path):
    with pytest.raises(InputError, match=r"^density is 2; it must be in \(0, 1\]$"):
        list(delta.run(bert_dir, density=2, repeats=1))
    with pytest.raises(InputError, match="config.json: cannot be read: No such file"):
        list(delta.run(tmp_path, density=0.1, repeats=1))
