"""A whole report and a whole comparison: what is on disk, and the same bytes from the same records.

What the tables and the terminal say is in tests/golden.
"""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.records import failure, plan, record, write

from jiant_sparse.errors import InputError
from jiant_sparse.report import build
from jiant_sparse.report.comparison import compare
from jiant_sparse.schema.manifest import Manifest


def references(page: Path) -> set[str]:
    with open(page.parent / "tables/significance_welch.csv", encoding="utf-8") as stream:
        return {row["reference"] for row in csv.DictReader(stream)}


def same(one: Path, other: Path) -> list[str]:
    """The files below `one`, if those below `other` have the same names and bytes."""
    found = [
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.*")}
        for root in (one, other)
    ]
    assert found[0].keys() == found[1].keys()
    assert not {name for name, content in found[0].items() if found[1][name] != content}
    return sorted(found[0])


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    records = [record("rte", m, k, 0.6 + 0.01 * k) for m in ("sam", "random") for k in range(3)]
    first, second = (write(tmp_path / name, *records) for name in "ab")
    for make in (build, lambda directory, out: compare([directory, second], output_dir=out)):
        one, other = (make(first, tmp_path / f"{make.__name__}{n}") for n in range(2))
        assert one.text == other.text
        files = same(one.page.parent, other.page.parent)
        if make is build:
            assert len(files) > 20 and references(one.page) == {"sam"}
    assert files == [
        "figures/ranks.png", "figures/ranks.svg", "index.html",
        "tables/comparison.csv", "tables/comparison.md", "tables/comparison.tex",
    ]  # fmt: skip
    assert not (first / "report").exists()


def test_a_report_of_own_data_has_nothing_of_the_paper(tmp_path: Path) -> None:
    like = {"task": {"name": "mine", "like": "cb", "metric": "acc"}}
    own = [
        record("mine", method, seed, 0.9 + seed / 100, setting=like, params=None)
        for method in ("sam", "full_tuning", "random")
        for seed in range(3)
    ]
    report = build(write(tmp_path, *own), reference="random")
    page = report.page.read_text(encoding="utf-8")
    for text in (report.text, page):
        assert "accuracy, as in" not in text and "comparable" not in text.casefold()
        assert "outperforms FullTuning" not in text
    assert not re.search('id="(published|verdicts|notes)"', page)
    names = {path.stem for path in (report.page.parent / "tables").glob("*.csv")}
    assert not names & {"published", "verdicts"}
    assert references(report.page) == {"random"}


def test_missing_failed_and_broken_cells_are_on_the_page(tmp_path: Path) -> None:
    error = "RuntimeError: diverged\nat 7"
    directory = write(tmp_path, record("rte", "sam", 0), failure("rte", "sam", 1, error))
    (directory / "rte/sam/seed-0/delta.safetensors").unlink()
    (directory / "rte/sam/seed-2").mkdir()
    (directory / "rte/sam/seed-2/record.json").write_text("{")
    plan(["rte", "cb"], ["sam", "bitfit"], 4).write(directory)
    report = build(directory)
    page = report.page.read_text("utf-8")
    assert (report.ok, report.failed, report.missing, report.unusable) == (1, 1, 14, 1)
    for text in (report.text, page):
        assert "1 ok, 1 failed, 14 missing, 1 unusable" in text
        assert "1 of 2 records have no delta.safetensors beside them, or another" in " ".join(
            text.split()
        )
    assert error in page and "cb / bitfit / seeds 0-3" in page
    assert "rte/sam/seed-2/record.json: file: Invalid JSON" in re.sub("</?code>", "", page)


def test_nothing_to_report_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: is not a directory; expected <output>/<bench"):
        build(tmp_path / "gone")
    with pytest.raises(InputError, match=r"no usable record.json; expected <task>/<method>/seed-"):
        build(tmp_path)
    directory = write(tmp_path, record("rte", "sam"))
    with pytest.raises(InputError, match=r"--reference is 'sma', .*did you mean sam\? known: sam"):
        build(directory, reference="sma")
    assert not (directory / "report").exists()


def test_a_manifest_is_strict(tmp_path: Path) -> None:
    plan(["rte"], ["sam"], 2).write(tmp_path)
    path = tmp_path / "benchmark.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 0'))
    with pytest.raises(InputError, match=r"benchmark.json: file: .*cell rte/sam/seed-0 is listed"):
        Manifest.read(tmp_path)
    path.write_text('{"benchmark": "b", "tasks": [], "methods": [], "cells": [], "cell": 1}')
    with pytest.raises(InputError, match=r"benchmark.json: cell: Extra inputs are not permitted"):
        Manifest.read(tmp_path)
    with pytest.raises(InputError, match=r"benchmark.json: cannot be read: No such file"):
        Manifest.read(tmp_path / "gone")


ALONE = """
import sys
absent, directory = sys.argv[1:]
class Absent:
    def find_spec(self, name, *_):
        if name.split(".")[0] in absent.split():
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Absent())
from jiant_sparse.cli import main
for options in ([], ["--compare", "--baseline", "published"]):
    sys.argv = ["x", "report", directory, *options]
    try:
        main()
    except SystemExit as end:
        assert not end.code, options
"""


def test_a_report_and_a_comparison_need_neither_torch_nor_jiant(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0))
    absent = "torch jiant transformers yaml adapters loralib"
    command = [sys.executable, "-c", ALONE, absent, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).count("1 ok, 0 failed") == 2
