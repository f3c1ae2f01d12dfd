"""`jiant-sparse bench` as a user meets it."""

import json

import pytest
import torch
from support.models import write_shape
from typer.testing import CliRunner

from jiant_sparse.bench import contenders, delta, padding
from jiant_sparse.cli import app

PEFT = ("peft/super_tuning", "peft/shira")


@pytest.fixture
def bench(tmp_path, monkeypatch, one_process):
    monkeypatch.setattr(contenders, "absent", lambda: PEFT)
    small = ["--model-config", write_shape(tmp_path), "--batch-size", 2, "--sequence-length", 8]

    def call(command, *arguments):
        arguments = [*small, "--repeats", 1, *arguments]
        return CliRunner().invoke(app, ["bench", command, *map(str, arguments)])

    return call


def rows(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_line_stands_alone(bench, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    done = bench("step", "--density", 0.05, "--threads", 2)
    assert done.exit_code == 0, done.output
    here = [name for name in contenders.names() if name not in PEFT]
    assert [row["contender"] for row in rows(done)] == here
    assert asked == [2]
    for row in rows(done):
        assert row["threads"] == torch.get_num_threads()
        assert row["device"] == row["device_name"] == "cpu"
        assert row["versions"]["torch"] == torch.__version__
    assert done.stderr.splitlines()[0] == (
        "left out: peft/super_tuning, peft/shira; to have them: pip install 'peft>=0.21'"
    )
    assert "step: ours/random" in done.stderr


def test_a_contender_that_fails_is_a_row_and_exit_code_1(bench, monkeypatch):
    def broken(model):
        raise TypeError("no such layer")

    monkeypatch.setitem(contenders._MAKERS, "lora", broken)
    done = bench("step", "--only", "lora")
    assert done.exit_code == 1
    last = rows(done)[-1]
    assert (last["contender"], last["error"]) == ("lora", "TypeError: no such layer")
    assert "milliseconds_median" not in last


def test_delta_and_padding_get_what_was_asked(bench, tmp_path, monkeypatch):
    asked = []

    def take(*arguments, **options):
        asked.append((arguments, options))
        return [{"bench": "fake"}]

    monkeypatch.setattr(delta, "run", take)
    monkeypatch.setattr(padding, "run", take)
    path = str(tmp_path)
    for model, command in (
        (path, ["delta", "--model-config", path, "--density", "0.1", "--repeats", "2"]),
        ("m", ["padding", "--data-dir", path, "--model", "m", "--tasks", "cb, rte"]),
    ):
        done = CliRunner().invoke(app, ["bench", *command])
        assert done.exit_code == 0, done.output
        assert [(row["bench"], row["model"]) for row in rows(done)] == [("fake", model)]
    sizes = {"batch_size": 16, "max_seq_length": 256, "window": padding.WINDOW, "epochs": 1}
    assert asked == [
        ((tmp_path,), {"density": 0.1, "repeats": 2}),
        ((tmp_path, "m"), {"tasks": ["cb", "rte"]} | sizes),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["step", "--model-config", "nowhere"], "error: model-config is 'nowhere'; it must be one"),
        (["memory", "--density", 1e-9, "--only", "ours/random"], "error: the fraction to tune is "),
        (["step", "--only", "lorra"], "error: contender 'lorra' is unknown; did you mean lora"),
        (["select", "--device", "tpu"], "error: device is 'tpu'; it must be one of auto, cpu"),
        (["sample", "--repeats", "0"], "Invalid value for '--repeats'"),
        (["sample", "--density", "0.1"], "No such option: --density"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_2(bench, arguments, expected):
    done = bench(*arguments)
    assert done.exit_code == 2, done.output
    assert expected in done.stderr
    assert not done.stdout
