"""What a run and a grid tell while they work: a bar on a terminal, elsewhere a line a minute."""

import io
import time

import pytest

from jiant_sparse.cli import progress
from jiant_sparse.grid import lock, lock_file
from jiant_sparse.schema.control import Control, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def cell(tmp_path):
    return tmp_path / "b" / "cb" / "sam" / "seed-0"


def unknown(running) -> str:
    return "not measured"


def wait_for(text: str, stream: io.StringIO) -> None:
    until = time.monotonic() + 5
    while text not in stream.getvalue():
        assert time.monotonic() < until, stream.getvalue()
        time.sleep(0.01)


def test_on_a_terminal_the_running_cell_and_its_step_are_shown(cell, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    control = Control()
    control.tell("training", 3, 60)
    with lock.acquire(cell, control), progress.Bar([cell, cell.parent], 1, unknown) as bar:
        bar.line("a line")
        bar.show(1)
        wait_for("cb/sam/seed-0 3/60", terminal)
    assert "1/2" in terminal.getvalue()
    assert "a line\n" in terminal.getvalue()
    assert "running" not in terminal.getvalue()


def test_a_phase_without_steps_is_named_and_free_cells_are_not(cell, tmp_path):
    other = tmp_path / "b" / "cb" / "random" / "seed-0"
    control = Control()
    control.tell("selecting")
    with lock.acquire(cell, control):
        assert progress._listed(progress._running([other, cell], 2)) == "cb/sam/seed-0 selecting"
    assert progress._running([other, cell], 2) == {}


def test_no_more_cells_are_named_than_a_line_holds(tmp_path):
    told = lock_file.Progress(phase="training", step=1, steps=2, score=None)
    running = {tmp_path / str(number): told for number in range(9)}
    listed = progress._listed(running)
    assert listed.count("1/2") == 8
    assert listed.endswith(", ...")


def test_no_more_directories_are_looked_at_than_can_be_running(cell, tmp_path, monkeypatch):
    looked = []
    really = lock_file.holder
    monkeypatch.setattr(lock_file, "holder", lambda found: looked.append(found) or really(found))
    with lock.acquire(cell, Control()):
        assert len(progress._running([tmp_path / "free", cell, tmp_path / "more"], 1)) == 1
    assert looked == [tmp_path / "free", cell]


def test_elsewhere_there_are_lines_and_no_bar(cell, monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr("sys.stderr", plain)
    with progress.Bar([cell], 2, unknown) as bar:
        bar.line("[1/2] cb/sam")
        bar.show(1)
    assert plain.getvalue() == "[1/2] cb/sam\n"


def test_elsewhere_a_grid_tells_every_minute_what_ended_what_runs_and_the_time_left(
    cell, tmp_path, monkeypatch
):
    plain, asked = io.StringIO(), []
    monkeypatch.setattr("sys.stderr", plain)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    control = Control()
    control.tell("training", 3, 60)

    def left(running):
        asked.append(running)
        return "at most 3 h"

    cells = [tmp_path / "free", cell, tmp_path / "more"]
    with lock.acquire(cell, control), progress.Bar(cells, 2, left) as bar:
        bar.show(1)
        wait_for("[1/3] 1 running: cb/sam/seed-0 3/60; time left: at most 3 h\n", plain)
    assert asked[-1] == {cell: 3}
    with progress.Bar(cells, 2, left):
        wait_for("[0/3] 0 running; time left: at most 3 h\n", plain)


def test_a_line_that_cannot_be_printed_ends_the_lines_and_nothing_else():
    calls = []

    def closed():
        calls.append(1)
        raise BrokenPipeError

    with progress.every(0.001, closed):
        until = time.monotonic() + 5
        while not calls and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.05)
    assert calls == [1]


def lines(*seen, bounded=True) -> list[tuple[float, str]]:
    """What is told, and when, of a run that began at 1000 and was looked at as `seen` says."""
    told = progress.RunLines(1000.0, bounded=bounded)
    found = ((now, told.due(1000.0 + now, where)) for now, where in seen)
    return [(now, text) for now, text in found if text]


def training(step: int, score: float | None = None) -> Progress:
    return Progress("training", step, 1000, score)


def test_the_first_measured_rate_is_told_at_once_and_then_a_line_a_minute():
    every_second = [(now, training(now // 2)) for now in range(0, 200)]
    assert lines(*every_second) == [
        (10, "10 s: training, step 5 of 1,000, 2 s a step, at this rate at most 33 min left"),
        (70, "70 s: training, step 35 of 1,000, 2 s a step, at this rate at most 32 min left"),
        (130, "2 min: training, step 65 of 1,000, 2 s a step, at this rate at most 31 min left"),
        (190, "3 min: training, step 95 of 1,000, 2 s a step, at this rate at most 30 min left"),
    ]


def test_without_early_stopping_the_time_left_is_no_bound_and_the_best_score_is_told():
    ((_, text),) = lines((0, training(0)), (20, training(10, 0.4567)), bounded=False)
    assert text == (
        "20 s: training, step 10 of 1,000, best dev 45.7 %, 2 s a step, "
        "at this rate about 33 min left"
    )


def test_a_rate_is_that_of_the_steps_of_this_process_and_phase():
    seen = [(0, Progress()), (30, Progress()), (31, training(400)), (39, training(404))]
    assert lines(*seen, (41, training(410))) == [
        (41, "41 s: training, step 410 of 1,000, 1 s a step, at this rate at most 10 min left")
    ]
    # No step is done yet, so nothing is measured.
    assert lines((0, training(0)), (59, training(0)), (60, training(0))) == [
        (60, "60 s: training, step 0 of 1,000")
    ]


def test_loading_choosing_and_scoring_are_told_too():
    choosing = [(60 + 6 * n, Progress("selecting", batch=n, batches=100)) for n in range(11)]
    scoring = Progress("scoring", 1000, 1000, 0.5)
    assert lines((60, Progress()), *choosing, (180, scoring), (239, scoring), (240, scoring)) == [
        (60, "60 s: loading"),
        (
            120,
            "2 min: selecting, batch 10 of 100, 6 s a batch, at this rate about 9 min to training",
        ),
        (180, "3 min: scoring, best dev 50.0 %"),
        (240, "4 min: scoring, best dev 50.0 %"),
    ]


@pytest.mark.parametrize("bar", [False, True])
def test_where_a_bar_shows_the_training_only_the_rest_has_lines(bar, monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr("sys.stderr", plain)
    for name in ("POLL_SECONDS", "LINE_SECONDS", "FIRST_SECONDS"):
        monkeypatch.setattr(progress, name, 0.001)
    control = Control()
    with progress.told(control, bounded=True, bar=bar):
        wait_for("loading\n", plain)
        control.tell("training", 1, 4)
        time.sleep(0.05)
        control.tell("scoring", 4, 4)
        wait_for("scoring\n", plain)
    assert ("training, step 1 of 4" in plain.getvalue()) is not bar
