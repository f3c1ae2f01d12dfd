"""The bar of a grid: on a terminal, and nothing but lines elsewhere."""

import io
import time

import pytest

from jiant_sparse.benchmark import lock, lock_file
from jiant_sparse.cli import progress
from jiant_sparse.host.control import Control


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def cell(tmp_path):
    return tmp_path / "b" / "cb" / "sam" / "seed-0"


def test_on_a_terminal_the_running_cell_and_its_step_are_shown(cell, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.01)
    control = Control()
    control.tell("training", 3, 60)
    with lock.acquire(cell, control), progress.Bar([cell, cell.parent], 1) as bar:
        bar.line("a line")
        bar.show(1)
        until = time.monotonic() + 5
        while "cb/sam/seed-0 3/60" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert "cb/sam/seed-0 3/60" in terminal.getvalue()
    assert "1/2" in terminal.getvalue()
    assert "a line\n" in terminal.getvalue()


def test_a_phase_without_steps_is_named_and_free_cells_are_not(cell, tmp_path):
    other = tmp_path / "b" / "cb" / "random" / "seed-0"
    control = Control()
    control.tell("selecting")
    with lock.acquire(cell, control):
        assert progress._shown([other, cell], 2) == ["cb/sam/seed-0 selecting"]
    assert progress._shown([other, cell], 2) == []


def test_no_more_directories_are_looked_at_than_can_be_running(cell, tmp_path, monkeypatch):
    looked = []
    really = lock_file.holder
    monkeypatch.setattr(lock_file, "holder", lambda found: looked.append(found) or really(found))
    with lock.acquire(cell, Control()):
        assert len(progress._shown([tmp_path / "free", cell, tmp_path / "more"], 1)) == 1
    assert looked == [tmp_path / "free", cell]


def test_elsewhere_there_are_lines_and_no_bar(cell, monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr("sys.stderr", plain)
    with progress.Bar([cell], 2) as bar:
        bar.line("[1/2] cb/sam")
        bar.show(1)
    assert plain.getvalue() == "[1/2] cb/sam\n"
