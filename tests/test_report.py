"""The report's numbers, gaps and files, from records that are fabricated here."""

import csv
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from support.records import failure, plan, record, write

from jiant_sparse.errors import InputError
from jiant_sparse.report import build
from jiant_sparse.schema.manifest import Manifest


def rows_of(report, table: str = "results") -> dict[tuple[str, str], dict[str, str]]:
    path = report.page.parent / "tables" / f"{table}.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        return {(row["task"], row["method"]): row for row in csv.DictReader(stream)}


def test_csv_holds_what_statistics_says(tmp_path: Path) -> None:
    values = {"sam": [0.701, 0.722, 0.744], "random": [0.69, 0.75]}
    records = [record("rte", m, k, v) for m, vs in values.items() for k, v in enumerate(vs)]
    report = build(write(tmp_path, *records))
    rows = rows_of(report)
    for method, found in values.items():
        row = rows["rte", method]
        assert row["n"] == str(len(found))
        assert float(row["mean"]) == pytest.approx(100 * statistics.mean(found), abs=1e-6)
        assert float(row["std"]) == pytest.approx(100 * statistics.pstdev(found), abs=1e-6)
        assert float(row["tuned_percent"]) == 0.5
        assert float(row["changed_percent"]) == 0.499
    sam = rows["rte", "sam"]
    assert (sam["rank"], rows["rte", "random"]["rank"], sam["benchmark"]) == ("1", "2", "bench")
    assert (sam["std_rank"], rows["rte", "random"]["std_rank"]) == ("1", "2")
    beside = rows_of(report, "published")["rte", "sam"]
    assert (beside["published_mean"], beside["published_std"]) == ("76.79", "1.72")
    gap = 100 * statistics.mean(values["sam"]) - 76.79
    assert float(beside["difference"]) == pytest.approx(gap, abs=1e-6)
    assert (beside["word"], beside["reasons"]) == ("lower", "")


def test_a_report_of_own_data_has_nothing_of_the_paper(tmp_path: Path) -> None:
    like = {"task": {"name": "mine", "like": "cb", "metric": "acc"}}
    own = [
        record("mine", method, seed, 0.9 + seed / 100, setting=like)
        for method in ("sam", "full_tuning", "random")
        for seed in range(3)
    ]
    report = build(write(tmp_path / "own", *own))
    page = report.page.read_text(encoding="utf-8")
    for text in (report.text, page):
        assert "accuracy, as in" not in text and "comparable" not in text.casefold()
        assert "outperforms FullTuning" not in text
    assert not re.search('id="(published|verdicts|notes)"', page)
    names = {path.stem for path in (report.page.parent / "tables").glob("*.csv")}
    assert not names & {"published", "verdicts"} and "significance_welch" in names
    beside = build(write(tmp_path / "beside", *own, record("cb", "sam", 0, 0.9)))
    assert "CB: accuracy, as in the paper." in beside.text
    assert "outperforms FullTuning" in beside.text
    rows = rows_of(beside, "published")
    assert {task for task, _ in rows} == {"cb"}


def test_scores_without_their_delta_count_and_are_told(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record("rte", "sam", seed, 0.7) for seed in range(3)))
    told = "have no delta.safetensors beside them, or another"
    assert told not in build(directory).text
    (directory / "rte/sam/seed-1/delta.safetensors").unlink()
    report = build(directory)
    said = (
        f"1 of 3 records {told}: their scores count, but cannot be recomputed; such as "
        "rte/sam/seed-1."
    )
    assert said in " ".join(report.text.split()) and said in report.page.read_text("utf-8")
    assert rows_of(report)["rte", "sam"]["n"] == "3"


def test_unknown_is_empty_in_the_csv_and_never_zero(tmp_path: Path) -> None:
    lone = record("sst", "sam", 0, 0.9, params=None)
    report = build(write(tmp_path, lone))
    row = rows_of(report)["sst", "sam"]
    unknown = ("std", "std_rank", "majority", "tuned_percent", "changed_percent", "missing")
    assert [row[name] for name in unknown] == [""] * len(unknown)
    # Nothing is published of it.
    assert not (report.page.parent / "tables" / "published.csv").exists()
    assert (row["n"], row["mean"], row["failed"]) == ("1", "90.0", "0")


def test_missing_and_failed_cells_are_seen_everywhere(tmp_path: Path) -> None:
    directory = write(
        tmp_path, record("rte", "sam", 0), failure("rte", "sam", 1, "RuntimeError: diverged\nat 7")
    )
    plan(["rte", "cb"], ["sam", "bitfit"], 4).write(directory)
    report = build(directory)
    page = report.page.read_text("utf-8")
    assert (report.ok, report.failed, report.missing, report.unusable) == (1, 1, 14, 0)
    assert "1 ok, 1 failed, 14 missing" in report.text and "1 ok, 1 failed, 14 missing" in page
    assert "failed: rte / sam seed 1: RuntimeError: diverged" in report.text
    assert "missing: rte / sam seeds 2, 3" in report.text
    assert "missing: cb / bitfit seeds 0-3" in report.text
    assert "RuntimeError: diverged\nat 7" in page and "cb / bitfit / seeds 0-3" in page
    rows = rows_of(report)
    assert (rows["rte", "sam"]["missing"], rows["rte", "sam"]["failed"]) == ("2", "1")
    empty = rows["cb", "bitfit"]
    assert (empty["n"], empty["mean"], empty["rank"], empty["missing"]) == ("0", "", "", "4")
    # What the paper says stands there all the same; whether it is comparable is not known.
    beside = rows_of(report, "published")["cb", "bitfit"]
    assert (beside["published_mean"], beside["word"], beside["difference"]) == ("86.96", "", "")
    assert re.search(r"bitfit +4 missing +4 missing +incomplete 0/2", report.text)


def test_variants_of_a_method_are_known_by_their_settings(tmp_path: Path) -> None:
    variant = {"method": {"name": "sam"}}
    report = build(write(tmp_path, record("cb", "sam_twice", 0, setting=variant)))
    beside = rows_of(report, "published")["cb", "sam_twice"]
    assert beside["published_mean"] == "88.93"
    assert "sam_twice" in report.text


def test_broken_and_foreign_records_are_named_and_skipped(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0))
    for place, text in {"rte/sam/seed-1": "{", "rte/sam/seed-2": '{"schema_version": 3}'}.items():
        (directory / place).mkdir(parents=True)
        (directory / place / "record.json").write_text(text)
    record("rte", "sam", 0).write(directory / "elsewhere")
    (directory / "rte" / "sam" / "seed-5" / "record.json").mkdir(parents=True)
    other = record("rte", "sam", 3)
    cell = other.cell.model_copy(update={"benchmark": "other"})
    other.model_copy(update={"cell": cell}).write(directory / "rte" / "sam" / "seed-3")
    plan(["rte"], ["sam"], 1).write(directory)
    report = build(directory)
    page = report.page.read_text("utf-8")
    assert (report.ok, report.unusable) == (1, 4)
    for text in (report.text, page):
        assert "1 ok, 0 failed, 0 missing, 4 unusable" in text
        assert "rte/sam/seed-1/record.json: file: Invalid JSON" in re.sub("</?code>", "", text)
    assert "elsewhere/record.json: holds the cell whose place is rte/sam/seed-0" in report.text
    assert "cell.benchmark is 'other'; this benchmark is 'bench'" in report.text


def test_nothing_to_report_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone: is not a directory; expected <output>/<bench"):
        build(tmp_path / "gone")
    with pytest.raises(InputError, match=r"no usable record.json; expected <task>/<method>/seed-"):
        build(tmp_path)
    assert not (tmp_path / "report").exists()
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(InputError) as caught:
        build(tmp_path)
    assert any("record.json: file: Input should be an object" in p for p in caught.value.problems)


def test_manifest_is_strict_and_survives_a_round_trip(tmp_path: Path) -> None:
    manifest = plan(["rte"], ["sam"], 2)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    path = tmp_path / "benchmark.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 0'))
    with pytest.raises(
        InputError, match=r"benchmark.json: file: .*cell rte/sam/seed-0 is listed tw"
    ):
        Manifest.read(tmp_path)
    path.write_text('{"benchmark": "b", "tasks": [], "methods": [], "cells": [], "cell": 1}')
    with pytest.raises(InputError, match=r"benchmark.json: cell: Extra inputs are not permitted"):
        Manifest.read(tmp_path)
    with pytest.raises(InputError, match=r"benchmark.json: cannot be read: No such file"):
        Manifest.read(tmp_path / "gone")


def test_report_runs_without_torch_and_jiant(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0))
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'jiant', 'transformers', 'yaml', 'adapters', 'loralib'):\n"
        "            raise ImportError(f'{name} is not installed')\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from pathlib import Path\n"
        "from jiant_sparse.report import build\n"
        "print(build(Path(sys.argv[1])).text)\n"
    )
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", code, str(directory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 ok, 0 failed" in done.stdout


def test_a_second_report_removes_what_it_does_not_have(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record("rte", m, k) for m in ("sam", "random") for k in range(3)))
    target = tmp_path / "out"
    build(directory, target)
    mine = target / "tables" / "mine.csv"
    mine.write_text("kept")
    assert (target / "tables" / "published.tex").exists()
    assert (target / "tables" / "significance_welch.csv").exists()
    assert (target / "figures" / "ranks.png").exists()
    other = write(tmp_path / "other", record("sst", "lora", 0, 0.9))
    build(other, target)
    left = {path.name for path in (target / "tables").iterdir()}
    assert "results.csv" in left and "mine.csv" in left
    assert not {name for name in left if name.startswith(("published", "significance"))}
    assert not (target / "figures" / "ranks.png").exists()
    assert not list(target.rglob("*.partial"))


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    records = [record("rte", m, k, 0.6 + 0.01 * k) for m in ("sam", "random") for k in range(3)]
    directory = write(tmp_path, *records)
    first, second = (build(directory, tmp_path / name).page.parent for name in ("a", "b"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) > 20
    for path in files:
        assert (first / path).read_bytes() == (second / path).read_bytes(), path


def test_the_reference_is_sam_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    labels = ("sam", "random", "lora")
    directory = write(tmp_path, *(record("rte", m, k) for m in labels for k in range(3)))
    build(directory)
    tests = directory / "report" / "tables" / "significance_welch.csv"
    assert "sam" in tests.read_text().splitlines()[1]
    build(directory, reference="lora")
    rows = list(csv.DictReader(tests.read_text().splitlines()))
    assert {row["reference"] for row in rows} == {"lora"}
    assert {row["method"] for row in rows} == {"sam", "random"}
    with pytest.raises(InputError, match=r"--reference is 'sma', .*did you mean sam\? known: "):
        build(directory, tmp_path / "none", reference="sma")
    assert not (tmp_path / "none").exists()
