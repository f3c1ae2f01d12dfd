"""What the benchmark of deltas reports of a tiny model; no time is asserted."""

import tempfile

import pytest
from safetensors.torch import save

from jiant_sparse.bench import delta as module
from jiant_sparse.errors import InputError

CONTENDERS = [
    "save", "save_bfloat16", "save_float16", "checkpoint_save",
    "load", "apply", "load_and_apply", "checkpoint_load",
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(bert_dir):
    return {row["contender"]: row for row in module.run(bert_dir, density=0.5, repeats=3)}


def test_one_row_for_each_contender_with_all_that_a_reader_needs(rows):
    assert list(rows) == CONTENDERS
    for row in rows.values():
        assert list(row) == [
            "bench", "contender", "tensors", "weights", "density", "changed",
            "index_bytes_per_entry", "milliseconds_median", "milliseconds_min", "milliseconds_max",
            "bytes", "ratio_to_checkpoint", "repeats",
        ]  # fmt: skip
        assert (row["bench"], row["density"], row["repeats"]) == ("delta", 0.5, 3)
        least, median, most = (row[f"milliseconds_{key}"] for key in ("min", "median", "max"))
        assert 0 < least <= median <= most


def test_bytes_are_those_of_the_files(rows, bert_dir):
    base = module._weights(bert_dir)
    weights = sum(weight.numel() for weight in base.values())
    size = {name: row["bytes"] for name, row in rows.items()}
    assert size["checkpoint_save"] == size["checkpoint_load"] == len(save(base))
    assert size["save"] == size["load"] == size["apply"] == size["load_and_apply"]
    for row in rows.values():
        assert (row["tensors"], row["weights"]) == (len(base), weights)
        assert row["changed"] == weights // 2
        # A bit for each position, and what is left over in each tensor's last byte.
        assert 0.2 < row["index_bytes_per_entry"] < 0.3
        ratio = row["bytes"] / size["checkpoint_save"]
        assert row["ratio_to_checkpoint"] == pytest.approx(ratio, abs=1e-6)
    values = 4 * rows["save"]["changed"]
    # Half the values' bytes go; the header grows by a line for each rounded tensor.
    for name in ("save_bfloat16", "save_float16"):
        assert size["save"] - size[name] == pytest.approx(values / 2, abs=100 * len(base))
        assert size[name] < size["save"]


def test_files_go_away(bert_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = []
    monkeypatch.setattr(module.measure, "alternate", lambda calls, repeats: made.extend(
        call() and sorted(path.name for path in tmp_path.glob("*/*")) for call in calls.values()
    ) or {name: [1.0] for name in calls})  # fmt: skip
    assert len(list(module.run(bert_dir, density=0.02, repeats=1))) == len(CONTENDERS)
    files = ["bfloat16", "delta", "float16", "model"]
    assert made[-1] == [f"{name}.safetensors" for name in files]
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_refused(bert_dir, tmp_path):
    with pytest.raises(InputError, match=r"^density is 2; it must be in \(0, 1\]$"):
        list(module.run(bert_dir, density=2, repeats=1))
    with pytest.raises(InputError, match="config.json: cannot be read: No such file"):
        list(module.run(tmp_path, density=0.1, repeats=1))
