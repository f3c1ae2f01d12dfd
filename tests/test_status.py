"""`status` by the files that cells leave: whose lock, which record, how far, what is left."""

import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.processes import in_child, until, unwritable
from support.selecting import PROVENANCE
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.cli.status import LISTED, WIDTH
from jiant_sparse.grid import lock, lock_file, status
from jiant_sparse.grid.time_left import NEAR, TimeLeft, time_left
from jiant_sparse.grid.worker import work
from jiant_sparse.host import checkpoint, log
from jiant_sparse.layout import checkpoint_step
from jiant_sparse.schema.control import Progress
from jiant_sparse.schema.manifest import Manifest, PlannedCell
from jiant_sparse.schema.record import (
    DELTA,
    CellKey,
    Cost,
    Record,
    settings_hash,
)


def finished(key: CellKey, seconds=100.0, steps=1000, cost=None, **fields) -> Record:
    """A done cell, unless the fields say otherwise."""
    fields = {
        "status": "ok",
        "steps": steps,
        "cost": cost or Cost(train_seconds=seconds * 0.75, eval_seconds=seconds / 4),
        **fields,
    }
    empty = {"settings": {}, "settings_hash": settings_hash({}), "inputs": {}, "schema_version": 1}
    return Record(cell=key, **empty, provenance=PROVENANCE, **fields)


class Folder:
    """A benchmark's directory, filled by hand."""

    def __init__(self, output: Path, name="b", tasks=("cb",), methods=("sam",), seeds=1):
        self.path, self.name = output / name, name
        cells = [
            PlannedCell(task=task, method=method, seed=seed)
            for task in tasks
            for method in methods
            for seed in range(seeds)
        ]
        Manifest(benchmark=name, tasks=[*tasks], methods=[*methods], cells=cells).write(self.path)

    def done(self, place, *measured, **fields):
        task, method, seed = place.split("/")
        key = CellKey(benchmark=self.name, task=task, method=method, seed=int(seed[5:]))
        finished(key, *measured, **fields).write(self.path / place)
        (self.path / place / DELTA).touch()

    def failed(self, place, error: str | None = "NotFinite: at step 3\nTraceback"):
        self.done(place, status="failed", error=error)

    def lock(self, place, *progress, age=0.0, released=False, owner="far:17", generation=0):
        """progress: phase, step, steps, score."""
        host, pid = owner.split(":")
        content = lock_file.Content(
            owner=lock_file.Owner(
                host=host, pid=int(pid), pid_namespace="far", started=1, token="t"
            ),
            since=datetime.now(UTC),
            progress=Progress(*progress),
            released=released,
        )
        self.write_lock(place, content.model_dump_json(), age, generation)

    def write_lock(self, place, text, age=0.0, generation=0):
        path = self.path / place / f"lock-{generation:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (time.time() - age,) * 2)

    def log(self, place, *lines):
        (self.path / place).mkdir(parents=True, exist_ok=True)
        (self.path / place / log.FILE_NAME).write_text("".join(lines))

    def checkpoint(self, place, step):
        folder = self.path / place / checkpoint.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"step-{step:09d}.{'0a' * 32}.safetensors").touch()

    def look(self) -> status.Status:
        (found,) = status.look(self.path)
        return found


def line(event, step, **values):
    return json.dumps({"event": event, "step": step, **values}) + "\n"


def shown(*arguments) -> str:
    result = CliRunner().invoke(app, ["status", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path):
    """Eight cells: cb and rte by sam and lora, two seeds."""
    return Folder(tmp_path, tasks=("cb", "rte"), methods=("sam", "lora"), seeds=2)


def test_a_page_with_everything_on_it(folder):
    folder.done("cb/sam/seed-0", 4000)
    folder.failed("cb/sam/seed-1")
    folder.lock("cb/sam/seed-1", "training", 3, 1000, None, released=True)
    folder.lock("cb/lora/seed-0", "training", 500, 1000, 0.8125)
    folder.lock("rte/sam/seed-0", "loading", 0, None, None, age=45, owner="node-1:9")
    folder.write_lock("rte/sam/seed-1", "{", 3)
    folder.checkpoint("rte/lora/seed-0", 40)
    (folder.path / "rte/lora/seed-1").mkdir(parents=True)
    (folder.path / "rte/lora/seed-1/record.json").write_text("{")
    lines = shown(folder.path).splitlines()
    assert lines[:9] == [
        "b: 8 cells: 1 done, 3 running, 1 failed, 1 broken, 2 waiting (1 with a checkpoint)",
        "running           owner     phase     step      best dev  last heartbeat",
        "  cb/lora/seed-0  far:17    training  500/1000  81.2 %",
        "  rte/sam/seed-0  node-1:9  loading   -         -         45 s ago",
        "  rte/sam/seed-1  unknown   -         -         -",
        "failed",
        "  cb/sam/seed-1: NotFinite: at step 3",
        "broken",
        "  rte/lora/seed-1/record.json: file: Invalid JSON: EOF while parsing an object at line 1 "
        "column 1",
    ]
    text = " ".join(" ".join(lines[9:]).split())
    # (0.5 + 1 + 1 + 0.96 + 1) * 4000 s, by three workers
    assert text == (
        "time left: about 99 min with 3 at a time (medians of done cells: 2 by the same method, "
        "2 by the same task, 1 by other tasks and methods)"
    )


def test_who_holds_a_cell_runs_it_and_a_free_lock_is_a_waiting_cell(folder):
    folder.failed("cb/sam/seed-0")
    folder.lock("cb/sam/seed-0", "training", 5, 10, None)
    folder.done("cb/sam/seed-1")
    folder.lock("cb/sam/seed-1", "scoring", 10, 10, 0.5)  # its record was written just now
    folder.lock("cb/lora/seed-0", "training", 5, 10, None, age=lock_file.STALE_SECONDS + 9)
    folder.lock("cb/lora/seed-1", "training", 5, 10, None, released=True)
    folder.checkpoint("cb/lora/seed-1", 5)
    (folder.path / "rte/lora/seed-0" / checkpoint.FOLDER).mkdir(parents=True)
    found = folder.look()
    assert [cell.cell for cell in found.running] == ["cb/sam/seed-0"]
    assert (found.done, found.failed, found.waiting, found.with_checkpoint) == (1, (), 6, 1)
    (folder.path / "cb/sam/seed-1/record.json").unlink()
    assert "time left: not measured: no cell is done" in shown(folder.path)


@pytest.mark.parametrize(("age", "shown_age"), [(20, 20), (-20, 0)])
def test_only_a_late_heartbeat_gets_a_column(folder, age, shown_age):
    """Another host's clock may be ahead."""
    folder.lock("cb/sam/seed-0", "training", 5, 10, None, age=age)
    assert "heartbeat" not in shown(folder.path)
    assert shown_age <= folder.look().running[0].heartbeat_seconds < shown_age + 40


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        ([], 50),
        ([line("train", 40)], 50),
        ([line("train", 59), line("train", 60, loss=0.1)], 60),
        ([line("train", 60), line("dev", 60, score=None)], 60),
        ([line("train", 60), '{"event": "train", "st'], 60),
        (["x" * 5000 + "\n", line("train", 61)], 61),
        ([line("train", 60), "x" * 5000 + "\n"], 50),
        ([line("train", 60), "7\n", '{"event": "odd"}\n', "\n"], 60),
        ([line("train", 60), "[" * 4000 + "\n"], 60),
        ([line("train", 60), line("train", 10**400), line("train", -1), line("train", True)], 60),
        ([line("train", 60), '{"step": ' + "9" * 3000 + "}\n"], 60),
    ],
)
def test_the_log_is_ahead_of_the_lock(folder, lines, step):
    folder.lock("cb/sam/seed-0", "training", 50, 100, 0.5)
    folder.log("cb/sam/seed-0", *lines)
    assert folder.look().running[0].step == step


@pytest.mark.parametrize("phase", ["loading", "selecting"])
def test_log_of_an_earlier_run_is_ignored(folder, phase):
    folder.lock("cb/sam/seed-0", phase, 0, None, None)
    folder.log("cb/sam/seed-0", line("train", 70))
    assert folder.look().running[0].step == 0
    folder.checkpoint("cb/sam/seed-0", 30)
    folder.checkpoint("cb/sam/seed-0", 60)
    assert folder.look().running[0].step == 60, "from where it goes on"
    folder.lock("cb/sam/seed-0", "training", 31, 1000, None)
    folder.log("cb/sam/seed-0")
    assert folder.look().running[0].step == 31, "the newer checkpoint was of no use"


def test_a_score_that_is_no_number_is_none(folder):
    folder.lock("cb/sam/seed-0", "training", 50, 100, 0.5)
    path = folder.path / "cb/sam/seed-0/lock-000000.json"
    path.write_text(path.read_text().replace('"score":0.5', '"score":NaN'))
    assert folder.look().running[0].score is None


# Time left


def measured(place: str, *given, **named) -> Record:
    task, method = place.split("/")
    return finished(CellKey(benchmark="b", task=task, method=method, seed=9), *given, **named)


def left(done, *cells, at_a_time=1) -> TimeLeft:
    """cells: `task/method`, step and last step of each."""
    unfinished = []
    for place, step, last in cells:
        task, method = place.split("/")
        unfinished.append((PlannedCell(task=task, method=method, seed=0), step, last))
    return time_left(unfinished, done, at_a_time)


CB = [measured("cb/sam", seconds) for seconds in (10, 20, 90)]
MORE = [*CB, measured("wsc/sam", 50), measured("cb/lora", 5)]


@pytest.mark.parametrize(
    ("done", "place", "seconds", "near"),
    [
        (CB, "cb/sam", 20, 0),
        (CB, "rte/sam", 20, 1),
        (CB, "cb/lora", 20, 2),
        (CB, "rte/lora", 20, 3),
        (MORE, "cb/sam", 20, 0),
        (MORE, "rte/sam", 35, 1),
        # The method is nearer than the task.
        (MORE, "rte/lora", 5, 1),
        (MORE, "wsc/fish", 50, 2),
    ],
)
def test_the_nearest_done_cells_say_what_is_left(done, place, seconds, near):
    assert left(done, (place, 0, None)) == TimeLeft(seconds, 1, {NEAR[near]: 1}, 0, 0)


SHORT_AND_LONG = [measured("cb/sam", 100, 1000), measured("cb/sam", 400, 4000)]
FAST_AND_SLOW = [measured("cb/sam", 100, 1000), measured("cb/sam", 600, 2000)]


@pytest.mark.parametrize(
    ("done", "step", "last", "seconds", "bounded"),
    [
        # What others had left at its step; of those that went further.
        (SHORT_AND_LONG, 500, 9000, 200, 0),
        (SHORT_AND_LONG, 2000, 9000, 200, 0),
        (SHORT_AND_LONG, 9000, 9000, 0, 0),
        # Beyond all of them: 0.1 and 0.3 seconds a step to its last one, if that is known.
        (FAST_AND_SLOW, 3000, 9000, 6000 * 0.2, 1),
        (FAST_AND_SLOW, 2000, None, None, 0),
        # Every part of the cost counts, and what was not measured does not.
        ([measured("cb/sam", cost=Cost(eval_seconds=5))], 0, 9, None, 0),
        ([measured("cb/sam", cost=Cost(train_seconds=7))], 0, 9, 7, 0),
        (
            [measured("cb/sam", cost=Cost(train_seconds=7, eval_seconds=20, select_seconds=300))],
            0, 9, 327, 0,
        ),
        ([], 0, 9, None, 0),
    ],
)  # fmt: skip
def test_time_left_of_a_cell_on_its_way(done, step, last, seconds, bounded):
    found = left(done, ("cb/sam", step, last))
    assert (found.seconds, found.bounded) == (seconds, bounded)
    assert found.unmeasured == (seconds is None)


def test_cells_are_shared_but_none_by_two():
    cells = [("cb/sam", step, 1000) for step in (500, 0, 0)]
    assert left([measured("cb/sam")], *cells).seconds == 250
    cells[1] = ("cb/sam", 700, 1000)
    assert left([measured("cb/sam")], *cells, at_a_time=2).seconds == 100, "one needs 100 s alone"


def test_beyond_all_done_cells_in_words(tmp_path):
    folder = Folder(tmp_path, seeds=4)
    folder.done("cb/sam/seed-0", 100, 1000)
    folder.done("cb/sam/seed-1", 600, 2000)
    folder.lock("cb/sam/seed-2", "training", 3000, 9000, None)
    folder.failed("cb/sam/seed-3")
    # 0.1 and 0.3 seconds a step
    told = "20 min with one at a time (medians of done cells: 1 by the same task and method"
    bound = "1 to the last step, early stopping may end sooner"
    assert f"time left: at most {told}; {bound})" in " ".join(shown(folder.path).split())
    (folder.path / "cb/sam/seed-3/record.json").unlink()
    folder.checkpoint("cb/sam/seed-3", 2000)
    found = folder.look().time_left
    assert found == TimeLeft(6000 * 0.2, 1, {NEAR[0]: 1}, bounded=1, unmeasured=1)
    text = " ".join(shown(folder.path).split())
    assert f"time left: about {told}; {bound}; 1 more not measured: no done cell" in text
    (folder.path / "cb/sam/seed-2/lock-000000.json").unlink()
    folder.failed("cb/sam/seed-2")
    assert folder.look().time_left.unmeasured == 1
    assert "time left: not measured: no done cell went as far" in shown(folder.path)


def test_a_checkpoint_counts(tmp_path):
    folder = Folder(tmp_path, seeds=2)
    identity = {"settings": {}, "settings_hash": "", "inputs": {}}
    checkpoint.save(folder.path / "cb/sam/seed-0", 500, identity, {"a": 1})
    folder.done("cb/sam/seed-1")
    found = folder.look()
    assert (found.with_checkpoint, found.time_left.seconds) == (1, 50)
    assert checkpoint_step(folder.path / "cb/sam/seed-0") == 500
    assert "time left: about 50 s with one at a time (medians of done cells: 1 by the same" in (
        shown(folder.path)
    )


def test_what_cannot_be_used_is_broken(folder):
    folder.done("cb/sam/seed-0")
    target = folder.path / "rte/sam/seed-0"
    target.parent.mkdir(parents=True)
    (folder.path / "cb/sam/seed-0").rename(target)
    folder.done("cb/sam/seed-1")
    (folder.path / "cb/sam/seed-1" / DELTA).unlink()
    folder.done("cb/lora/seed-0")
    path = folder.path / "cb/lora/seed-0/record.json"
    path.write_text(path.read_text().replace('"settings": {}', '"settings": {"a": 1}'))
    (folder.path / "cb/lora/seed-1").touch()
    (folder.path / "rte/lora/seed-0").mkdir(parents=True)
    os.mkfifo(folder.path / "rte/lora/seed-0/record.json")
    found = folder.look()
    assert (found.done, found.waiting, found.time_left.seconds) == (0, 3, None)
    problems = {broken.path: broken.problem for broken in found.broken}
    altered = problems.pop("cb/lora/seed-0/record.json")
    assert altered.startswith("settings_hash is not that of the settings")
    assert problems == {
        f"cb/sam/seed-1/{DELTA}": "is missing, but the record is there",
        "cb/lora/seed-1": "cannot be read: Not a directory",
        "rte/sam/seed-0/record.json": "is the record of another cell: b/cb/sam/seed-0",
        "rte/lora/seed-0/record.json": "is not a regular file",
    }


def test_a_pipe_in_the_place_of_a_log_says_nothing(folder):
    place = "cb/sam/seed-0"
    folder.lock(place, "training", 50, 100, 0.5)
    os.mkfifo(folder.path / place / log.FILE_NAME)
    folder.checkpoint(place, 10)
    (folder.path / place / checkpoint.FOLDER / f"step-{'9' * 150}.0a.safetensors").touch()
    assert folder.look().running[0].step == 50
    (folder.path / place / "lock-000000.json").unlink()
    assert folder.look().with_checkpoint == 1


def test_many_failed_cells_and_long_lines(tmp_path):
    method = "a" * 60
    folder = Folder(tmp_path, methods=(method,), seeds=30)
    for seed in range(27):
        folder.failed(f"cb/{method}/seed-{seed}", "OSError: " + "no room " * 100)
    for seed in range(27, 30):
        owner = f"node-{seed}.{'cluster.' * 9}org:1234567"
        folder.lock(f"cb/{method}/seed-{seed}", "training", 123456, 500000, 0.9, owner=owner)
    folder.failed(f"cb/{method}/seed-0", None)
    lines = shown(folder.path).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("  cb/") for line in lines) == LISTED + 3
    assert f"  and {27 - LISTED} more" in lines
    assert len(lines) == 1 + 4 + (1 + 1 + 3 * (LISTED - 1) + 1) + 1, "three lines of an error"
    assert "seed-0: no reason given" in "\n".join(lines)
    assert lines[0].startswith("b: 30 cells: 0 done, 3 running, 27 failed, 0 waiting")
    for seed, row in zip(range(27, 30), lines[2:5], strict=True):
        cell, owner, phase, step, *score = row.split()
        assert cell.startswith("cb/aaa") and "a...a" in cell and cell.endswith(f"a/seed-{seed}")
        assert owner.startswith(f"node-{seed}.cl") and owner.endswith("org:1234567")
        assert (phase, step, score) == ("training", "123456/500000", ["90.0", "%"])


def test_a_benchmark_that_ended_has_no_time_left(tmp_path):
    folder = Folder(tmp_path, seeds=2)
    folder.failed("cb/sam/seed-0")
    folder.done("cb/sam/seed-1")
    assert shown(folder.path, "--watch", 60).rstrip().splitlines() == [
        "b: 2 cells: 1 done, 0 running, 1 failed, 0 waiting",
        "failed",
        "  cb/sam/seed-0: NotFinite: at step 3",
    ]


def test_all_benchmarks_below_a_directory(tmp_path, folder):
    names = ["fu2023/burn_in", "fu2023/figure3", "fu2023/figure5", "fu2023/table1", "quick"]
    for name in (*names, ".hidden/x"):
        Folder(tmp_path, name)
    Manifest(benchmark="x", tasks=[], methods=[], cells=[]).write(folder.path / "cb")
    assert [s.benchmark for s in status.look(tmp_path)] == ["b", *names]
    first, *others = shown(tmp_path).split("\n\n")
    assert first.startswith("b: 8 cells") and others[-1].startswith("quick: 1 cells")
    assert [s.benchmark for s in status.look(tmp_path / "fu2023/table1")] == ["fu2023/table1"]


def test_json_is_one_document(folder):
    folder.failed("cb/sam/seed-0")
    folder.lock("cb/lora/seed-0", "training", 500, 1000, 0.8125)
    (found,) = json.loads(shown(folder.path, "--json"))["benchmarks"]
    assert found["running"][0].pop("heartbeat_seconds") >= 0
    status = dataclasses.asdict(folder.look())
    status["running"][0].pop("heartbeat_seconds")
    assert found == json.loads(json.dumps(status))
    assert " ".join(found) == (
        "benchmark directory cells done waiting with_checkpoint running failed broken time_left"
    )
    assert " ".join(found["running"][0]) == "cell owner phase step steps score"
    assert found["failed"] == [{"cell": "cb/sam/seed-0", "error": "NotFinite: at step 3"}]
    assert " ".join(found["time_left"]) == "seconds at_a_time basis bounded unmeasured"


def test_bad_input_is_a_line_and_exit_code_2(tmp_path):
    def error(*arguments):
        result = CliRunner().invoke(app, ["status", *map(str, arguments)])
        assert result.exit_code == 2
        return result.stderr

    assert error(tmp_path / "no") == (
        f"error: {tmp_path}/no: is not a directory; expected <output> or one benchmark's\n"
    )
    assert error(tmp_path).startswith(f"error: {tmp_path}: no benchmark.json in it or below it; ")
    assert error(tmp_path, "--json").startswith("error: ")
    assert "leave out --watch" in " ".join(error(tmp_path, "--json", "--watch", 1).split())
    assert "--watch" in error(tmp_path, "--watch", 0)
    (tmp_path / "benchmark.json").write_text("{}")
    assert f"error: {tmp_path}/benchmark.json: tasks: Field required\n" in error(tmp_path)


def test_a_folder_that_cannot_be_searched_is_named(folder, caplog, monkeypatch):
    really = os.scandir

    def scandir(path):
        if Path(path).name in ("lost", "gone"):
            raise {"lost": PermissionError, "gone": FileNotFoundError}[Path(path).name](
                1, "no entry", str(path)
            )
        return really(path)

    (folder.path / "lost").mkdir()
    (folder.path / "gone").mkdir()
    monkeypatch.setattr(os, "scandir", scandir)
    folder.look()
    assert [r.message for r in caplog.records] == [
        f"{folder.path}/lost: cannot be searched: no entry"
    ]


@pytest.fixture
def read_only():
    """A benchmark with a running cell, all of it read-only; root becomes nobody for a while."""
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(Path(name))
        folder.lock("cb/sam/seed-0", "training", 5, 10, None, age=40)
        made = [path for path in folder.path.rglob("*") if path.is_dir()]
        Path(name).chmod(0o755)
        with unwritable(folder.path, *made):
            yield folder


def test_a_directory_that_cannot_be_written(read_only):
    with pytest.raises(PermissionError):
        (read_only.path / "cb/sam/seed-0/x").touch()
    before = sorted(read_only.path.rglob("*"))
    (running,) = read_only.look().running
    assert 40 <= running.heartbeat_seconds < 100
    assert sorted(read_only.path.rglob("*")) == before


def program(*arguments, stdout=subprocess.PIPE):
    return subprocess.Popen(
        [sys.executable, "-m", "jiant_sparse", "status", *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_nothing_heavy_is_imported(folder):
    script = (
        "import sys; from jiant_sparse.cli import app\n"
        f"app(['status', {str(folder.path)!r}], standalone_mode=False)\n"
        "print({'torch', 'numpy', 'transformers', 'jiant'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()", done


def test_watching_ends_with_the_last_cell(tmp_path):
    folder = Folder(tmp_path)
    folder.lock("cb/sam/seed-0", "training", 5, 10, None)
    watching = program(folder.path, "--watch", 0.1)
    assert watching.stdout.readline() == "b: 1 cells: 0 done, 1 running, 0 failed, 0 waiting\n"
    folder.done("cb/sam/seed-0")
    told, errors = watching.communicate(timeout=60)
    assert told.rstrip().splitlines()[-1] == "b: 1 cells: 1 done, 0 running, 0 failed, 0 waiting"
    assert (watching.returncode, errors) == (0, "")
    assert "\x1b" not in told and "\n\n" in told


def test_a_terminal_is_redrawn_until_ctrl_c(folder):
    terminal, its_end = os.openpty()
    watching = program(folder.path, "--watch", 0.1, stdout=its_end)
    os.close(its_end)
    told = b""
    while told.count(b"\x1b[H\x1b[2Jb: 8 cells: ") < 3:
        if not select.select([terminal], [], [], 60)[0]:
            watching.kill()
            pytest.fail(f"nothing more came than {told!r}")
        told += os.read(terminal, 1000)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=60)
    os.close(terminal)
    assert (watching.returncode, errors) == (0, "")


def test_a_real_cell_while_it_runs_and_when_it_was_killed(make_job, tmp_path):
    job = make_job(train={"max_steps": 4000, "checkpoint_every": 5})
    cell = PlannedCell(task="cb", method="full_tuning", seed=0)
    plan = Manifest(benchmark="b", tasks=["cb"], methods=["full_tuning"], cells=[cell])
    plan.write(tmp_path / "out/b")

    def work_with_a_quick_heart():
        lock.BEAT_SECONDS = 0.05
        work(job)

    def far_enough():
        (found,) = status.look(tmp_path / "out")
        return [cell for cell in found.running if cell.step > 5 and cell.score is not None]

    pid = in_child(work_with_a_quick_heart)
    try:
        (running,) = until(far_enough)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert (running.cell, running.phase) == ("cb/full_tuning/seed-0", "training")
    assert running.owner == f"{socket.gethostname()}:{pid}"
    assert 5 < running.step <= running.steps == 4000 and 0 <= running.score <= 1
    (found,) = status.look(tmp_path / "out")
    assert (found.running, found.waiting, found.with_checkpoint) == ((), 1, 1)
