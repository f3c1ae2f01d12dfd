"""Real workers: chosen by the options, killed, interrupted, raced; and whole grids as processes."""

import contextlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
from support import processes
from support.cells import jobs_of, raw_config
from support.processes import LONG, METHODS, SHORT

from jiant_sparse.errors import InputError
from jiant_sparse.grid import grid, lock_file, plan
from jiant_sparse.grid import worker as work
from jiant_sparse.grid.executors import choose, local
from jiant_sparse.grid.executors.choose import Choice
from jiant_sparse.grid.executors.local import Local
from jiant_sparse.grid.executors.process import Worker
from jiant_sparse.host import checkpoint
from jiant_sparse.schema import record


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"executor": "slurm"}, "--executor is slurm; allowed are local, ray"),
        ({"address": "a:1"}, "--address is of a Ray cluster; it needs --executor ray"),
        ({"executor": "ray", "address": "a:1", "workers": 2}, "--workers: a cluster decides"),
        ({"gpus_per_cell": 0}, "--gpus-per-cell is 0; it must be in (0, 1]"),
        ({"gpus_per_cell": 1.5}, "--gpus-per-cell is 1.5; it must be in (0, 1]"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, told):
    with pytest.raises(InputError) as caught:
        Choice(**options).check()
    (problem,) = caught.value.problems
    assert problem.startswith(told)


def test_workers_share_the_cores_where_threads_is_null(make_job, monkeypatch):
    monkeypatch.setattr(choose, "available_cores", lambda: 6)
    one, three, share = (make_job(threads=threads) for threads in (1, 3, None))
    assert Choice().count([one] * 9) == 6
    assert Choice().count([three] * 9) == 2
    assert Choice().count([one] * 2) == 2, "no more than there are cells"
    assert Choice(workers=8).count([one] * 9) == 8
    for workers, threads in ((1, 6), (4, 1), (9, 1)):
        assert [job.threads for job in choose.with_threads([share] * 2, workers)] == [threads] * 2
        assert choose.with_threads([three], workers) == [three]
    jobs, executor = Choice(workers=2).make([share] * 3)
    executor.close()
    assert [job.threads for job in jobs] == [3] * 3


def test_devices_are_given_out_in_turn():
    assert choose.assign(2, 0, None) == [None, None]
    assert choose.assign(3, 2, None) == ["0", "1", "0"]
    assert choose.assign(2, 2, "5, 7") == ["5", "7"]
    assert choose.assign(2, 1, "GPU-a,99") == ["GPU-a"] * 2
    shares = (1, 0.7, 0.5, 0.34, 1 / 3, 0.3, 0.25, 0.2, 0.1, 0.05)
    counts = [choose.cells_per_gpu(share) for share in shares]
    assert counts == [1, 1, 2, 2, 3, 3, 4, 5, 10, 20], "no GPU has more than its share"


def test_gpus_hold_so_many_cells(make_job, monkeypatch):
    jobs = [make_job()] * 9
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="--gpus-per-cell 0.25: torch sees no CUDA device"):
        Choice(gpus_per_cell=0.25).make(jobs)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert Choice().count(jobs) == 2
    assert Choice(gpus_per_cell=0.25).count(jobs) == 8
    assert Choice(gpus_per_cell=0.25, workers=3).count(jobs) == 3
    with pytest.raises(InputError, match="--workers is 3; 2 GPUs hold 2 cells with --gpus-per-c"):
        Choice(workers=3).make(jobs)
    on_cpu = [make_job(device="cpu", threads=1)] * 9
    monkeypatch.setattr(choose, "available_cores", lambda: 4)
    assert Choice().count(on_cpu) == 4
    with pytest.raises(InputError, match="--gpus-per-cell 0.5: device is cpu"):
        Choice(gpus_per_cell=0.5).make(on_cpu)


def test_worker_ignores_ctrl_c_at_once(monkeypatch):
    worker = Worker(None)
    try:
        lines = Path(f"/proc/{worker.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        refused = int(status["SigBlk"], 16) | int(status["SigIgn"], 16)
        assert refused & 1 << signal.SIGINT - 1
        assert worker.call(partial(processes.pid, None, retry=None)) == (worker.process.pid, True)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        worker.end()
    assert not processes.alive(worker.process.pid)
    monkeypatch.setattr(os, "kill", lambda pid, number: pytest.fail("its pid may be another's"))
    worker.send(signal.SIGTERM)


def test_a_worker_that_dies_between_two_cells_is_replaced(monkeypatch):
    monkeypatch.setattr(local, "work", processes.pid)
    with contextlib.closing(Local([None])) as executor:
        first, _ = executor.submit(None, None).result()
        assert executor.submit(None, None).result() == (first, True), "it is used again"
        os.kill(first, signal.SIGKILL)
        processes.until(lambda: not processes.alive(first), 10)
        second, _ = executor.submit(None, None).result()
    assert second != first
    assert not processes.alive(second)


def test_deaf_worker_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "work", processes.deaf)
    monkeypatch.setattr(local, "GRACE", 0.5)
    executor = Local(["7"])
    running, queued = (executor.submit(tmp_path / name, None) for name in ("one", "two"))
    processes.until((tmp_path / "one" / "me").exists)
    pid, device = map(int, (tmp_path / "one" / "me").read_text().split())
    assert device == 7
    executor.stop()
    assert running.result() == work.Halted("its worker was ended")
    assert queued.cancelled()
    assert (tmp_path / "one" / "asked").exists()
    assert not (tmp_path / "two").exists()
    assert not processes.alive(pid)


def test_nothing_is_begun_once_the_executor_stops(tmp_path, monkeypatch):
    """One that waited for its turn just then, with a worker still to be started."""
    monkeypatch.setattr(local, "work", processes.deaf)
    executor = Local([None])
    with executor._mutex:
        future = executor.submit(tmp_path / "one", None)
        processes.until(future.running, 10)
        executor._stopping = True
    assert future.result() == work.Halted("it was not started")
    executor.close()
    assert executor._slots[0].worker is None


@pytest.fixture
def planned(bert_dir, data_dir, tmp_path):
    """planned(train, methods) -> jobs of one benchmark."""
    return lambda train, methods: jobs_of(
        raw_config(bert_dir, data_dir, train, methods), tmp_path / "out"
    )


def run(jobs, act=lambda: None):
    """The records, by method, of one worker; `act` runs beside."""
    ended = {}

    def notify(job, found):
        ended[job.cell.key.method] = found

    with contextlib.closing(Local([None])) as executor, ThreadPoolExecutor(1) as beside:
        acted = beside.submit(act)
        grid.run(jobs, executor, notify)
        acted.result()
    return ended


def test_killed_worker_then_retry_same_bytes(planned, whole, tmp_path):
    jobs = planned(LONG, METHODS)
    cell = jobs[1].directory

    def kill():
        processes.until(lambda: processes.steps_logged(cell) > 10)
        os.kill(processes.owner_pid(cell), signal.SIGKILL)

    ended = run(jobs, kill)
    states = {name: found.status for name, found in ended.items()}
    assert states == {"full_tuning": "ok", "bitfit": "failed"}
    failed = ended["bitfit"]
    assert failed.error == "the worker process died (killed, or out of memory)"
    assert plan.missing(jobs, retry_failed=True) == jobs[1:]
    assert work.work(jobs[1], retry=failed).status == "ok"
    assert processes.results(tmp_path / "out") == whole
    assert len(whole) == 4


def marked(job, *, retry):
    """`work`, with a mark in the directory of each cell that is trained, by this process."""
    really = work._Attempt.train

    def train(self, held):
        (job.directory / f"trained-{os.getpid()}").touch(exist_ok=False)
        # Until the other is here too: both have a part in it, however late it starts.
        marks = job.directory.parents[1]
        processes.until(lambda: len({mark.name for mark in marks.rglob("trained-*")}) > 1)
        return really(self, held)

    with mock.patch.object(work._Attempt, "train", train):
        return work.work(job, retry=retry)


def test_two_grids_on_one_directory_run_each_cell_once(planned, monkeypatch):
    monkeypatch.setattr(local, "work", marked)
    monkeypatch.setattr(grid, "LOOK_SECONDS", 0.1)
    jobs = planned(SHORT, {f"m{i}": {"method": "bitfit"} for i in range(4)})
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(run, jobs)
        ended = [run(jobs), other.result()]
    assert {name: found.error for name, found in ended[0].items()} == {
        f"m{i}": None for i in range(4)
    }
    assert ended[0] == ended[1]
    marks = [[*job.directory.glob("trained-*")] for job in jobs]
    assert [len(found) for found in marks] == [1] * 4
    assert len({mark.name for found in marks for mark in found}) == 2
    for job in jobs:
        assert not lock_file.files(job.directory)
        assert not checkpoint.exists(job.directory)


@pytest.fixture
def started(bert_dir, data_dir, tmp_path):
    """started(script) -> a grid of its own process, each on the same directory."""
    raw = raw_config(bert_dir, data_dir, LONG, METHODS)
    path = processes.write_config(tmp_path / "f.yaml", raw)
    return lambda script=None: processes.grid(
        path, tmp_path / "out", "--workers", "1", script=script
    )


def interrupt(process):
    """What Ctrl-C does: all of the group hears it."""
    os.killpg(process.pid, signal.SIGINT)


def test_stopped_or_killed_grid_resumes_same_bytes(started, planned, whole, tmp_path, monkeypatch):
    out = tmp_path / "out"
    cell, later = (out / "small" / "cb" / name / "seed-0" for name in METHODS)
    with started() as process:
        processes.until(lambda: processes.steps_logged(cell) > 10)
        worker = processes.owner_pid(cell)
        interrupt(process)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert "stopped with 0 of 2 cells ended, 1 have a checkpoint; the same command g" in stderr
    assert not processes.alive(worker)
    assert lock_file.holder(cell) is None
    assert not [*out.rglob("record.json")]
    assert not later.exists(), "what was not begun is not"

    with started() as process:
        processes.until(lambda: processes.steps_logged(later) > 10)
        worker = processes.owner_pid(later)
        process.kill()
        process.wait()
        processes.until(lambda: not processes.alive(worker), 10)
    assert lock_file.holder(later) is None
    assert record.read(cell / "record.json").status == "ok"

    for job in planned(LONG, METHODS):
        assert work.work(job).status == "ok"
    assert processes.results(out) == whole


def test_ctrl_c_twice_while_a_worker_starts(started, tmp_path):
    script, place = tmp_path / "slow.py", tmp_path / "worker"
    script.write_text(
        "from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    from jiant_sparse.grid.executors import local\n"
        "    from jiant_sparse.cli import main\n"
        "    local.GRACE = 600\n"
        "    main()\n"
        "else:  # in the worker, before anything of ours is\n"
        "    from support import processes\n"
        "    processes.deaf(Path(__file__).parent / 'worker', retry=None)\n"
    )
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=""), started(script) as process:
        processes.until((place / "me").exists)
        worker = int((place / "me").read_text().split()[0])
        interrupt(process)
        processes.until((place / "asked").exists)
        assert process.poll() is None
        assert processes.alive(worker), "Ctrl-C is nothing to it"
        interrupt(process)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (1, "")
    assert stderr.splitlines() == [
        "time: not measured",
        "disk: not measured",
        "2 cells, 2 to run, 1 at a time",
        "stopped with 0 of 2 cells ended, 0 have a checkpoint; the same command goes on",
    ], "no worker complains"
    assert not processes.alive(worker)
