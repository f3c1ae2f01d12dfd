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
from support.processes import unwritable

from jiant_sparse.grid import lock, lock_file


class Control:
    """Like the host's, which is on a higher floor."""

    def __init__(self):
        self.progress = lock.Progress(phase="training", step=7, steps=20, score=0.5)
        self.losses = []
        self.asked = threading.Event()

    def stop(self, reason):
        self.losses.append(reason)
        self.asked.set()


@pytest.fixture
def control():
    return Control()


def names(directory):
    return sorted(os.listdir(directory))


def content(directory, generation=0):
    return json.loads((directory / f"lock-{generation:06d}.json").read_bytes())


def set_age(directory, seconds, generation=0):
    then = time.time() - seconds
    os.utime(directory / f"lock-{generation:06d}.json", (then, then))


def write_lock(directory, generation=0, *, age=0, released=False, **changes):
    """The file of another owner: of another host, unless `changes` say other."""
    owner = {"host": "far", "pid": 1, "space": "far boot pid", "started": 5, "token": "t"}
    progress = {"phase": "loading", "step": 0, "steps": None, "score": None}
    since = "2026-01-02T03:04:05Z"
    whole = {"owner": owner | changes, "since": since, "progress": progress, "released": released}
    directory.mkdir(exist_ok=True)
    (directory / f"lock-{generation:06d}.json").write_text(json.dumps(whole))
    set_age(directory, age, generation)


def assert_free(directory, generation):
    """It can be had, as this generation."""
    assert lock.holder(directory) is None
    with lock.acquire(directory, Control()) as held:
        held.check()
        assert content(directory, generation)["owner"]["pid"] == os.getpid()


def assert_busy(directory, match):
    before = names(directory)
    with pytest.raises(lock.Busy, match=match), lock.acquire(directory, Control()):
        pass
    assert names(directory) == before
    assert lock.holder(directory) is not None


def child(code, *arguments):
    """A process that runs `code` with a control and lock; talks by lines."""
    head = (
        "import os, random, sys, time\n"
        "from pathlib import Path\n"
        "from jiant_sparse.grid import lock, lock_file\n"
        "class Control:\n"
        "    progress = lock.Progress(phase='training', step=0, steps=None, score=None)\n"
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


# Where files are removed, another's late claim for an old name may cost an owner its lock: it is
# told, and nobody else is in. Where they are kept, nobody may ever lose it.
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


def test_who_finds_the_lock_held_makes_no_file(tmp_path, monkeypatch):
    """The owner would take it for a takeover."""
    write_lock(tmp_path)
    between(monkeypatch, lambda: pytest.fail("a file was made"))
    assert_busy(tmp_path, "far:1")


def between(monkeypatch, act):
    """Run `act` once, after the first look of an `acquire` and before it makes its file."""
    real, acts = os.open, [act]

    def late(path, flags, *rest, **named):
        if acts and flags & os.O_EXCL and "lock-0" in str(path):
            acts.pop()()
        return real(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", late)


def test_another_is_faster_to_the_same_generation(tmp_path, monkeypatch, control):
    between(monkeypatch, lambda: write_lock(tmp_path))
    with pytest.raises(lock.Busy, match="far:1"), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == ["lock-000000.json"]


def test_a_claim_above_an_owner_who_began_anew_is_withdrawn(tmp_path, monkeypatch, control):
    """What was released at the first look was removed, and its name is another owner's now."""
    write_lock(tmp_path, released=True)
    between(monkeypatch, lambda: write_lock(tmp_path, pid=77))
    with pytest.raises(lock.Busy, match="far:77"), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == ["lock-000000.json"]


@pytest.mark.parametrize("released", [False, True])
def test_a_claim_below_another_is_withdrawn(tmp_path, monkeypatch, control, released):
    between(monkeypatch, lambda: write_lock(tmp_path, 1, released=released))
    with pytest.raises(lock.Busy), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == ["lock-000001.json"]


def test_an_owner_alive_again_keeps_the_lock(tmp_path, monkeypatch, control):
    """It beats between the two looks of one who takes over."""
    write_lock(tmp_path, age=500)
    between(monkeypatch, lambda: set_age(tmp_path, 0))
    with pytest.raises(lock.Busy, match="far:1"), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == ["lock-000000.json"]


def test_a_claim_that_was_replaced_meanwhile_is_left_alone(tmp_path, monkeypatch, control):
    real = os.fsync

    def replaced(handle):
        real(handle)
        (tmp_path / "lock-000000.json").unlink()
        write_lock(tmp_path)

    monkeypatch.setattr(os, "fsync", replaced)
    with pytest.raises(lock.Busy, match="far:1"), lock.acquire(tmp_path, control):
        pass
    assert content(tmp_path)["owner"]["host"] == "far"


def test_a_live_lower_generation_counts_too(tmp_path):
    """Above it is the file of one that died before its second look."""
    write_lock(tmp_path, 0)
    write_lock(tmp_path, 1, pid=2)
    assert_busy(tmp_path, "far:2")
    set_age(tmp_path, 500, 1)
    assert_busy(tmp_path, "far:1")
    set_age(tmp_path, 500)
    assert_free(tmp_path, 2)


def test_kept_files_let_the_next_one_in(tmp_path, control):
    with lock.acquire(tmp_path / "new", control) as held:
        found = lock.holder(tmp_path / "new")
        assert (found.owner.pid, found.progress) == (os.getpid(), control.progress)
        assert found.path.name == "lock-000000.json" and abs(found.age_seconds) < 60
        assert_busy(tmp_path / "new", f":{os.getpid()} .since .* UTC, last heartbeat 0 s ago")
        held.release(done=False)
        held.release(done=True)  # comes too late
        with pytest.raises(lock.Lost, match="was released"):
            held.check()
    assert content(tmp_path / "new")["released"]
    assert_free(tmp_path / "new", 1)
    assert_free(tmp_path / "new", 2)
    assert names(tmp_path / "new") == [f"lock-00000{i}.json" for i in range(3)]
    assert control.losses == []


def test_done_leaves_no_lock_files(tmp_path, control):
    (tmp_path / "record.json").write_text("{}")
    write_lock(tmp_path, 3, age=500)
    write_lock(tmp_path, 4, released=True)
    with lock.acquire(tmp_path, control) as held:
        assert "lock-000005.json" in names(tmp_path)
        held.release(done=True)
        assert names(tmp_path) == ["record.json"]
    assert names(tmp_path) == ["record.json"]


def test_done_leaves_the_claim_of_another_to_it(tmp_path, control):
    with lock.acquire(tmp_path / "cell", control):
        pass
    with lock.acquire(tmp_path / "cell", control) as held:
        (tmp_path / "cell" / "lock-000000.json").unlink()
        write_lock(tmp_path / "cell")  # its first look was long ago
        held.release(done=True)
    assert names(tmp_path / "cell") == ["lock-000000.json"]


def test_done_leaves_a_higher_lock_alone(tmp_path, monkeypatch, control):
    """Somebody takes over after the last look."""
    real = os.close
    with lock.acquire(tmp_path, control) as held:
        monkeypatch.setattr(os, "close", lambda handle: write_lock(tmp_path, 1) or real(handle))
        held.release(done=True)
        monkeypatch.undo()
    assert names(tmp_path) == ["lock-000001.json"]


def test_an_error_that_only_closing_tells_harms_nothing(tmp_path, monkeypatch, control):
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


def test_a_failing_block_releases(tmp_path, control):
    with pytest.raises(KeyboardInterrupt), lock.acquire(tmp_path, control):
        raise KeyboardInterrupt
    assert_free(tmp_path, 1)


def test_nothing_is_held_where_nothing_was_locked(tmp_path):
    assert lock.holder(tmp_path / "none") is None
    write_lock(tmp_path, released=True)
    assert lock.holder(tmp_path) is None


def test_a_killed_owner_is_followed_at_once(tmp_path, control):
    owner = child(HOLD, tmp_path, 10)
    assert owner.stdout.readline() == "held\n"
    assert_busy(tmp_path, f":{owner.pid} ")
    owner.kill()
    # Not waited for yet: a zombie has ended as well.
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    assert_free(tmp_path, 1)
    owner.communicate()
    set_age(tmp_path, 0)
    (tmp_path / "lock-000001.json").unlink()
    assert_free(tmp_path, 1)


def this_process(**changes):
    return lock_file.this_process().model_dump() | changes


def test_a_reused_pid_is_another_process(tmp_path):
    me = this_process()
    write_lock(tmp_path, **me)
    assert_busy(tmp_path, f":{os.getpid()} ")
    write_lock(tmp_path, **this_process(started=me["started"] - 1))
    assert_free(tmp_path, 1)


def test_processes_are_asked_for_in_their_own_space_only(tmp_path, monkeypatch):
    gone = this_process(pid=2**31 - 1)
    write_lock(tmp_path, **gone | {"space": "far boot pid"})
    assert_busy(tmp_path, "2147483647")
    write_lock(tmp_path, **gone | {"pid": 2**40})
    assert_busy(tmp_path, "unreadable")
    # Outside Linux nobody knows a space: two hosts may have one name.
    monkeypatch.setattr(lock_file, "_space", lambda: None)
    write_lock(tmp_path, **gone | {"space": None})
    assert_busy(tmp_path, "2147483647")


@pytest.mark.parametrize("threads, ended", [(1, True), (2, False)])
def test_a_process_has_ended_with_its_last_thread(tmp_path, monkeypatch, threads, ended):
    real = Path.read_text

    def dying(path, **named):
        text = real(path, **named)
        if path.parts[1] == "proc" and path.name == "stat":
            fields = text.rpartition(") ")[2].split()
            fields[0], fields[17] = "Z", str(threads)
            return f"1 (a ) b) {' '.join(fields)}"
        return text

    write_lock(tmp_path, **this_process())
    monkeypatch.setattr(Path, "read_text", dying)
    assert (lock.holder(tmp_path) is None) == ended


def test_a_process_that_is_hidden_is_alive(tmp_path, monkeypatch):
    def forbidden(pid, number):
        raise PermissionError

    write_lock(tmp_path, **this_process(started=1))
    monkeypatch.setattr(os, "kill", forbidden)
    monkeypatch.setattr(lock_file, "_process", lambda pid: None)
    assert_busy(tmp_path, f":{os.getpid()} ")


def test_a_foreign_owner_is_respected_until_stale(tmp_path):
    write_lock(tmp_path, age=lock_file.STALE_SECONDS - 5)
    assert_busy(tmp_path, r"far:1 \(since 2026-01-02 03:04:05 UTC, last heartbeat 11\d s ago\)")
    set_age(tmp_path, lock_file.STALE_SECONDS + 1)
    assert_free(tmp_path, 1)


@pytest.mark.parametrize("skew", [-3600, 3600])
def test_the_clock_of_the_file_system_counts(tmp_path, monkeypatch, skew):
    write_lock(tmp_path, 0, age=lock_file.STALE_SECONDS + 5)
    write_lock(tmp_path, 1, age=lock_file.STALE_SECONDS - 5)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    assert_busy(tmp_path, "last heartbeat 11")
    (tmp_path / "lock-000001.json").unlink()
    assert_free(tmp_path, 1)


@pytest.mark.parametrize("text", ["garbage", "{}", '{"owner": {"pid": 0}}', "[]", "\0" * 9])
def test_an_unreadable_file_is_held_until_stale(tmp_path, text):
    (tmp_path / "lock-000000.json").write_text(text)
    assert_busy(tmp_path, r"lock-000000.json is unreadable \(last heartbeat")
    assert lock.holder(tmp_path).owner is None
    set_age(tmp_path, lock_file.STALE_SECONDS + 1)
    assert_free(tmp_path, 1)


def test_an_empty_file_is_respected_while_its_owner_may_be_writing(tmp_path):
    (tmp_path / "lock-000000.json").touch()
    set_age(tmp_path, lock_file.EMPTY_SECONDS - 4)
    assert_busy(tmp_path, r"lock-000000.json is unreadable \(last heartbeat")
    set_age(tmp_path, lock_file.EMPTY_SECONDS + 1)
    assert_free(tmp_path, 1)


def test_one_that_was_slow_to_write_finds_who_came(tmp_path, monkeypatch, control):
    real, winner = os.pwrite, []

    def late(*arguments):
        if not winner:
            set_age(tmp_path, lock_file.EMPTY_SECONDS + 1)
            winner.append(None)
            winner[0] = stack.enter_context(lock.acquire(tmp_path, control))
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
    set_age(tmp_path, lock_file.STALE_SECONDS + 1)
    with lock.acquire(tmp_path, control) as held:
        owner.send_signal(signal.SIGCONT)
        lost = f"{tmp_path}: the lock was taken over by {held._content.owner}"
        assert owner.stdout.readline() == f"stop {lost}\n"
        told, _ = owner.communicate("\n", timeout=60)
        assert told == f"lost {lost}\nend\n"
        held.check()
        # It has let its own file go, so that nobody waits for that one.
        assert content(tmp_path)["released"]
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
        (tmp_path / "lock-000000.json").unlink()
        if anew:
            write_lock(tmp_path)
        held.release(done=done)  # notices by itself
        assert "lock-000000.json is gone" in control.losses[0]
    assert names(tmp_path) == ["lock-000000.json"] * anew
    assert not anew or not content(tmp_path)["released"]


def test_beats_renew_the_lock_and_tell_the_progress(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.acquire(tmp_path, control) as held:
        set_age(tmp_path, 100)
        control.progress = control.progress.model_copy(update={"step": 8, "score": float("nan")})
        wait_until(lambda: content(tmp_path)["progress"]["step"] == 8)
        assert lock.holder(tmp_path).age_seconds < 60
        # A shorter text leaves no end of a longer one.
        control.progress = control.progress.model_copy(update={"phase": "p" * 99})
        wait_until(lambda: lock.holder(tmp_path).progress.phase == "p" * 99)
        control.progress = control.progress.model_copy(update={"phase": "p"})
        wait_until(lambda: lock.holder(tmp_path).progress.phase == "p")
        held.check()
    assert control.losses == []


def test_a_lost_lock_beats_no_more(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.acquire(tmp_path, control):
        write_lock(tmp_path, 1)
        assert control.asked.wait(timeout=10)
        wait_until(lambda: f"lock {tmp_path}" not in {t.name for t in threading.enumerate()})


def wait_until(true):
    for _ in range(2000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("did not come to pass in 10 s")


def test_one_that_slept_goes_on_if_nobody_came(tmp_path, monkeypatch, control):
    """A notebook's lid was closed over night."""
    with lock.acquire(tmp_path, control) as held:
        set_age(tmp_path, 40_000)
        now = lock._clock()
        monkeypatch.setattr(lock, "_clock", lambda: now + 40_000)
        held.check()
        assert_busy(tmp_path, "last heartbeat 0 s ago")


def test_release_does_not_wait_for_the_next_beat(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 3600)
    with lock.acquire(tmp_path, control) as held:
        assert f"lock {tmp_path}" in {thread.name for thread in threading.enumerate()}
        release = threading.Thread(target=held.release, kwargs={"done": False}, daemon=True)
        release.start()
        release.join(timeout=20)
        assert not release.is_alive()
    assert f"lock {tmp_path}" not in {thread.name for thread in threading.enumerate()}


def full(*arguments, **named):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_progress_that_cannot_be_written_harms_nothing(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    tried = threading.Semaphore(0)
    with lock.acquire(tmp_path, control) as held:
        monkeypatch.setattr(os, "pwrite", lambda *arguments: tried.release() or full())
        set_age(tmp_path, 100)
        assert all(tried.acquire(timeout=10) for _ in range(3))
        assert lock.holder(tmp_path).age_seconds < 60
        held.check()
        monkeypatch.undo()
    assert control.losses == []
    assert_free(tmp_path, 1)


def test_a_lock_that_cannot_be_renewed_is_lost_before_it_is_stale(tmp_path, monkeypatch, control):
    last_moment = lock_file.STALE_SECONDS - lock.BEAT_SECONDS
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


def test_a_heartbeat_never_stops_unnoticed(tmp_path, monkeypatch, control):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.acquire(tmp_path, control) as held:
        control.progress = None
        assert control.asked.wait(timeout=10)
        with pytest.raises(lock.Lost, match="heartbeat failed: .*Progress"):
            held.check()


def test_a_claim_that_cannot_be_written_is_withdrawn(tmp_path, monkeypatch, control):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), lock.acquire(tmp_path, control):
        pass
    assert names(tmp_path) == []


@pytest.fixture
def read_only():
    """A directory in which this process cannot make files; root becomes nobody for a while."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "cell"
        write_lock(directory, age=30)
        Path(name).chmod(0o755)
        with unwritable(directory):
            yield directory


def test_an_unwritable_directory_is_an_error(read_only, control):
    with pytest.raises(PermissionError), lock.acquire(read_only, control):
        pass
    with pytest.raises(PermissionError), lock.acquire(read_only / "deeper", control):
        pass


def test_who_holds_it_can_be_asked_where_nothing_can_be_written(read_only):
    found = lock.holder(read_only)
    assert found.owner.host == "far" and 29 < found.age_seconds < 90
    assert names(read_only) == ["lock-000000.json"]


def test_a_file_of_another_user_that_cannot_be_read_is_held(read_only):
    user = os.geteuid()
    os.seteuid(os.getuid())
    (read_only / "lock-000000.json").chmod(0)
    os.seteuid(user)
    assert lock.holder(read_only).owner is None


def test_busy_crosses_process_borders(tmp_path):
    write_lock(tmp_path)
    error = lock.Busy(tmp_path, lock.holder(tmp_path))
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.holder == error.holder


def with_changes(directory, **changes):
    write_lock(directory)
    path = directory / "lock-000000.json"
    whole = json.loads(path.read_text())
    for part in (whole, whole["owner"], whole["progress"]):
        part.update({key: value for key, value in changes.items() if key in part})
    path.write_text(json.dumps(whole))
    return lock_file.read(path).content


def test_numbers_that_no_owner_writes_make_a_lock_unreadable(tmp_path):
    assert with_changes(tmp_path, step=3, pid=7) is not None
    for changes in ({"pid": 0}, {"pid": -1}, {"pid": 2**31}, {"step": -1}, {"step": 10**400}):
        assert with_changes(tmp_path, **changes) is None, changes
    assert with_changes(tmp_path, steps=10**400) is None
    assert_busy(tmp_path, "unreadable")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    """It is an unreadable lock: respected as long as it is young, then free."""
    path = tmp_path / "lock-000000.json"
    os.mkfifo(path)
    assert_busy(tmp_path, "unreadable")
    set_age(tmp_path, lock_file.STALE_SECONDS + 1)
    assert_free(tmp_path, 1)
    device = tmp_path / "lock-000009.json"
    device.symlink_to("/dev/zero")
    assert lock_file.read(device).content is None


def test_of_a_huge_file_a_part_is_read(tmp_path):
    write_lock(tmp_path)
    path = tmp_path / "lock-000000.json"
    with open(path, "r+b") as stream:
        stream.truncate(10**12)
    assert lock_file.read(path).content is None


def test_names_of_more_digits_than_a_generation_has_are_no_locks(tmp_path):
    (tmp_path / f"lock-{'9' * 245}.json").touch()
    assert lock_file.files(tmp_path) == {}
