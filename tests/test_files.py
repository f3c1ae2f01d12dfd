"""Files that appear whole or not at all; seeds that depend on names alone."""

import os
import re
from functools import partial
from pathlib import Path

import pytest
from support.refusals import refusal

from jiant_sparse import files, seeds
from jiant_sparse.errors import InputError, printable
from jiant_sparse.seeds import derive


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "file"
    files.write_text(path, "old")
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        # A killed write leaves a file that can be told.
        assert (temporary.name[:6], temporary.suffix) == (".file.", ".partial")
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file"]


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
        assert refusal(files.read_input, path, 3) == f"{path}: {reason}"
    assert "good: has 3 bytes; at most 2 are read" in refusal(files.check_regular, good, 2)


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.0, "1", None, 10**400])
def test_a_seed_is_a_whole_number_of_63_bits(seed):
    for use in (seeds.check, derive):
        assert re.match(
            r"the seed is .*; it must be a whole number in \[0, 2\^", refusal(use, seed)
        )


def test_seeds_in_digits():
    assert [seeds.parse(text) for text in ("0", "7", str(2**63 - 1))] == [0, 7, 2**63 - 1]
    for text in ("010", "1_0", "+1", "-1", " 1", "1 ", "1\n", "0x1", "1e3", "1.0", "", "٣"):
        assert "the seed is " in refusal(seeds.parse, text)
    for text in (str(2**63), "9" * 5000):
        assert "it must be a whole number in [0, 2^63)" in refusal(seeds.parse, text)


def test_a_directory_to_write_into_is_there_or_can_be_made(tmp_path, monkeypatch):
    refused = partial(refusal, files.check_directory)
    for good in (tmp_path, tmp_path / "a" / "b", tmp_path / ("n" * 255)):
        files.check_directory(good)
    monkeypatch.chdir(tmp_path)
    files.check_directory(Path("relative"))
    files.check_directory(Path())
    assert not list(tmp_path.iterdir()), "nothing is made"
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to(tmp_path)
    files.check_directory(tmp_path / "link" / "new")
    for name in ("file", "dangling", "loop"):
        assert refused(tmp_path / name) == f"{tmp_path / name}: is not a directory"
        below = tmp_path / name / "a" / "b"
        assert refused(below) == f"{below}: cannot be made: {tmp_path / name} is not a directory"
    long = tmp_path / ("é" * 150) / "x"
    assert (
        refused(long) == f"{long}: cannot be made: a name has 300 bytes; at most 255 are possible"
    )
    deep = tmp_path.joinpath(*["d" * 200] * 20)
    assert "cannot be made: the path has" in refused(deep)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    assert refused(tmp_path) == f"{tmp_path}: cannot be written into"
    new = tmp_path / "new" / "er"
    assert refused(new) == f"{new}: cannot be made: {tmp_path} cannot be written into"


@pytest.mark.parametrize("name", ["a", "A1", "a.b", "a-", "a_", "0", "x" * 200])
def test_names_of_folders(name):
    assert files.is_folder_name(name)
    for wrong in ("", ".", "..", f"{name}.", f".{name}", f"_{name}", f"{name}/b", f"{name}\n", "é"):
        assert not files.is_folder_name(wrong)
    assert not files.is_folder_name("x" * 201)
