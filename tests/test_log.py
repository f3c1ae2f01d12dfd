"""The log on disk and, if asked for, on TensorBoard."""

import json
import struct
import sys

import pytest
from support.refusals import refusal
from support.resuming import Kill, Killed, outcome
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.host import log
from jiant_sparse.host.train import train

TRAIN = {"max_steps": 6, "eval_every": 2, "checkpoint_every": 2}


def scalars(directory) -> dict[tuple[str, int], list[float]]:
    """(tag, step) -> values of all event files, as TensorBoard's records have them."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, int], list[float]] = {}
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault((value.tag, event.step), []).append(value.simple_value)
    return found


def test_tensorboard_has_the_log_and_changes_no_result(make_job):
    plain = make_job("cb", "bitfit", {}, TRAIN, "plain")
    boards = make_job("cb", "bitfit", {}, TRAIN, "boards", tensorboard=True)
    train(plain)
    assert not (plain.directory / "tensorboard").exists()
    with pytest.raises(Killed):
        train(boards, Kill("training", 4))
    train(boards)
    assert outcome(plain) == outcome(boards)
    expected = {}
    for line in (boards.directory / log.FILE_NAME).open():
        entry = json.loads(line)
        event, step = entry.pop("event"), entry.pop("step")
        expected |= {(f"{event}/{name}", step): value for name, value in entry.items()}
    found = scalars(boards.directory / "tensorboard")
    assert found.keys() == expected.keys()
    for key, (value, *again) in found.items():
        assert value == pytest.approx(expected[key], rel=1e-6)
        # The steps since the checkpoint were done twice.
        assert again == [value] * (key[1] in (3, 4) and key != ("dev/score", 4))


def test_without_tensorboard(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert "pip install 'jiant-sparse[tensorboard]'" in refusal(log.check_tensorboard)


def test_other_logs():
    arguments = ["grid", "run_configs/quickstart.yaml", "--log", "csv"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "error: --log is csv; it must be tensorboard" in result.output
