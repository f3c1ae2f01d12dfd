"""Files that appear whole or not at all; seeds that depend on names alone."""

import os
from pathlib import Path

import pytest

from jiant_sparse import files
from jiant_sparse.errors import InputError, printable
from jiant_sparse.seeds import derive


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]


def test_results_are_as_readable_as_other_files(tmp_path):
    files.write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


def test_what_a_terminal_would_obey_is_escaped():
    assert printable("größe 長 'a' \\ b") == "größe 長 'a' \\ b"
    assert printable("a\n\x1b[2J\t\x9b\x00") == r"a\n\x1b[2J\t\x9b\x00"
    assert printable("\ud800 \u202e \u2028") == r"\ud800 \u202e \u2028"
    assert printable(Path("a\rb")) == r"a\rb"


def test_streams_of_different_names_or_seeds_differ():
    seeds = {derive(seed, *names) for seed in (0, 1) for names in ((), ("a",), ("a", "b"), ("ab",))}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Pinned: a change would silently move every random choice of every published run.
    assert derive(0, "train") == 2_247_946_608_620_987_588


def test_input_errors_cross_process_borders():
    import pickle

    error = pickle.loads(pickle.dumps(InputError("one", "two")))
    assert error.problems == ("one", "two")
    assert str(error) == "one\ntwo"


def test_what_killed_writes_left_is_removed_and_nothing_else(tmp_path):
    left = [".record.json.abcdef.partial", "checkpoint/.step-1.0123.partial", "checkpoint/.tmpAb12"]
    kept = ["record.json", "checkpoint/step-1.safetensors", "lock-000000.json", ".hidden"]
    for name in left + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    files.remove_partial(tmp_path)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()} == {*kept}


def test_a_killed_write_leaves_a_file_that_can_be_told(tmp_path):
    with files.replacing(tmp_path / "a.json") as temporary:
        assert temporary.name.startswith(".a.json.")
        assert temporary.name.endswith(".partial")


def test_input_is_read_from_regular_files_of_bounded_size(tmp_path):
    good = tmp_path / "good"
    good.write_bytes(b"abc")
    (tmp_path / "link").symlink_to(good)
    assert files.read_input(good, 3) == files.read_input(tmp_path / "link", 3) == b"abc"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, reason in (
        (tmp_path / "pipe", "is not a regular file"),
        (tmp_path, "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "absent", "cannot be read: No such file or directory"),
        (tmp_path / "loop", "cannot be read: Too many levels of symbolic links"),
        (tmp_path / "a\0b", "cannot be read: embedded null byte"),
    ):
        with pytest.raises(InputError) as caught:
            files.read_input(path, 3)
        assert str(caught.value) == f"{path}: {reason}"
    with pytest.raises(InputError, match=r"good: has 3 bytes; at most 2 are read"):
        files.check_regular(good, 2)
