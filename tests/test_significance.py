"""Tables 5 and 6 from records: against SciPy and statsmodels, and where nothing can be tested."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.records import lines, record, write

from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import make
from jiant_sparse.report.tables.significance import significance

SAM = (76.0, 77.5, 78.0, 76.5)
RANDOM = (72.0, 75.0, 71.0, 73.5, 74.5)


def summary(
    directory: Path, scores: dict[tuple[str, str], Sequence[float]], **setting: Any
) -> Frame:
    """A benchmark with these values, in percent, by (task, method) and seed."""
    records = [
        record(task, method, seed, value / 100, setting=setting)
        for (task, method), values in scores.items()
        for seed, value in enumerate(values)
    ]
    return load(write(directory, *records))


def cell(table: Table, method: str, column: int = 1) -> Cell:
    (row,) = [row for row in table.rows if row[0].text == method]
    return row[column]


def test_pooled_and_welch_are_those_of_scipy(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): SAM, ("rte", "random"): RANDOM})
    for table, equal in zip(significance(found, "sam"), (True, False), strict=True):
        expected = stats.ttest_ind(SAM, RANDOM, equal_var=equal)
        (line,) = lines(table)
        measured = (line["t"], line["p"], line["df"])
        assert measured == pytest.approx((expected.statistic, expected.pvalue, expected.df))
        assert line["t"] > 0 and (line["n_reference"], line["n"]) == (4, 5)
        assert cell(table, "random").value == line["t"]


def test_any_method_may_be_the_reference(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): SAM, ("rte", "random"): RANDOM})
    tables = [significance(found, label)[0] for label in ("sam", "random")]
    ours, theirs = (lines(table)[0] for table in tables)
    assert theirs["t"] == pytest.approx(-ours["t"])
    assert theirs["hedges_g"] == pytest.approx(-ours["hedges_g"])
    # The paper prints tests of SAM alone.
    assert "published_t" in ours and "published_t" not in theirs
    assert "paper" not in cell(tables[1], "sam").note
    # A reference that is worse is not marked as good.
    one, other = cell(tables[0], "random"), cell(tables[1], "sam")
    assert (one.tone, one.note.partition(": ")[0]) == ("good", "better")
    assert (other.tone, other.note.partition(": ")[0]) == ("alarm", "worse")


def test_a_p_never_reads_as_0(tmp_path: Path) -> None:
    scores = {("cola", "sam"): SAM, ("cola", "full_tuning"): (1.0, 2.0, 3.0)}
    note = cell(significance(summary(tmp_path, scores), "sam")[0], "full_tuning").note
    assert "p <0.001, Holm <0.001, g " in note
    # Printed as 0.00: below 0.005.
    assert note.endswith("; paper t 3.81, p <0.005")


def test_holm_is_over_all_tests_of_the_table(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    scores = {
        (task, method): 70 + place + generator.normal(0, 2, 6)
        for place, method in enumerate(("sam", "random", "lora", "adapter"))
        for task in ("rte", "cb")
    }
    # What has no test is not of the family.
    scores["rte", "mine"] = scores["cb", "mine"] = (70.0, 71.0)
    for table in significance(summary(tmp_path, scores), "sam"):
        found = [line for line in lines(table) if line["method"] != "mine"]
        expected = multipletests([line["p"] for line in found], method="holm")[1]
        assert [line["holm_p"] for line in found] == pytest.approx(list(expected))
        assert "corrected for all 6 tests" in table.notes[0]
        assert {line["holm_p"] for line in lines(table) if line["method"] == "mine"} == {None}
        columns = {"rte": 1, "cb": 2}
        for line in found:
            shown = cell(table, line["method"], columns[line["task"]])
            assert bool(shown.tone) == (line["holm_p"] < 0.05)


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ((70.0,), (71.0,), "1 run each"),
        ((70.0, 71.0, 72.0), (72.0, 71.0), "3 against 2 runs"),
        ((70.0,) * 3, (70.0,) * 3, "neither varies"),
    ],
)
def test_no_test_says_why(
    tmp_path: Path, ours: Sequence[float], theirs: Sequence[float], why: str
) -> None:
    scores = {("rte", "sam"): ours, ("rte", "fish"): theirs}
    for table in significance(summary(tmp_path / "alike", scores), "sam"):
        # Of all comparisons alike, it is said once.
        assert cell(table, "fish") == Cell(tone="quiet")
        (line,) = lines(table)
        assert {line[name] for name in ("t", "df", "p", "holm_p", "hedges_g")} == {None}
        assert table.notes[0] == (
            f"1 of 1 comparisons have no test, {why}: it needs 3 runs on each side, and one side "
            "that varies."
        )
    # Beside other reasons, or beside tests, it stands in the cell.
    scores |= {("cb", "sam"): SAM, ("cb", "fish"): RANDOM}
    for table in significance(summary(tmp_path / "beside", scores), "sam"):
        assert cell(table, "fish").note == why
        assert "1 of 2 comparisons have no test: it needs 3 runs" in " ".join(table.notes)


def test_the_papers_test_stands_even_where_ours_is_missing(tmp_path: Path) -> None:
    scores = {("rte", "sam"): (70.0,), ("rte", "random"): (71.0,)}
    pooled, _ = significance(summary(tmp_path, scores, model="tiny"), "sam")
    assert cell(pooled, "random").note == "paper t 3.35, p <0.005"
    assert "The paper's t and these are not comparable: model is tiny." in pooled.notes
    # It needs both rows of one table.
    apart = record("rte", "random", 0, 0.7, setting={"drop_train": 0.1})
    found = load(write(tmp_path / "apart", record("rte", "sam", 0, 0.7), apart))
    pooled, _ = significance(found, "sam")
    assert cell(pooled, "random").note == ""
    assert not any(note.startswith(("paper:", "The paper's t")) for note in pooled.notes)


def test_several_methods_that_could_be_the_reference_are_named(tmp_path: Path) -> None:
    dense = {"method": {"name": "sam", "density": 0.01}}
    records = [record("rte", label, 0, setting=dense) for label in ("first", "second")]
    found = load(write(tmp_path, *records, record("rte", "lora", 0)))
    said = (
        "No tests between methods: first, second are all sam and none is labelled so; --reference "
        "names the one to test."
    )
    results, *others = make(found, None, [])
    assert results.name == "results" and said in results.notes
    assert not [table for table in others if "significance" in table.name]
    assert said not in make(found, "first", [])[0].notes


def test_a_method_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    assert significance(summary(tmp_path, {("rte", "sam"): SAM}), "sam") == []
