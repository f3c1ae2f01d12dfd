"""Real workers: chosen by the options, killed, interrupted, raced; and whole grids as processes."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
import pytest
from typer.testing import CliRunner

from jiant_sparse.benchmark import config, grid, lock_file, plan, record, work
from jiant_sparse.benchmark.executors import choose, local
from jiant_sparse.benchmark.executors.choose import Choice
from jiant_sparse.benchmark.executors.local import Local
from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.files import write_text
from jiant_sparse.host import checkpoint

FILES = ("delta.safetensors", "log.jsonl")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"executor": "slurm"}, "--executor is slurm; allowed are local, ray"),
        ({"address": "a:1"}, "--address is of a Ray cluster; it needs --executor ray"),
        ({"executor": "ray", "address": "a:1", "workers": 2}, "--workers: a cluster decides"),
        ({"gpus_per_cell": 0}, "--gpus-per-cell is 0; it must be in (0, 1]"),
        ({"gpus_per_cell": 1.5}, "--gpus-per-cell is 1.5; it must be in (0, 1]"),
        ({"gpus_per_cell": float("nan")}, "--gpus-per-cell is nan; it must be in (0, 1]"),
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
    assert Choice().count([one, three] * 9) == 2
    assert Choice().count([one] * 2) == 2, "no more than there are cells"
    assert Choice(workers=8).count([one] * 9) == 8
    for workers, threads in ((1, 6), (2, 3), (4, 1), (9, 1)):
        found = choose.with_threads([one, three, share], workers)
        assert [job.threads for job in found] == [1, 3, threads]
    jobs, executor = Choice(workers=2).make([share, share, one])
    executor.close()
    assert [job.threads for job in jobs] == [3, 3, 1]


@pytest.mark.parametrize(
    ("workers", "gpus", "visible", "expected"),
    [
        (2, 0, None, [None, None]),
        (1, 2, None, ["0"]),
        (3, 2, None, ["0", "1", "0"]),
        (2, 2, "5, 7", ["5", "7"]),
        (4, 1, "GPU-a", ["GPU-a"] * 4),
        (2, 1, "3,99", ["3", "3"]),
    ],
)
def test_devices_are_given_out_in_turn_and_what_is_visible_stays_so(
    workers, gpus, visible, expected
):
    assert choose.assign(workers, gpus, visible) == expected


def test_no_gpu_has_more_than_its_share():
    shares = (1, 0.7, 0.5, 0.34, 1 / 3, 0.3, 0.25, 0.2, 0.1, 0.05)
    counts = [choose.cells_per_gpu(share) for share in shares]
    assert counts == [1, 1, 2, 2, 3, 3, 4, 5, 10, 20]


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


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _deaf(job, *, retry):
    """A worker in the middle of a cell that hears nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN, "Ctrl-C is the parent's"
    job.directory.mkdir(parents=True)
    write_text(job.directory / "me", f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}")
    time.sleep(600)


def test_a_worker_that_does_not_stop_is_killed_and_what_waits_is_not_begun(make_job, monkeypatch):
    monkeypatch.setattr(local, "work", _deaf)
    monkeypatch.setattr(local, "GRACE", 0.5)
    jobs = [make_job(method=method) for method in ("bitfit", "full_tuning")]
    executor = Local(["7"])
    running, queued = (executor.submit(job, None) for job in jobs)
    me = jobs[0].directory / "me"
    processes.until(me.exists)
    pid, device = map(int, me.read_text().split())
    assert device == 7
    executor.stop()
    assert running.result() == work.Halted("its worker was ended")
    assert queued.cancelled()
    assert not jobs[1].directory.exists()
    processes.until(lambda: not alive(pid), 10)


def test_a_worker_ends_with_its_parent():
    """A grid killed outright leaves nobody computing."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        worker = os.fork()
        if worker == 0:
            local._start(None, os.getppid())
            os.write(writer, str(os.getpid()).encode())
        time.sleep(60)
        os._exit(0)
    worker = int(os.read(reader, 20))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    processes.until(lambda: not alive(worker), 10)


@pytest.fixture
def planned(bert_dir, data_dir, tmp_path):
    """planned(train, methods, folder) -> jobs of one benchmark."""

    def make(train, methods, folder="out"):
        raw = processes.raw_config(bert_dir, data_dir, train, methods)
        return plan.plan(config.parse(raw, "test"), tmp_path / folder)

    return make


def run(jobs, act):
    """The records, by method, of one worker; `act` runs beside."""
    ended = {}

    def notify(job, found):
        ended[job.cell.key.method] = found

    with contextlib.closing(Local([None])) as executor, ThreadPoolExecutor(1) as beside:
        acted = beside.submit(act)
        grid.run(jobs, executor, notify)
        acted.result()
    return ended


def test_a_worker_killed_mid_cell_fails_it_alone_and_a_retry_gives_the_same_bytes(
    planned, tmp_path
):
    methods = {"bitfit": {}, "full_tuning": {}}
    one, two = (planned(processes.LONG, methods, folder) for folder in ("one", "two"))
    assert {work.work(job).status for job in one} == {"ok"}
    cell = two[0].directory

    def kill():
        processes.until(lambda: processes.steps_logged(cell) > 50)
        os.kill(processes.owner_pid(cell), signal.SIGKILL)

    ended = run(two, kill)
    states = {name: found.status for name, found in ended.items()}
    assert states == {"bitfit": "failed", "full_tuning": "ok"}
    assert ended["bitfit"].error == "the worker process died (killed, or out of memory)"
    assert plan.missing(two, retry_failed=True) == two[:1]
    assert work.work(two[0], retry=ended["bitfit"]).status == "ok"
    found = [processes.results(tmp_path / folder, *FILES) for folder in ("one", "two")]
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_two_grids_on_one_directory_run_each_cell_once(bert_dir, data_dir, tmp_path):
    methods = {f"m{i}": {"method": "bitfit"} for i in range(5)}
    raw = processes.raw_config(bert_dir, data_dir, processes.SHORT, methods)
    path = processes.write_config(tmp_path / "f.yaml", raw)
    script = tmp_path / "marking.py"
    script.write_text(
        "import os, time\n"
        "from jiant_sparse.benchmark import work\n"
        "train = work._train\n"
        "def marked(job, *rest):\n"
        "    (job.directory / f'trained-{os.getpid()}').touch(exist_ok=False)\n"
        "    # Until the other is here too: both have a part in it, however late it starts.\n"
        "    while len({mark.name for mark in job.directory.parents[1].rglob('trained-*')}) < 2:\n"
        "        time.sleep(0.05)\n"
        "    return train(job, *rest)\n"
        "work._train = marked\n"
        "if __name__ == '__main__':\n"
        "    from jiant_sparse.cli import main\n"
        "    main()\n"
    )
    with contextlib.ExitStack() as stack:
        grids = [
            stack.enter_context(
                processes.grid(path, tmp_path / "out", "--workers", "1", script=script)
            )
            for _ in range(2)
        ]
        told = [process.communicate(timeout=120) for process in grids]
    assert [process.returncode for process in grids] == [0, 0], told
    for stdout, stderr in told:
        assert stdout == f"{tmp_path / 'out' / 'small'}\n"
        assert "small: 5 cells, " in stderr
        assert "0 failed" in stderr
    cells = [tmp_path / "out" / "small" / "cb" / name / "seed-0" for name in methods]
    marks = [[*cell.glob("trained-*")] for cell in cells]
    assert [len(found) for found in marks] == [1] * 5
    assert len({mark.name for found in marks for mark in found}) == 2
    for cell in cells:
        assert record.read(cell / "record.json").status == "ok"
        assert not lock_file.files(cell)
        assert not (cell / checkpoint.FOLDER).exists()


def test_a_grid_that_was_interrupted_goes_on_to_the_same_bytes(
    bert_dir, data_dir, planned, tmp_path
):
    methods = {"full_tuning": {}, "bitfit": {}}
    raw = processes.raw_config(bert_dir, data_dir, processes.LONG, methods)
    path, out = processes.write_config(tmp_path / "f.yaml", raw), tmp_path / "out"
    cell = out / "small" / "cb" / "full_tuning" / "seed-0"
    with processes.grid(path, out, "--workers", "1") as process:
        processes.until(lambda: processes.steps_logged(cell) > 20)
        worker = processes.owner_pid(cell)
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=15)
    assert (process.returncode, stdout) == (1, "")
    assert stderr == (
        "stopped with 0 of 2 cells ended, 1 have a checkpoint; the same command goes on\n"
    )
    processes.until(lambda: not alive(worker), 10)
    assert lock_file.holder(cell) is None
    assert not [*out.rglob("record.json")]
    assert not [*out.rglob("bitfit/*")], "what was not begun is not"
    done = CliRunner().invoke(app, ["grid", str(path), "--output-dir", str(out), "--workers", "1"])
    assert done.exit_code == 0, done.output
    for job in planned(processes.LONG, methods, "whole"):
        work.work(job)
    found = [processes.results(tmp_path / folder, *FILES) for folder in ("out", "whole")]
    assert found[0] == found[1]
    assert len(found[0]) == 4
