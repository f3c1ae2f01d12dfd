"""One cell under its lock: what a worker makes of a result, a failure, a signal, another owner."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support.cells import train_at_once

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.grid import lock, lock_file
from jiant_sparse.grid import worker as work
from jiant_sparse.host import checkpoint, sealed, train
from jiant_sparse.schema import record
from jiant_sparse.schema.control import Control, Stopped


@pytest.fixture
def trained(monkeypatch):
    """How often a cell was trained."""
    calls, really = [], train.train

    def count(job, control, *, verbose=False):
        calls.append(job)
        return really(job, control, verbose=verbose)

    monkeypatch.setattr(train, "train", count)
    return calls


@pytest.fixture
def at_once(monkeypatch):
    """Cells have a good record at once."""
    monkeypatch.setattr(train, "train", train_at_once)


def stub(monkeypatch, act):
    monkeypatch.setattr(train, "train", lambda job, control, *, verbose=False: act(job, control))


def fails_with(monkeypatch, error):
    def act(job, control):
        raise error

    stub(monkeypatch, act)


def on_disk(job) -> record.Record:
    return record.read(job.directory / "record.json")


def test_a_good_cell_leaves_its_result_and_nothing_else(make_job, trained):
    job = make_job(train={"checkpoint_every": 1})
    result = work.work(job)
    assert result.status == "ok"
    assert on_disk(job) == result
    left = {path.name for path in job.directory.iterdir()}
    assert left == {"record.json", "delta.safetensors", "log.jsonl", "jiant"}
    assert work.work(job) == work.work(job, retry=result.model_copy(update={"status": "failed"}))
    assert len(trained) == 1, "a cell that is done is not run again"


def test_only_the_failed_record_that_is_to_be_retried_is(make_job, at_once, monkeypatch):
    job = make_job()
    with monkeypatch.context() as patch:
        fails_with(patch, NotFinite("at step 1"))
        failed = work.work(job)
    assert failed.error == "NotFinite: at step 1"
    assert work.work(job) == failed
    assert work.work(job, retry=failed.model_copy(update={"error": "an older one"})) == failed
    assert work.work(job, retry=failed).status == "ok"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFinite("the training loss is nan at step 3"), "NotFinite: the training loss is nan"),
        (FileNotFoundError(2, "No such file", "a/train.jsonl"), "FileNotFoundError: [Errno 2] No "),
        (OSError(28, "No space left on device", "d"), "OSError: [Errno 28] No space left on"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried 2 GiB"), "out of memory: OutOfMemory"),
        (MemoryError(), "out of memory: MemoryError"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: RuntimeError"),
        (InputError("a: is wrong", "b: is too"), "a: is wrong\nb: is too"),
    ],
)
def test_what_can_be_expected_is_told_without_a_traceback(make_job, monkeypatch, error, told):
    fails_with(monkeypatch, error)
    job = make_job()
    failed = work.work(job)
    assert failed == on_disk(job)
    assert failed.error.startswith(told)
    assert "Traceback" not in failed.error
    assert ("; run fewer cells at once (--workers" in failed.error) == ("out of memory" in told)
    assert lock_file.holder(job.directory) is None


def test_what_cannot_be_expected_comes_with_its_traceback(make_job, monkeypatch):
    fails_with(monkeypatch, KeyError("x"))
    failed = work.work(make_job())
    assert failed.error.startswith("KeyError: 'x'\nTraceback")
    assert "in act" in failed.error


def test_bad_input_is_raised_to_a_user_who_waits(make_job, monkeypatch):
    fails_with(monkeypatch, InputError("a: is wrong"))
    job = make_job()
    with pytest.raises(InputError, match="a: is wrong"):
        work.work_here(job)
    assert not (job.directory / "record.json").exists()
    assert lock_file.holder(job.directory) is None


def test_a_failed_record_that_cannot_be_written_says_so(make_job, monkeypatch):
    def full(self, directory):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record.Record, "write", full)
    fails_with(monkeypatch, KeyError("x"))
    first, *rest = work.work(make_job()).error.splitlines()
    assert (
        first == "KeyError: 'x'; its record cannot be written: [Errno 28] No space left on device"
    )
    assert rest[0].startswith("Traceback")


def test_unmakeable_directory_fails_or_raises(make_job):
    job = make_job()
    job.directory.parent.parent.mkdir(parents=True)
    job.directory.parent.touch()
    assert "Error: [Errno 20] Not a directory" in work.work(job).error
    with pytest.raises(NotADirectoryError):
        work.work_here(job)
    assert "gone; " in work.record_death(job, "gone").error


def test_foreign_record_is_named_and_kept(make_job, monkeypatch):
    train_at_once(make_job(train={"weight_decay": 0.5}))
    job = make_job()
    path = job.directory / "record.json"
    stub(monkeypatch, lambda job, control: pytest.fail("it was trained"))
    for text, told in (
        (path.read_text(), "train.weight_decay was 0.5, is 0.01"),
        ("{", "record.json: "),
    ):
        path.write_text(text)
        assert told in work.work(job).error
        assert path.read_text() == text


def test_a_cell_that_another_runs_is_left_alone(make_job, trained):
    job = make_job()
    with lock.acquire(job.directory, Control()):
        for outcome in (work.work(job), work.record_death(job, "gone")):
            assert isinstance(outcome, work.Waiting)
            assert f":{os.getpid()} (since " in outcome.owner
        work.tidy(job)
    assert not trained
    assert not (job.directory / "record.json").exists()


@pytest.mark.parametrize("end", [Stopped("lost"), KeyError("torn away"), None])
def test_lost_lock_writes_nothing(make_job, monkeypatch, end):
    job = make_job()

    def act(job, control):
        control.confirm()
        (job.directory / "lock-000001.json").touch()
        if end:
            raise end
        with pytest.raises(lock.Lost):
            control.confirm()
        control.check()
        raise AssertionError("went on")

    stub(monkeypatch, act)
    outcome = work.work(job)
    assert isinstance(outcome, work.Waiting)
    assert "the lock was taken over by another owner" in outcome.owner
    assert not (job.directory / "record.json").exists()


def test_failure_keeps_a_good_record(make_job, monkeypatch):
    job, theirs = make_job(), []

    def act(job, control):
        theirs.append(train_at_once(job))
        raise KeyError("late")

    stub(monkeypatch, act)
    assert work.work(job) == theirs[0] == on_disk(job)
    assert on_disk(job).status == "ok"


def test_who_lost_the_lock_removes_no_checkpoints(make_job, monkeypatch):
    job = make_job()

    def act(job, control):
        result = train_at_once(job)
        sealed.write(job.directory / checkpoint.FOLDER, "step-000000001", {}, {})
        (job.directory / "lock-000001.json").touch()
        return result

    stub(monkeypatch, act)
    assert isinstance(work.work(job), work.Waiting)
    assert checkpoint.exists(job.directory)


def test_signal_then_resume_same_bytes(make_job, monkeypatch):
    whole, job = make_job(output="whole"), make_job()
    work.work(whole)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    really = train.train

    for number, at in ((signal.SIGTERM, 2), (signal.SIGINT, 3)):

        def interrupted(job, control, *, verbose=False, number=number, at=at):
            tell = control.tell

            def interrupt(phase, step=0, *rest):
                tell(phase, step, *rest)
                if step == at:
                    os.kill(os.getpid(), number)

            control.tell = interrupt
            return really(job, control, verbose=verbose)

        monkeypatch.setattr(train, "train", interrupted)
        outcome = work.work(job)
        assert isinstance(outcome, work.Halted)
        assert outcome.reason.startswith(f"stopped by {number.name}; it goes on from step ")
        assert checkpoint.identity(job.directory) is not None
        assert lock_file.holder(job.directory) is None
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    monkeypatch.setattr(train, "train", really)
    assert work.work(job).status == "ok"
    for name in ("delta.safetensors", "log.jsonl"):
        assert (job.directory / name).read_bytes() == (whole.directory / name).read_bytes()
    assert not (job.directory / checkpoint.FOLDER).exists()


def test_second_ctrl_c_ends_at_once(make_job, monkeypatch):
    def act(job, control):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    stub(monkeypatch, act)
    job = make_job()
    with pytest.raises(KeyboardInterrupt):
        work.work(job)
    assert lock_file.holder(job.directory) is None


def test_a_signal_that_is_ignored_stays_so(make_job, monkeypatch):
    def act(job, control):
        os.kill(os.getpid(), signal.SIGINT)
        control.check()
        raise NotFinite("not stopped")

    stub(monkeypatch, act)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert work.work(make_job()).error == "NotFinite: not stopped"
    finally:
        signal.signal(signal.SIGINT, before)


def test_tidy_after_a_kill(make_job, at_once):
    job = make_job()
    result = work.work(job)
    for begin in (work.tidy, lambda job: work.record_death(job, "gone")):
        sealed.write(job.directory / checkpoint.FOLDER, "step-000000001", {}, {})
        (job.directory / "lock-000000.json").write_text(json.dumps("dead"))
        os.utime(job.directory / "lock-000000.json", (1, 1))
        begin(job)
        assert not (job.directory / checkpoint.FOLDER).exists()
        assert not lock_file.files(job.directory)
        assert on_disk(job) == result
    before = os.stat(job.directory).st_mtime_ns
    work.tidy(job)
    assert os.stat(job.directory).st_mtime_ns == before, "nothing to do, nothing touched"


def test_what_a_failed_cell_left_stays(make_job, monkeypatch):
    fails_with(monkeypatch, NotFinite("at step 3"))
    job = make_job()
    work.work(job)
    sealed.write(job.directory / checkpoint.FOLDER, "step-000000001", {}, {})
    before = sorted(job.directory.rglob("*"))
    work.tidy(job)
    assert sorted(job.directory.rglob("*")) == before

    def broken(directory):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lock_file, "files", broken)
    work.tidy(job)  # files that cannot be removed do no harm


def test_in_another_thread_it_works_without_signals(make_job, at_once):
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work.work, make_job()).result().status == "ok"
