"""A report's files: all of one report or none, whatever comes in between."""

import errno
import fcntl
import itertools
import multiprocessing
import os
import signal
import threading
from pathlib import Path

import pytest
from support.pages import table_of

from jiant_sparse.errors import InputError
from jiant_sparse.report import output
from jiant_sparse.report.figures import Figure
from jiant_sparse.report.page import render_template
from jiant_sparse.report.table import Cell

REPORT = '<p class="kicker">jiant_sparse · benchmark report</p>'
COMPARISON = '<p class="kicker">jiant_sparse · comparison</p>'


def put(target: Path, *names: str, text: str = "one", page: str = REPORT) -> Path:
    """A report of these tables and a figure, with `text` in each of its files."""
    tables = [table_of((Cell(text),), name=name) for name in names]
    drawn = [Figure("ranks", "Ranks", "", svg=f"<svg>{text}</svg>", png=text.encode())]
    return output.write(target, tables, drawn, f"{page}{text}")


def state(target: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in target.rglob("*")
        if path.is_file()
    }


def test_what_an_earlier_report_had_more_is_removed_and_nothing_else(tmp_path: Path) -> None:
    put(tmp_path, "results", "published")
    own = [tmp_path / "tables/mine.csv", tmp_path / "notes.txt", tmp_path / "figures/a.svg"]
    for path in own:
        path.write_text("mine")
    page = output.write(tmp_path, [table_of((Cell("x"),))], [], REPORT)
    assert page == tmp_path / "index.html"
    assert sorted(state(tmp_path)) == [
        *("figures/a.svg", "index.html", "notes.txt", "tables/mine.csv"),
        *("tables/results.csv", "tables/results.md", "tables/results.tex"),
    ]


@pytest.mark.parametrize("at", [0, 1, 4, 8])
def test_on_a_full_disk_the_earlier_report_stays_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    put(tmp_path, "results", "published")
    before, really, calls = state(tmp_path), Path.write_bytes, []

    def write_bytes(path: Path, content: bytes) -> int:
        calls.append(path)
        if len(calls) > at:
            really(path, content[:1])
            raise OSError(errno.ENOSPC, "No space left on device")
        return really(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
        put(tmp_path, "results", "published", text="two")
    assert state(tmp_path) == before


def kill(target: Path, at: int) -> bool:
    """A report in another process that is killed at its `at`-th rename; whether it was."""
    really, left = os.replace, itertools.count(at, -1)

    def replace(*paths: Path) -> None:
        if not next(left):
            os.kill(os.getpid(), signal.SIGKILL)
        really(*paths)

    def report() -> None:
        os.replace = replace
        put(target, "results", text="two")

    other = multiprocessing.get_context("fork").Process(target=report)
    other.start()
    other.join()
    return other.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("at", [0, 5])
def test_a_killed_report_leaves_no_page_and_the_next_one_clears_up(tmp_path: Path, at: int) -> None:
    """With five files before it, the page is the sixth to be renamed."""
    put(tmp_path, "results", "published")
    assert kill(tmp_path, at)
    assert not (tmp_path / "index.html").exists()
    assert any(name.endswith(".partial") for name in state(tmp_path))
    put(tmp_path, "results", text="two")
    assert not any(name.endswith(".partial") for name in state(tmp_path))
    assert (tmp_path / "index.html").read_text("utf-8").endswith("two")
    assert not kill(tmp_path, 6)


def test_two_reports_do_not_mix(tmp_path: Path) -> None:
    put(tmp_path, "results")
    before = state(tmp_path)
    other = threading.Thread(target=put, args=(tmp_path, "results"), kwargs={"text": "two"})
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    other.start()
    other.join(0.3)
    assert other.is_alive()
    assert state(tmp_path) == before
    os.close(handle)
    other.join(20)
    assert not other.is_alive()
    assert b"two" in state(tmp_path)["index.html"]


def test_without_locks_a_report_is_written_and_clears_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EBADF, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".index.html.x.partial").write_text("of another report")
    assert put(tmp_path, "results").exists()
    assert (tmp_path / ".index.html.x.partial").exists()


@pytest.mark.parametrize(
    ("there", "new", "kind"),
    [
        (REPORT, COMPARISON, "of a report"),
        (COMPARISON, REPORT, "of a comparison"),
        ("<h1>My site</h1>", REPORT, "not of a report"),
    ],
)
def test_another_kind_of_page_is_not_replaced(
    tmp_path: Path, there: str, new: str, kind: str
) -> None:
    (tmp_path / "index.html").write_text(there, "utf-8")
    before = state(tmp_path)
    with pytest.raises(InputError) as caught:
        put(tmp_path, "comparison", page=new)
    assert str(caught.value) == (
        f"{tmp_path}/index.html: is {kind} and would be replaced; give another --output-dir"
    )
    assert state(tmp_path) == before


def test_a_file_in_the_place_of_the_directory_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"^{tmp_path}/file: is not a directory$"):
        put(tmp_path / "file", "results")


def test_the_kinds_are_those_of_the_templates() -> None:
    folder = Path(output.__file__).parent / "page/templates"
    for name, kind in (("index.html", "a report"), ("compare.html", "a comparison")):
        assert output._kind((folder / name).read_bytes()) == kind
    # They stand behind the style.
    assert len(render_template("base.html").encode()) < output._HEAD_BYTES / 2
