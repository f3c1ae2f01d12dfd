"""A real Ray on this machine: killed workers, cancelled tasks, a cluster joined; local's bytes."""

import contextlib
import os
import signal
import socket
import sys
import threading
from pathlib import Path

import pytest
from support import processes
from support.cells import jobs_of, raw_config
from support.processes import LONG, METHODS, SHORT

from jiant_sparse.errors import InputError
from jiant_sparse.grid import grid, lock_file
from jiant_sparse.grid.executors import Died
from jiant_sparse.grid.executors.choose import Choice

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def executor():
    """Two workers, started once."""
    from jiant_sparse.grid.executors.ray import Ray

    before = signal.getsignal(signal.SIGTERM)
    with contextlib.closing(Ray(None, cpus=2, threads=1, gpus_per_cell=None)) as started:
        assert signal.getsignal(signal.SIGTERM) == before
        yield started
    assert not ray.is_initialized()


@pytest.fixture
def planned(bert_dir, data_dir, tmp_path, monkeypatch):
    """planned(train, methods) -> jobs; their folder is relative, as a user gives it."""
    monkeypatch.chdir(tmp_path)
    return lambda train=LONG, methods=METHODS: jobs_of(
        raw_config(bert_dir, data_dir, train, methods), Path("out")
    )


def test_killed_ray_worker_same_bytes_as_local(executor, planned, whole):
    jobs = planned()
    killed = []

    def kill():
        processes.until(lambda: processes.steps_logged(jobs[0].directory) > 15)
        killed.append(processes.owner_pid(jobs[0].directory))
        os.kill(killed[0], signal.SIGKILL)

    beside = threading.Thread(target=kill)
    beside.start()
    ended = []
    grid.run(jobs, executor, lambda job, found: ended.append(found))
    beside.join()
    assert killed
    assert sorted((found.cell.method, found.status) for found in ended) == [
        ("bitfit", "ok"), ("full_tuning", "ok"),
    ]  # fmt: skip
    assert processes.results(Path("out")) == whole
    assert len(whole) == 4
    assert not any(lock_file.files(job.directory) for job in jobs)


def test_a_cluster_is_joined_by_its_address_and_stays(
    executor, planned, tmp_path, bert_dir, data_dir
):
    raw = raw_config(bert_dir, data_dir, SHORT, {"bitfit": {}})
    path = processes.write_config(tmp_path / "f.yaml", raw)
    address = ray.get_runtime_context().gcs_address
    options = ("--executor", "ray", "--address", address)
    with processes.grid(path, tmp_path / "joined", *options) as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout == f"{tmp_path / 'joined' / 'small'}\n"
    assert "[1/1] cb/bitfit/seed-0: acc test " in stderr
    assert "small: 1 cells, 0 ended before, 1 ended now, 0 failed\n" in stderr
    assert ray.cluster_resources()["CPU"] == 2


def test_stopped_task_writes_its_checkpoint(executor, planned):
    jobs = planned(LONG | {"max_steps": 100_000}, METHODS | {"random": {}})
    futures = [executor.submit(job, None) for job in jobs]
    for job in jobs[:2]:
        processes.until(lambda cell=job.directory: processes.steps_logged(cell) > 5)
    executor.stop()
    reasons = [future.result().reason for future in futures]
    assert all("stopped by SIGINT; it goes on from step " in reason for reason in reasons[:2])
    assert reasons[2] == "it was not started, or stopped while it was"
    assert [job.directory.exists() for job in jobs] == [True, True, False]
    assert not any(lock_file.holder(job.directory) for job in jobs)


def test_a_cell_whose_workers_all_die_is_a_death(executor, planned, monkeypatch):
    def die(job, *, retry):
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(job, *, retry):
        raise KeyError("unheard of")

    job = planned()[0]
    monkeypatch.setattr("jiant_sparse.grid.executors.ray.RETRIES", 0)
    for does, error, told in (
        (die, Died, "its worker died again and again .Ray retries 0 times.: WorkerCrashedError: "),
        (fail, KeyError, "unheard of"),
    ):
        monkeypatch.setattr(executor, "_task", ray.remote(does))
        with pytest.raises(error, match=told):
            executor.submit(job, None).result()


def test_what_is_no_death_of_a_worker_is_not_called_one(executor):
    from ray import exceptions

    from jiant_sparse.grid.executors.ray import _told

    assert _told(exceptions.OutOfMemoryError("95 % used")) == (
        "its worker died again and again (Ray retries 3 times): OutOfMemoryError: 95 % used"
    )
    assert _told(exceptions.RuntimeEnvSetupError("no\nconda")).startswith(
        "Ray could not run it: RuntimeEnvSetupError: "
    )
    assert os.environ.get("RAY_task_oom_retries", "") == "3"  # noqa: SIM112


def test_a_cluster_that_does_not_start_here_has_no_address(executor, make_job):
    # One is there already.
    with pytest.raises(InputError, match="--executor ray: it cannot be started here: "):
        Choice("ray").make([make_job()])


def test_a_cell_that_no_node_can_hold_is_refused(executor):
    from jiant_sparse.grid.executors.ray import _gpus

    assert _gpus(None, 2) == 0
    for wanted, threads, what in ((None, 3, "3 CPUs and 0 GPUs"), (0.5, 1, "1 CPUs and 0.5 GPUs")):
        with pytest.raises(InputError) as caught:
            _gpus(wanted, threads)
        assert str(caught.value) == (
            f"a cell takes {what}, which no node of the Ray cluster has; the nodes have: "
            "2 CPUs, 0 GPUs"
        )


def test_a_cluster_that_is_not_there_is_bad_input(make_job):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(InputError, match=f"--address {address}: no cluster there: "):
            Choice("ray", address).make([make_job()])
    with pytest.raises(InputError, match="--address ray://a:1: must be host:port of the cluster's"):
        Choice("ray", "ray://a:1").make([make_job()])
    with pytest.raises(InputError, match="threads: null divides this machine's cores"):
        Choice("ray", address).make([make_job(threads=None)])


def test_without_ray(make_job, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "jiant_sparse.grid.executors.ray", raising=False)
    with pytest.raises(InputError) as caught:
        Choice("ray").make([make_job()])
    assert str(caught.value) == (
        "--executor ray: Ray is not installed; pip install 'jiant-sparse[ray]'"
    )
