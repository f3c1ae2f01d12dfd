"""One owner at a time: races, dead, paused and foreign owners, full disks, clocks that differ."""

import contextlib
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from support.processes import until, unwritable

from jiant_sparse.grid import lock, lock_file
from jiant_sparse.grid.lock_file import EMPTY_SECONDS, STALE_SECONDS
from jiant_sparse.schema.control import Control, Progress


class Listening(Control):
    """Keeps the reasons for which it was asked to stop."""

    def __init__(self):
        super().__init__()
        self.progress = Progress("training", step=7, steps=20, score=0.5)
        self.losses = []

    def stop(self, reason):
        self.losses.append(reason)


@pytest.fixture
def control():
    return Listening()


@pytest.fixture
def quick(monkeypatch):
    """Heartbeats every 10 ms."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)


def names(directory):
    return sorted(os.listdir(directory))


def path_of(directory, generation=0):
    return directory / f"lock-{generation:06d}.json"


def content(directory, generation=0):
    return json.loads(path_of(directory, generation).read_bytes())


def set_age(directory, seconds, generation=0):
    then = time.time() - seconds
    os.utime(path_of(directory, generation), (then, then))


def write_lock(directory, generation=0, *, age=0, released=False, **changes):
    """The file of an owner on another host, but for `changes`."""
    owner = {"host": "far", "pid": 1, "pid_namespace": "far", "started": 5, "token": "t"} | changes
    if "space" in owner:
        del owner["pid_namespace"]
    whole = {
        "owner": owner,
        "since": "2026-01-02T03:04:05Z",
        "progress": {"phase": "loading", "step": 0, "steps": None, "score": None},
        "released": released,
    }
    directory.mkdir(exist_ok=True)
    path_of(directory, generation).write_text(json.dumps(whole))
    set_age(directory, age, generation)


def assert_free(directory, generation):
    """It can be acquired, as this generation."""
    assert lock_file.holder(directory) is None
    with lock.acquire(directory, Control()) as held:
        held.check()
        assert content(directory, generation)["owner"]["pid"] == os.getpid()


def assert_busy(directory, match):
    before = names(directory)
    with pytest.raises(lock.Busy, match=match), lock.acquire(directory, Control()):
        pass
    assert names(directory) == before
    assert lock_file.holder(directory) is not None


def child(code, *arguments):
    """A process that runs `code` with a control and lock; talks by lines."""
    head = (
        "import os, random, sys, time\n"
        "from pathlib import Path\n"
        "from jiant_sparse.grid import lock, lock_file\n"
        "from jiant_sparse.schema import control\n"
        "class Control(control.Control):\n"
        "    def stop(self, reason): print('stop', reason, flush=True)\n"
        "directory = Path(sys.argv[1])\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


HOLD = """
lock.BEAT_SECONDS = float(sys.argv[2])
with lock.acquire(directory, Control()) as held:
    print('held', flush=True)
    sys.stdin.readline()
    try:
        held.check()
    except lock.Lost as error:
        print('lost', error, flush=True)
print('end', flush=True)
"""

# A critical section twice: a file that only one can make, and a count that only one can keep.
RACE = """
wins, done, strict = int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == 'strict'
random.seed(os.getpid())
inside, count = directory / 'inside', directory / 'count'
print('ready', flush=True)
sys.stdin.readline()
while wins:
    try:
        with lock.acquire(directory / 'cell', Control()) as held:
            handle = os.open(inside, os.O_CREAT | os.O_EXCL)
            number = int(count.read_text())
            if strict:
                held.check()
            count.write_text(str(number + 1))
            os.close(handle)
            inside.unlink()
            held.release(done=random.random() < done)
            wins -= 1
    except lock.Busy:
        time.sleep(random.random() * 0.002)
"""


# Where files are removed, a late claim for an old name may cost an owner its lock: the owner is
# told, and nobody else is inside. Where files are kept, nobody may ever lose the lock.
@pytest.mark.parametrize(
    "processes, wins, done", [(2, 50, 0), (2, 100, 0.5), (6, 10, 0), (6, 20, 0.3)]
)
def test_exactly_one_is_inside(tmp_path, processes, wins, done):
    (tmp_path / "count").write_text("0")
    strict = "lenient" if done else "strict"
    racers = [child(RACE, tmp_path, wins, done, strict) for _ in range(processes)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    told = [racer.communicate(timeout=60)[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * processes
    if not done:
        assert told == [""] * processes
        generations = [f"lock-{g:06d}.json" for g in range(processes * wins)]
        assert names(tmp_path / "cell") == generations
    assert int((tmp_path / "count").read_text()) == processes * wins


def between(monkeypatch, act):
    """Run `act` once, after the first look of an `acquire` and before it makes its file."""
    real, acts = os.open, [act]

    def late(path, flags, *rest, **named):
        if acts and flags & os.O_EXCL and "lock-0" in str(path):
            acts.pop()()
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", late)


def test_a_busy_lock_gets_no_new_file(tmp_path, monkeypatch):
    """The owner would take it for a takeover."""
    write_lock(tmp_path)
    between(monkeypatch, lambda: pytest.fail("a file was made"))
    assert_busy(tmp_path, "far:1")


@pytest.mark.parametrize(
    ("before", "meanwhile", "who", "left"),
    [
        # Another process is faster to the same generation.
        (None, {}, "far:1", 0),
        # The released file was removed, and its name is a new owner's: a claim above it.
        ({"released": True}, {"pid": 77}, "far:77", 0),
        # A claim below another one.
        (None, {"generation": 1}, "far:1", 1),
        (None, {"generation": 1, "released": True}, "is held by", 1),
        # A stale owner wakes up and beats.
        ({"age": 500}, {"age": 0}, "far:1", 0),
    ],
)
def test_a_claim_that_meets_another_is_withdrawn(
    tmp_path, monkeypatch, control, before, meanwhile, who, left
):
    if before is not None:
        write_lock(tmp_path, **before)
    between(monkeypatch, lambda: write_lock(tmp_path, **meanwhile))
    with pytest.raises(lock.Busy, match=who), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == [f"lock-{left:06d}.json"]


def test_a_claim_that_was_replaced_is_left_alone(tmp_path, monkeypatch, control):
    real = os.fsync

    def replaced(handle):
        real(handle)
        path_of(tmp_path).unlink()
        write_lock(tmp_path)

    monkeypatch.setattr(os, "fsync", replaced)
    with pytest.raises(lock.Busy, match="far:1"), lock.acquire(tmp_path, control):
        pass
    assert content(tmp_path)["owner"]["host"] == "far"


def test_a_claim_that_cannot_be_written_is_withdrawn(tmp_path, monkeypatch, control):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == []


def test_a_live_lower_generation_counts(tmp_path):
    """Above it is the file of a process that died before its second look."""
    write_lock(tmp_path, 0)
    write_lock(tmp_path, 1, pid=2)
    assert_busy(tmp_path, "far:2")
    set_age(tmp_path, 500, 1)
    assert_busy(tmp_path, "far:1")
    set_age(tmp_path, 500)
    assert_free(tmp_path, 2)


def test_a_released_lock_lets_the_next_in(tmp_path, control):
    cell = tmp_path / "new"
    assert lock_file.holder(cell) is None
    with lock.acquire(cell, control) as held:
        found = lock_file.holder(cell)
        assert (found.owner.pid, found.progress) == (os.getpid(), control.progress)
        assert found.path == path_of(cell) and abs(found.age_seconds) < 60
        assert_busy(cell, f":{os.getpid()} .since .* UTC, last heartbeat 0 s ago")
        held.release(done=False)
        held.release(done=True)  # comes too late
        with pytest.raises(lock.Lost, match="was released"):
            held.check()
    assert content(cell)["released"]
    assert_free(cell, 1)
    with pytest.raises(KeyboardInterrupt), lock.acquire(cell, control):
        raise KeyboardInterrupt
    assert_free(cell, 3)
    assert names(cell) == [f"lock-00000{i}.json" for i in range(4)]
    assert control.losses == []


def test_done_leaves_no_lock_files(tmp_path, control):
    (tmp_path / "record.json").write_text("{}")
    write_lock(tmp_path, 3, age=500)
    write_lock(tmp_path, 4, released=True)
    with lock.acquire(tmp_path, control) as held:
        assert path_of(tmp_path, 5).exists()
        held.release(done=True)
        assert names(tmp_path) == ["record.json"]
    assert names(tmp_path) == ["record.json"]


def test_done_leaves_the_files_of_others(tmp_path, monkeypatch, control):
    with lock.acquire(tmp_path / "lower", control):
        pass
    with lock.acquire(tmp_path / "lower", control) as held:
        path_of(tmp_path / "lower").unlink()
        write_lock(tmp_path / "lower")  # a claim whose first look was long ago
        held.release(done=True)
    assert names(tmp_path / "lower") == ["lock-000000.json"]
    # Somebody takes over after the last look.
    real, higher = os.close, tmp_path / "higher"
    with lock.acquire(higher, control) as held:
        monkeypatch.setattr(os, "close", lambda handle: write_lock(higher, 1) or real(handle))
        held.release(done=True)
        monkeypatch.undo()
    assert names(higher) == ["lock-000001.json"]


def test_an_error_on_closing_harms_nothing(tmp_path, monkeypatch, control):
    """As of a network file system; the lock was released, or its heartbeat is over."""
    real = os.close

    def late(handle):
        real(handle)
        raise OSError(errno.EIO, "Input/output error")

    with lock.acquire(tmp_path, control) as held, monkeypatch.context() as patch:
        patch.setattr(os, "close", late)
        held.release(done=True)
        with pytest.raises(lock.Lost, match="was released"):
            held.check()
    assert names(tmp_path) == []
    assert_free(tmp_path, 0)


def test_a_killed_owner_is_followed_at_once(tmp_path):
    owner = child(HOLD, tmp_path, 10)
    assert owner.stdout.readline() == "held\n"
    assert_busy(tmp_path, f":{owner.pid} ")
    owner.kill()
    # Not waited for yet: a zombie has ended as well.
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert_free(tmp_path, 1)
    owner.communicate()
    set_age(tmp_path, 0)
    path_of(tmp_path, 1).unlink()
    assert_free(tmp_path, 1)


def test_processes_are_known_in_their_own_namespace_only(tmp_path, monkeypatch):
    me = lock_file.this_process().model_dump()
    write_lock(tmp_path, **me)
    assert_busy(tmp_path, f":{os.getpid()} ")
    gone = me | {"pid": 2**31 - 1}
    write_lock(tmp_path, **gone | {"pid_namespace": "elsewhere"})
    assert_busy(tmp_path, "2147483647")
    # Outside Linux the namespace is unknown: two hosts may have one name.
    with monkeypatch.context() as patch:
        patch.setattr(lock_file, "_pid_namespace", lambda: None)
        write_lock(tmp_path, **gone | {"pid_namespace": None})
        assert_busy(tmp_path, "2147483647")
    # A process that /proc hides may be alive.
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", lambda pid, number: full(PermissionError))
        patch.setattr(lock_file, "_started", lambda pid: None)
        write_lock(tmp_path, **me | {"started": 1})
        assert_busy(tmp_path, f":{os.getpid()} ")
    # A pid that was given to a new process.
    write_lock(tmp_path, **me | {"started": me["started"] - 1})
    assert_free(tmp_path, 1)


def test_an_old_lock_file_of_a_dead_owner_is_free(tmp_path):
    """`space` is what earlier versions called `pid_namespace`."""
    me = lock_file.this_process().model_dump()
    write_lock(tmp_path, **{"space": me.pop("pid_namespace")} | me | {"pid": 2**31 - 1})
    assert_free(tmp_path, 1)


@pytest.mark.parametrize("threads, ended", [(1, True), (2, False)])
def test_a_process_ends_with_its_last_thread(tmp_path, monkeypatch, threads, ended):
    real = Path.read_text

    def dying(path, **named):
        text = real(path, **named)
        if path.parts[1] == "proc" and path.name == "stat":
            fields = text.rpartition(") ")[2].split()
            fields[0], fields[17] = "Z", str(threads)
            return f"1 (a ) b) {' '.join(fields)}"
        return text

    write_lock(tmp_path, **lock_file.this_process().model_dump())
    monkeypatch.setattr(Path, "read_text", dying)
    assert (lock_file.holder(tmp_path) is None) == ended


def test_a_foreign_owner_is_respected_until_stale(tmp_path):
    write_lock(tmp_path, age=STALE_SECONDS - 5)
    assert_busy(tmp_path, r"far:1 \(since 2026-01-02 03:04:05 UTC, last heartbeat 11\d s ago\)")
    set_age(tmp_path, STALE_SECONDS + 1)
    assert_free(tmp_path, 1)


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_the_clock_of_the_file_system_counts(tmp_path, monkeypatch, skew):
    write_lock(tmp_path, 0, age=STALE_SECONDS + 5)
    write_lock(tmp_path, 1, age=STALE_SECONDS - 5)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    assert_busy(tmp_path, "last heartbeat 11")
    path_of(tmp_path, 1).unlink()
    assert_free(tmp_path, 1)


@pytest.mark.parametrize("owner", [None, {"pid": 0}, {"pid": 2**31}, {"token": 5}])
def test_an_unreadable_file_is_held_until_stale(tmp_path, owner):
    path_of(tmp_path).write_text("garbage")
    if owner:
        write_lock(tmp_path, **owner)
    assert_busy(tmp_path, r"lock-000000.json is unreadable \(last heartbeat")
    found = lock_file.holder(tmp_path)
    assert (found.owner, found.progress) == (None, None)
    set_age(tmp_path, STALE_SECONDS + 1)
    assert_free(tmp_path, 1)


def test_only_regular_files_are_locks(tmp_path):
    write_lock(tmp_path)
    assert lock_file.read(path_of(tmp_path)).content is not None
    with open(path_of(tmp_path), "r+b") as stream:
        stream.truncate(10**12)
    assert lock_file.read(path_of(tmp_path)).content is None, "a part of it is read"
    path_of(tmp_path).unlink()
    os.mkfifo(path_of(tmp_path))
    assert_busy(tmp_path, "unreadable")
    set_age(tmp_path, STALE_SECONDS + 1)
    assert_free(tmp_path, 1)
    path_of(tmp_path, 9).symlink_to("/dev/zero")
    assert lock_file.read(path_of(tmp_path, 9)).content is None
    before = lock_file.files(tmp_path)
    (tmp_path / f"lock-{'9' * 245}.json").touch()
    assert lock_file.files(tmp_path) == before


def test_empty_file_is_respected_for_a_moment(tmp_path):
    path_of(tmp_path).touch()
    set_age(tmp_path, EMPTY_SECONDS - 4)
    assert_busy(tmp_path, r"lock-000000.json is unreadable \(last heartbeat")
    set_age(tmp_path, EMPTY_SECONDS + 1)
    assert_free(tmp_path, 1)


def test_a_slow_writer_finds_who_came(tmp_path, monkeypatch):
    real, winner = os.pwrite, []

    def late(*arguments):
        if not winner:
            winner.append(None)
            set_age(tmp_path, EMPTY_SECONDS + 1)
            winner[0] = stack.enter_context(lock.acquire(tmp_path, Listening()))
        return real(*arguments)

    monkeypatch.setattr(os, "pwrite", late)
    with contextlib.ExitStack() as stack:
        with pytest.raises(lock.Busy, match=f":{os.getpid()} "), lock.acquire(tmp_path, Control()):
            pass
        assert names(tmp_path) == ["lock-000001.json"]
        winner[0].check()


def test_a_paused_owner_notices_that_it_lost(tmp_path, control):
    owner = child(HOLD, tmp_path, 0.05)
    assert owner.stdout.readline() == "held\n"
    owner.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, owner.pid, os.WSTOPPED)
    set_age(tmp_path, STALE_SECONDS + 1)
    with lock.acquire(tmp_path, control) as held:
        owner.send_signal(signal.SIGCONT)
        lost = f"{tmp_path}: the lock was taken over by {held._content.owner}"
        assert owner.stdout.readline() == f"stop {lost}\n"
        told, _ = owner.communicate("\n", timeout=60)
        assert told == f"lost {lost}\nend\n"
        held.check()
        assert content(tmp_path)["released"], "nobody waits for the loser's file"
    assert control.losses == []
    assert_free(tmp_path, 2)


@pytest.mark.parametrize("done", [False, True])
def test_a_loser_releases_nothing_of_the_winner(tmp_path, control, done):
    with lock.acquire(tmp_path, control) as held:
        write_lock(tmp_path, 1)
        with pytest.raises(lock.Lost, match="taken over by far:1"):
            held.check()
        held.release(done=done)
    assert names(tmp_path) == ["lock-000000.json", "lock-000001.json"]
    assert len(control.losses) == 1
    assert_busy(tmp_path, "far:1")


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("anew", [False, True])
def test_a_lock_whose_file_is_gone_is_lost(tmp_path, control, done, anew):
    with lock.acquire(tmp_path, control) as held:
        path_of(tmp_path).unlink()
        if anew:
            write_lock(tmp_path)
        held.release(done=done)  # notices by itself
        assert "lock-000000.json is gone" in control.losses[0]
    assert names(tmp_path) == ["lock-000000.json"] * anew
    assert not anew or not content(tmp_path)["released"]


def test_heartbeats_renew_the_lock_and_tell_the_progress(tmp_path, quick, control):
    with lock.acquire(tmp_path, control) as held:
        set_age(tmp_path, 100)
        # A shorter text leaves no end of a longer one.
        for progress in (
            Progress("training", 8, 20, 0.5),
            Progress("selecting", batch=2**62, batches=2**62),
            Progress(),
        ):
            control.progress = progress
            until(lambda told=progress: lock_file.holder(tmp_path).progress == told)
        control.progress = Progress("training", 8, score=float("nan"))
        until(lambda: lock_file.holder(tmp_path).progress == Progress("training", 8))
        assert lock_file.holder(tmp_path).age_seconds < 60
        held.check()
    assert control.losses == []


def is_beating(directory):
    return f"lock {directory}" in {thread.name for thread in threading.enumerate()}


def test_a_lost_lock_beats_no_more(tmp_path, quick, control):
    with lock.acquire(tmp_path, control):
        write_lock(tmp_path, 1)
        until(lambda: control.losses, 10)
        until(lambda: not is_beating(tmp_path), 10)


def test_release_does_not_wait_for_the_next_beat(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 3600)
    with lock.acquire(tmp_path, control) as held:
        assert is_beating(tmp_path)
        release = threading.Thread(target=held.release, kwargs={"done": False}, daemon=True)
        release.start()
        release.join(timeout=20)
        assert not release.is_alive()
    assert not is_beating(tmp_path)


def test_a_host_that_slept_goes_on_if_nobody_came(tmp_path, monkeypatch, control):
    with lock.acquire(tmp_path, control) as held:
        set_age(tmp_path, 40_000)
        now = lock._clock()
        monkeypatch.setattr(lock, "_clock", lambda: now + 40_000)
        held.check()
        assert_busy(tmp_path, "last heartbeat 0 s ago")


def full(*arguments, **named):
    if arguments == (PermissionError,):
        raise PermissionError
    raise OSError(errno.ENOSPC, "No space left on device")


def test_progress_that_cannot_be_written_harms_nothing(tmp_path, monkeypatch, quick, control):
    tried = threading.Semaphore(0)
    with lock.acquire(tmp_path, control) as held:
        monkeypatch.setattr(os, "pwrite", lambda *arguments: tried.release() or full())
        set_age(tmp_path, 100)
        assert all(tried.acquire(timeout=10) for _ in range(3))
        assert lock_file.holder(tmp_path).age_seconds < 60
        held.check()
        monkeypatch.undo()
    assert control.losses == []
    assert_free(tmp_path, 1)


def test_unrenewed_lock_is_lost_before_it_is_stale(tmp_path, monkeypatch, control):
    last_moment = STALE_SECONDS - lock.BEAT_SECONDS
    began, passed, real = lock._clock(), [0.0], os.utime
    monkeypatch.setattr(lock, "_clock", lambda: began + passed[0])

    def check(seconds, utime):
        passed[0] = seconds
        monkeypatch.setattr(os, "utime", utime)
        held.check()

    with lock.acquire(tmp_path, control) as held:
        check(50, full)
        check(last_moment - 1, full)
        check(105, real)  # counts anew
        check(105 + last_moment - 1, full)
        assert control.losses == []
        with pytest.raises(lock.Lost, match="not be renewed for 111 s: .*No space left"):
            check(105 + last_moment + 1, full)
        assert len(control.losses) == 1


def test_a_beat_that_fails_still_looks(tmp_path, monkeypatch, control):
    with lock.acquire(tmp_path, control) as held:
        write_lock(tmp_path, 1)
        monkeypatch.setattr(os, "utime", full)
        with pytest.raises(lock.Lost, match="far:1"):
            held.check()


def test_a_heartbeat_never_stops_unnoticed(tmp_path, quick, control):
    with lock.acquire(tmp_path, control) as held:
        del control.progress
        until(lambda: control.losses, 10)
        with pytest.raises(lock.Lost, match="heartbeat failed: .*progress"):
            held.check()


@pytest.fixture
def read_only():
    """A directory in which this process cannot make files; root becomes nobody for a while."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "cell"
        write_lock(directory, age=30)
        Path(name).chmod(0o755)
        with unwritable(directory):
            yield directory


def test_read_only_directory(read_only, control):
    for place in (read_only, read_only / "deeper"):
        with pytest.raises(PermissionError), lock.acquire(place, control):
            pass
    found = lock_file.holder(read_only)
    assert found.owner.host == "far" and 29 < found.age_seconds < 90
    assert names(read_only) == ["lock-000000.json"]
    user = os.geteuid()
    os.seteuid(os.getuid())
    path_of(read_only).chmod(0)  # another user's file
    os.seteuid(user)
    assert lock_file.holder(read_only).owner is None


def test_busy_crosses_process_borders(tmp_path):
    write_lock(tmp_path)
    error = lock.Busy(tmp_path, lock_file.holder(tmp_path))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.holder == error.holder
