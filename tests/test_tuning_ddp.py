"""Two processes under DistributedDataParallel train as one process with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.trainers import METHODS, train

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process and two processes have saved and counted."""
    made = tmp_path_factory.mktemp("processes")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    program = [sys.executable, TESTS / "support" / "trainers.py", made]
    # Without a number of threads accelerate sets one.
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    subprocess.run(program, check=True, env=environment)
    for name in METHODS:
        train(made, name, world=1)
    return made


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_as_one_and_send_what_trains(name, folder):
    one, two = (
        load_file(folder / f"{name}-{n}" / "checkpoint-3" / "delta.safetensors") for n in (1, 2)
    )
    assert one.keys() == two.keys()
    for key, value in one.items():
        # A mean of four is added up in another order than two means of two.
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-6)
    for rank in (0, 1):
        counted = json.loads((folder / f"{rank}.json").read_text())[name]
        assert counted["sent"] == counted["trains"]
        assert counted["buffers"] == 2 * 130  # the base's own position_ids and token_type_ids


def test_processes_that_train_other_entries_are_refused(folder):
    for rank in (0, 1):
        error = json.loads((folder / f"{rank}.json").read_text())["error"]
        assert error.startswith("random: the processes have chosen other entries; give each")
