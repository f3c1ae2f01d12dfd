"""What a run and a grid show while they work: a bar on a terminal, elsewhere a line a minute."""

import io
import time

import pytest
from support.processes import until

from jiant_sparse.cli import progress
from jiant_sparse.grid import lock, lock_file
from jiant_sparse.schema.control import Control, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def cell(tmp_path):
    return tmp_path / "b" / "cb" / "sam" / "seed-0"


@pytest.fixture
def use(monkeypatch):
    """use(stream) -> the stream, which is stderr from now on; looks and lines come at once."""
    for name in ("LOOK_SECONDS", "LINE_SECONDS", "POLL_SECONDS", "FIRST_SECONDS"):
        monkeypatch.setattr(progress, name, 0.01)

    def replace(stream: io.StringIO) -> io.StringIO:
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return replace


def wait_for(text: str, stream: io.StringIO) -> None:
    until(lambda: text in stream.getvalue(), 30)


def at(step: int, score: float | None = None) -> Progress:
    return Progress("training", step, 1000, score)


def test_a_bar_on_a_terminal(cell, use):
    control, stderr = Control(), use(Terminal())
    control.tell("training", 3, 60)
    with lock.acquire(cell, control), progress.Bar([cell, cell.parent], 1, repr) as bar:
        bar.line("a line")
        bar.show(1)
        wait_for("cb/sam/seed-0 3/60", stderr)
    assert "1/2" in stderr.getvalue()
    assert "a line\n" in stderr.getvalue()
    assert "running" not in stderr.getvalue()


def test_lines_elsewhere(cell, tmp_path, use):
    asked = []
    control, stderr = Control(), use(io.StringIO())
    control.tell("training", 3, 60)

    def left(running):
        asked.append(running)
        return "at most 3 h"

    cells = [tmp_path / "free", cell, tmp_path / "more"]
    with lock.acquire(cell, control), progress.Bar(cells, 2, left) as bar:
        bar.line("[1/3] cb/sam")
        bar.show(1)
        wait_for("[1/3] 1 running: cb/sam/seed-0 3/60; time left: at most 3 h\n", stderr)
    assert asked[-1] == {cell: 3}
    assert "[1/3] cb/sam\n" in stderr.getvalue()
    with progress.Bar(cells, 2, left):
        wait_for("[0/3] 0 running; time left: at most 3 h\n", stderr)


def test_which_cells_are_named(cell, tmp_path, monkeypatch):
    looked = []
    really = lock_file.holder
    monkeypatch.setattr(lock_file, "holder", lambda found: looked.append(found) or really(found))
    control = Control()
    control.tell("selecting")
    places = [tmp_path / "free", cell, tmp_path / "more"]
    with lock.acquire(cell, control):
        running = progress._running(places, 1)
    assert progress._listed(running) == "cb/sam/seed-0 selecting", "a phase without steps"
    assert looked == places[:2], "no more are looked at than can run"
    assert progress._running(places, 1) == {}
    many = {tmp_path / str(number): Progress("training", 1, 2) for number in range(9)}
    assert progress._listed(many).count("1/2") == 8
    assert progress._listed(many).endswith(", ...")


def test_a_closed_stderr_ends_the_lines_alone():
    calls = []

    def closed():
        calls.append(1)
        raise BrokenPipeError

    with progress.every(0.001, closed):
        until(lambda: calls, 30)
        time.sleep(0.05)
    assert calls == [1]


LOADING = Progress()
CHOOSING = [(60 + 6 * n, Progress("selecting", batch=n, batches=100)) for n in range(11)]
SCORING = Progress("scoring", 1000, 1000, 0.5)


@pytest.mark.parametrize(
    ("bounded", "seen", "lines"),
    [
        # The first measured rate comes at once, then a line a minute.
        (
            True,
            [(now, at(now // 2)) for now in range(0, 135)],
            [
                "10 s: training, step 5 of 1,000, 2 s a step, at this rate at most 33 min left",
                "70 s: training, step 35 of 1,000, 2 s a step, at this rate at most 32 min left",
                "2 min: training, step 65 of 1,000, 2 s a step, at this rate at most 31 min left",
            ],
        ),
        # Without early stopping the time left is no bound.
        (
            False,
            [(0, at(0)), (20, at(10, 0.4567))],
            [
                "20 s: training, step 10 of 1,000, best dev 45.7 %, 2 s a step, "
                "at this rate about 33 min left"
            ],
        ),
        # A rate is that of the steps of this process and phase.
        (
            True,
            [(0, LOADING), (30, LOADING), (31, at(400)), (39, at(404)), (41, at(410))],
            ["41 s: training, step 410 of 1,000, 1 s a step, at this rate at most 10 min left"],
        ),
        # Before the first step nothing is measured.
        (True, [(0, at(0)), (59, at(0)), (60, at(0))], ["60 s: training, step 0 of 1,000"]),
        (
            True,
            [(60, LOADING), *CHOOSING, (180, SCORING), (239, SCORING), (240, SCORING)],
            [
                "60 s: loading",
                "2 min: selecting, batch 10 of 100, 6 s a batch, "
                "at this rate about 9 min to training",
                "3 min: scoring, best dev 50.0 %",
                "4 min: scoring, best dev 50.0 %",
            ],
        ),
    ],
)
def test_lines_of_a_run(bounded, seen, lines):
    told = progress.RunLines(1000.0, bounded=bounded)
    found = [told.due(1000.0 + now, where) for now, where in seen]
    assert [text for text in found if text] == lines


@pytest.mark.parametrize("bar", [False, True])
def test_where_a_bar_shows_the_training_only_the_rest_has_lines(bar, use):
    control, stderr = Control(), use(io.StringIO())
    with progress.told(control, bounded=True, bar=bar):
        wait_for("loading\n", stderr)
        control.tell("training", 1, 4)
        time.sleep(0.2)
        control.tell("scoring", 4, 4)
        wait_for("scoring\n", stderr)
    assert ("training, step 1 of 4" in stderr.getvalue()) is not bar
