"""Whatever lies among the records: it is named, counted and passed over, and the rest counts."""

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest
from support.records import plan, record, write

from jiant_sparse import files
from jiant_sparse.errors import InputError
from jiant_sparse.report.collect import CELL_LEVEL, LARGEST_BYTES, Collection, collect
from jiant_sparse.schema.record import CellKey, Cost, Primary


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    return write(tmp_path, record("rte", "sam", 0), record("rte", "sam", 1))


def spoil(bench: Path, content: bytes, place: str = "cb/sam/seed-0") -> Path:
    path = bench / place / "record.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def told(collection: Collection) -> dict[str, tuple[str, ...]]:
    assert [item.cell.seed for item in collection.records] == [0, 1]
    return {item.path: item.problems for item in collection.skipped}


def valid(**changes: object) -> bytes:
    text = record("cb", "sam", 0).model_dump_json()
    return json.dumps(json.loads(text) | changes).encode()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (bytes(range(256)) * 9, "file: Invalid JSON: expected value at line 1 column 1"),
        (valid().replace(b"bench", b"b\xff"), "file: Invalid JSON: invalid unicode code point"),
        (valid().replace(b"bench", rb"b\ud800"), "file: Invalid JSON: unexpected end of hex"),
        (valid(settings={"a": None}).replace(b"null", b"[" * 5000 + b"]" * 5000, 1), "recursion"),
        (valid().replace(b'"seed": 0', b'"seed": ' + b"9" * 5000, 1), "number out of range"),
        (b"[]", "file: Input should be an object"),
        (valid(settings={"a": float("nan")}), "settings hold a number that is not finite or too"),
        (valid(schema_version=3), "schema_version is 3; this jiant-sparse reads 1 or 2; a newer o"),
        (valid(schema_version="one"), 'schema_version is "one"; it must be 1 or 2'),
        (valid(schema_version=0), "schema_version is 0; it must be 1 or 2"),
    ],
)
def test_a_file_that_is_no_record_is_named(bench: Path, content: bytes, problem: str) -> None:
    spoil(bench, content)
    ((path, problems),) = told(collect(bench)).items()
    assert path == "cb/sam/seed-0/record.json"
    assert len(problems) == 1
    assert problem in problems[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"primary": Primary(name="acc", dev=0.7, test=70.2)},
            "primary.test is 70.2; it must be a",
        ),
        (
            {"primary": Primary(name="acc", dev=0, test=0, majority=55)},
            "primary.majority is 55; it",
        ),
        ({"metrics": {"dev": {"acc": -1.5}}}, "metrics.dev.acc is -1.5; it must be a fraction"),
        ({"history": [(1, 0.5), (2, 2.0)]}, "history: score at step 2 is 2; it must be a fraction"),
        ({"history": [(-1, 0.5)]}, "history: step is -1; it must be from 0 to 2^63"),
        ({"steps": -3}, "steps is -3; it must be from 0 to 2^63"),
        ({"cost": Cost(train_seconds=1e300)}, "cost.train_seconds is 1e+300; it must be from 0 to"),
        ({"setting": {"x": [{"y": 10**400}]}}, "settings hold a number that is not finite or too"),
        (
            {"setting": {"x": -(10**400)}},
            "settings hold a number that is not finite or too large for a float",
        ),
    ],
)
def test_a_number_that_no_run_can_have_is_named(
    bench: Path, tmp_path: Path, changes: dict, problem: str
) -> None:
    write(tmp_path, record("cb", "sam", 0, **changes))
    (problems,) = told(collect(bench)).values()
    assert problem in problems[0]


def test_usual_extremes_count(tmp_path: Path) -> None:
    extreme = record("rte", "sam", 1, 1.0, setting={"x": -1.5, "y": True, "z": "1e999"})
    lowest = record("rte", "sam", 0, primary=Primary(name="mcc", dev=-1.0, test=None))
    assert not told(collect(write(tmp_path, extreme, lowest)))


def test_a_huge_file_is_not_read(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = spoil(bench, valid())
    with open(path, "ab") as stream:
        stream.truncate(LARGEST_BYTES + 1)
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: read(p) if p != path else pytest.fail("read"))
    assert told(collect(bench)) == {
        "cb/sam/seed-0/record.json": ("has 10000001 bytes; a record has at most 10000000",)
    }


def test_what_is_no_file_is_not_waited_for(bench: Path) -> None:
    for kind in ("directory", "linked", "pipe", "socket", "gone", "self"):
        (bench / kind / "sam/seed-0").mkdir(parents=True)
    (bench / "directory/sam/seed-0/record.json").mkdir()
    (bench / "linked/sam/seed-0/record.json").symlink_to(bench)
    (bench / "self/sam/seed-0/record.json").symlink_to("record.json")
    os.mkfifo(bench / "pipe/sam/seed-0/record.json")
    (bench / "gone/sam/seed-0/record.json").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(bench / "socket/sam/seed-0")
        server.bind("record.json")
        os.chdir(here)
        found = told(collect(bench))
    assert found == {
        "gone/sam/seed-0/record.json": ("cannot be read: No such file or directory",),
        "linked/sam/seed-0/record.json": ("is not a file",),
        "pipe/sam/seed-0/record.json": ("is not a file",),
        "self/sam/seed-0/record.json": ("cannot be read: Too many levels of symbolic links",),
        "socket/sam/seed-0/record.json": ("is not a file",),
    }


def test_a_directory_or_file_that_cannot_be_read_is_named(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a stand-in: where tests run as root, permissions keep nobody out."""
    closed, file = bench / "cb", spoil(bench, valid(), "wsc/sam/seed-0")
    closed.mkdir()
    really = os.scandir

    def scandir(path: Path) -> object:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return really(path)

    def opened(path: Path, mode: str) -> object:
        if path == file:
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(files, "open", opened, raising=False)
    assert told(collect(bench)) == {
        "cb": ("cannot be read: Permission denied",),
        "wsc/sam/seed-0/record.json": ("cannot be read: Permission denied",),
    }


def test_links_are_followed_to_cells_but_never_in_a_circle(bench: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "scratch", record("cb", "sam", 0), record("wsc", "sam", 0))
    (bench / "cb").symlink_to(other / "cb")
    (bench / "wsc/sam").mkdir(parents=True)
    (bench / "wsc/sam/seed-0").symlink_to(other / "wsc/sam/seed-0")
    (bench / "again").symlink_to(bench)
    (bench / "rte/above").symlink_to(tmp_path)
    (bench / "self").symlink_to("self")
    # One below a cell is none of a report's business, wherever it leads.
    (bench / "rte/sam/seed-0/deep").symlink_to(bench)
    found = collect(bench)
    assert {item.cell.task for item in found.records} == {"rte", "cb", "wsc"}
    circle = ("is a link to a directory that it lies in; not followed",)
    assert {item.path: item.problems for item in found.skipped} == {
        "again": circle,
        "rte/above": circle,
        "self": ("cannot be read: Too many levels of symbolic links",),
    }


def test_two_links_that_lead_to_each_other_come_to_an_end(bench: Path) -> None:
    for one, two in (("a", "b"), ("b", "a")):
        (bench / one).mkdir()
        (bench / one / "to").symlink_to(bench / two)
    found = told(collect(bench))
    assert not any(name.count("/") > CELL_LEVEL for name in found)


def test_a_copy_of_a_cell_counts_once(bench: Path) -> None:
    copy = (bench / "rte/sam/seed-0/record.json").read_bytes()
    spoil(bench, copy, "rte/sam/seed-2")
    spoil(bench, copy, "rte/sam/seed-00")
    (bench / "old").symlink_to("rte")
    expected = ("holds the cell whose place is rte/sam/seed-0/record.json",)
    found = told(collect(bench))
    assert found.pop("old/sam/seed-1/record.json") != expected
    assert found == dict.fromkeys(
        (
            "old/sam/seed-0/record.json",
            "old/sam/seed-00/record.json",
            "old/sam/seed-2/record.json",
            "rte/sam/seed-00/record.json",
            "rte/sam/seed-2/record.json",
        ),
        expected,
    )


def test_a_record_of_another_benchmark_is_named(bench: Path, tmp_path: Path) -> None:
    name = "x" * 5000
    foreign = record("cb", "sam", 0, cell=CellKey(benchmark=name, task="cb", method="sam", seed=0))
    foreign.write(bench / "cb/sam/seed-0")
    ((path, (problem,)),) = told(collect(bench)).items()
    assert path == "cb/sam/seed-0/record.json"
    assert problem.startswith("cell.benchmark is 'xxx")
    assert len(problem) < 250


def test_the_products_own_directories_are_not_looked_into(bench: Path) -> None:
    own = [
        "report/x/seed-0",
        ".features/x/seed-0",
        "rte/sam/seed-0/checkpoint",
        "rte/sam/seed-0/jiant",
    ]
    for place in own:
        spoil(bench, b"none of a report's business", place)
    assert not told(collect(bench))
    spoil(bench, b"{", "rte/report/seed-0")
    spoil(bench, b"{", "rte/sam/seed-0/other")
    assert [*told(collect(bench))] == [
        "rte/report/seed-0/record.json",
        "rte/sam/seed-0/other/record.json",
    ]


def test_a_planned_task_may_be_called_report(tmp_path: Path) -> None:
    bench = write(tmp_path, record("report", "sam", 0), record("rte", "sam", 0))
    assert len(collect(bench).records) == 1
    plan(["report", "rte"], ["sam"], 1).write(bench)
    assert len(collect(bench).records) == 2


def test_directories_may_be_deep(bench: Path) -> None:
    here = os.getcwd()
    os.chdir(bench)
    for _ in range(40):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(here)
    ((path, problems),) = told(collect(bench)).items()
    assert problems == ("cannot be read: File name too long",)
    assert len(path) < 250
    assert " ... " in path


def test_many_levels_need_no_stack(bench: Path) -> None:
    here = os.getcwd()
    os.chdir(bench)
    for _ in range(1500):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(here)
    try:
        assert not told(collect(bench))
        (bench / "rte").rename(bench.parent / "rte")
        with pytest.raises(InputError, match="no usable record.json"):
            collect(bench)
    finally:
        # Python's own rmtree, with which pytest cleans up, does need a stack.
        subprocess.run(["rm", "-rf", bench / "d"], check=True)


def test_a_name_that_is_not_utf8_can_be_printed(bench: Path) -> None:
    place = os.path.join(os.fsencode(bench), b"c\xffb", b"sam", b"seed-0")
    os.makedirs(place)
    with open(os.path.join(place, b"record.json"), "wb") as stream:
        stream.write(b"{")
    ((path, _),) = told(collect(bench)).items()
    assert path == "c\\xffb/sam/seed-0/record.json"


def test_only_the_first_problems_are_told_and_none_at_length(bench: Path) -> None:
    spoil(bench, valid(history=[["x" * 1000, 0]] * 1000, **{"k" * 5000: 1}))
    ((_, problems),) = told(collect(bench)).items()
    assert len(problems) == 6
    assert problems[-1] == "and 996 more"
    assert max(map(len, problems)) < 250


def test_without_a_usable_record_the_reasons_are_the_error(tmp_path: Path) -> None:
    for seed in range(12):
        spoil(tmp_path, b"{", f"cb/sam/seed-{seed}")
    with pytest.raises(InputError) as caught:
        collect(tmp_path)
    first, *others = caught.value.problems
    assert first.endswith("no usable record.json; expected <task>/<method>/seed-<k>/record.json")
    assert len(others) == 11
    assert others[0].startswith(f"{tmp_path}/cb/sam/seed-0/record.json: file: Invalid JSON")
    assert others[-1] == f"{tmp_path}: and 2 more"


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_a_benchmark_further_down_is_offered(tmp_path: Path, levels: int) -> None:
    below = tmp_path.joinpath(*"abc"[:levels])
    plan(["rte"], ["sam"], 1).write(below)
    with pytest.raises(InputError, match=f"no benchmark's directory; give one of {below}$"):
        collect(tmp_path)
