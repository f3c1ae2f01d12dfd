"""Tables 5 and 6 from records: against SciPy, statsmodels and the paper's own columns."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.records import lines, record, write

from jiant_sparse.report import published
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.render import to_markdown
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


def shape(runs: int) -> np.ndarray:
    """`runs` values of mean 0 and population standard deviation 1."""
    values = np.linspace(-1, 1, runs)
    return values / np.std(values)


def tables(found: Frame, reference: str = "sam") -> tuple[Table, Table]:
    pooled, welch = significance(found, reference)
    return pooled, welch


def cell(table: Table, method: str, column: int = 1) -> Cell:
    (row,) = [row for row in table.rows if row[0].text == method]
    return row[column]


def test_pooled_and_welch_are_those_of_scipy(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): SAM, ("rte", "random"): RANDOM})
    for table, equal in zip(tables(found), (True, False), strict=True):
        expected = stats.ttest_ind(SAM, RANDOM, equal_var=equal)
        (line,) = lines(table)
        assert line["t"] == pytest.approx(expected.statistic)
        assert line["p"] == pytest.approx(expected.pvalue)
        assert line["df"] == pytest.approx(expected.df)
        assert line["t"] > 0
        assert (line["reference"], line["method"]) == ("sam", "random")
        assert (line["n_reference"], line["n"]) == (4, 5)
        shown = cell(table, "random")
        assert shown.text == f"{expected.statistic:.2f}"
        assert shown.value == line["t"]
        assert f"p {expected.pvalue:.3f}, Holm {expected.pvalue:.3f}, g " in shown.note


def test_names_titles_and_columns(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): SAM, ("rte", "random"): RANDOM})
    pooled, welch = tables(found)
    assert (pooled.name, welch.name) == ("significance_pooled", "significance_welch")
    assert pooled.title == "sam against each method: t-test, pooled variance"
    assert welch.title == "sam against each method: t-test, Welch"
    assert [column.title for column in pooled.columns] == ["method", "RTE"]
    assert "positive t: sam is better" in pooled.caption


def test_any_method_may_be_the_reference(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): SAM, ("rte", "random"): RANDOM})
    ours, theirs = (lines(tables(found, label)[0])[0] for label in ("sam", "random"))
    assert theirs["t"] == pytest.approx(-ours["t"])
    assert theirs["hedges_g"] == pytest.approx(-ours["hedges_g"])
    # The paper prints tests of SAM alone.
    assert "published_t" in ours and "published_t" not in theirs
    assert "paper" not in cell(tables(found, "random")[0], "sam").note


@pytest.mark.parametrize(
    ("task", "title", "scores", "tests"),
    [
        ("cola", "CoLA", 1, 5),
        ("rte", "RTE", 1, 5),
        ("cb", "CB", 1, 5),
        ("mrpc", "MRPC", 2, 6),
    ],
)
def test_the_columns_that_follow_from_the_printed_scores(
    tmp_path: Path, task: str, title: str, scores: int, tests: int
) -> None:
    values = {}
    for key in published.METHODS:
        value = published.value(key, title, scores)
        # Of 10 runs of MagPruning on RTE neither the mean nor the t could be.
        runs = 9 if (key, title) == ("mag_pruning", "RTE") else 10
        values[task, key] = value.mean + value.std * shape(runs)
    drop = {1: 0.0, 2: 0.1}[scores]
    pooled, welch = tables(summary(tmp_path, values, drop_train=drop))
    for line in lines(pooled):
        t, p = published.t_test(line["method"], title, tests)
        assert (line["published_t"], line["published_p"]) == (t, p)
        # The printed means and deviations are rounded to two decimals.
        assert line["t"] == pytest.approx(t, abs=0.03)
        assert line["p"] == pytest.approx(p, abs=0.015)
        said = "paper t −" if t < 0 else "paper t "
        assert f"{said}{abs(t):.2f}, p " in cell(pooled, line["method"]).note
    assert len(pooled.data) == 9
    assert "published_t" not in welch.data
    assert all("paper" not in row[1].note for row in welch.rows)


def test_a_p_never_reads_as_0(tmp_path: Path) -> None:
    pooled, _ = tables(
        summary(tmp_path, {("cola", "sam"): SAM, ("cola", "full_tuning"): (1.0, 2.0, 3.0)})
    )
    note = cell(pooled, "full_tuning").note
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
    for table in tables(summary(tmp_path, scores)):
        found = lines(table)
        expected = multipletests([line["p"] for line in found], method="holm")[1]
        assert [line["holm_p"] for line in found] == pytest.approx(list(expected))
        assert len(found) == 6
        assert "corrected for all 6 tests" in table.notes[0]
        stands_out = {(row[0].text, i) for row in table.rows for i in (1, 2) if row[i].tone}
        below = {
            (line["method"], 1 + ["rte", "cb"].index(line["task"]))
            for line in found
            if line["holm_p"] < 0.05
        }
        assert stands_out == below
        assert 0 < len(below) < 6


def test_a_reference_that_is_worse_is_not_marked_as_good(tmp_path: Path) -> None:
    scores = {("rte", "sam"): SAM, ("rte", "random"): (1.0, 2.0, 3.0)}
    found = summary(tmp_path, scores)
    for better, worse in zip(tables(found), tables(found, "random"), strict=True):
        one, other = cell(better, "random"), cell(worse, "sam")
        assert (one.tone, one.note.partition(": ")[0]) == ("good", "better")
        assert (other.tone, other.note.partition(": ")[0]) == ("alarm", "worse")
        assert "better and worse are said of a p below 0.05 after it" in better.notes[0]
        assert "**" in _row(to_markdown(better)) and "**" not in _row(to_markdown(worse))


def _row(text: str) -> str:
    return text.splitlines()[6]


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        ((70.0,), (71.0,), "1 run each"),
        ((70.0, 71.0), (72.0, 71.0), "2 runs each"),
        ((70.0, 71.0, 72.0), (72.0, 71.0), "3 against 2 runs"),
        ((70.0,) * 3, (70.0,) * 3, "neither varies"),
    ],
)
def test_no_test_says_why(
    tmp_path: Path, ours: Sequence[float], theirs: Sequence[float], why: str
) -> None:
    found = summary(tmp_path, {("rte", "sam"): ours, ("rte", "fish"): theirs})
    for table in tables(found):
        # Of all comparisons alike, it is said once.
        assert cell(table, "fish") == Cell(tone="quiet")
        (line,) = lines(table)
        measured = ("t", "df", "p", "holm_p", "hedges_g")
        assert [line[name] for name in measured] == [None] * 5
        assert not any("Holm" in note for note in table.notes)
        assert table.notes[0] == (
            f"1 of 1 comparisons have no test, {why}: it needs 3 runs on each side, and one side "
            "that varies."
        )


def test_reasons_that_differ_stand_in_each_cell(tmp_path: Path) -> None:
    scores = {("rte", "sam"): (70.0, 71.0), ("rte", "fish"): (72.0, 71.0), ("rte", "lora"): (70.0,)}
    for table in tables(summary(tmp_path, scores)):
        assert [cell(table, name).note.partition(";")[0] for name in ("fish", "lora")] == [
            *("2 runs each", "2 against 1 runs")
        ]
        assert "2 of 2 comparisons have no test: it needs 3 runs" in table.notes[0]


def test_a_reason_beside_tests_stands_in_its_cell(tmp_path: Path) -> None:
    scores = {("rte", "sam"): SAM, ("rte", "random"): RANDOM, ("rte", "fish"): (70.0,)}
    for table in tables(summary(tmp_path, scores)):
        assert cell(table, "fish") == Cell(note="4 against 1 runs", tone="quiet")
        assert "1 of 2 comparisons have no test: it needs 3 runs" in " ".join(table.notes)


def test_groups_that_do_not_vary_beside_tests_say_so(tmp_path: Path) -> None:
    still = (70.0,) * 3
    scores = {("rte", "sam"): SAM, ("rte", "fish"): RANDOM, ("cb", "sam"): still}
    for table in tables(summary(tmp_path, scores | {("cb", "fish"): still})):
        assert cell(table, "fish", 2) == Cell(note="neither varies", tone="quiet")


def test_what_has_no_test_is_not_of_the_family(tmp_path: Path) -> None:
    found = summary(
        tmp_path,
        {("rte", "sam"): SAM, ("rte", "random"): RANDOM, ("rte", "lora"): (70.0, 71.0)},
    )
    first = {line["method"]: line for line in lines(tables(found)[0])}
    assert first["random"]["holm_p"] == first["random"]["p"]
    assert first["lora"]["holm_p"] is None
    assert "corrected for all 1 tests" in tables(found)[0].notes[0]


def test_the_papers_test_stands_even_where_ours_is_missing(tmp_path: Path) -> None:
    found = summary(tmp_path, {("rte", "sam"): (70.0,), ("rte", "random"): (71.0,)}, model="tiny")
    pooled, _ = tables(found)
    assert cell(pooled, "random").note == "paper t 3.35, p <0.005"
    assert "The paper's t and these are not comparable: model is tiny." in pooled.notes
    apart = {"model": "tiny", "split": "random", "pooling": "mean", "device": "cpu"}
    scores = {("rte", "sam"): (70.0,), ("rte", "random"): (71.0,)}
    further, _ = tables(summary(tmp_path / "b", scores, **apart))
    assert further.notes[-1] == (
        "The paper's t and these are not comparable: model is tiny, split is random and 1 more "
        "setting."
    )


def test_the_papers_test_needs_both_rows_of_one_table(tmp_path: Path) -> None:
    records = [record("rte", "sam", 0, 0.7)]
    records += [record("rte", "random", 0, 0.7, setting={"drop_train": 0.1})]
    found = load(write(tmp_path, *records))
    assert cell(tables(found)[0], "random").note == ""


def test_a_variant_of_the_reference_is_compared_and_a_method_alone_is_not(tmp_path: Path) -> None:
    records = [record("rte", "sam", seed, v / 100) for seed, v in enumerate(SAM)]
    known = {"name": "sam", "density": 0.01}
    records += [
        record("rte", "denser", seed, v / 100, setting={"method": known})
        for seed, v in enumerate(RANDOM)
    ]
    found = load(write(tmp_path, *records))
    assert [row[0].text for row in tables(found)[0].rows] == ["denser"]
    alone = summary(tmp_path / "alone", {("rte", "sam"): SAM})
    assert significance(alone, "sam") == []
    assert not [t for t in make(alone, "sam", []) if "significance" in t.name]


def test_several_methods_that_could_be_the_reference_are_named(tmp_path: Path) -> None:
    dense = {"method": {"name": "sam", "density": 0.01}}
    records = [record("rte", label, 0, setting=dense) for label in ("first", "second")]
    records.append(record("rte", "lora", 0))
    found = load(write(tmp_path, *records))
    said = (
        "No tests between methods: first, second are all sam and none is labelled so; --reference "
        "names the one to test."
    )
    results, *others = make(found, None, [])
    assert results.name == "results" and said in results.notes
    assert not [table for table in others if "significance" in table.name]
    assert said not in make(found, "first", [])[0].notes
    without = summary(tmp_path / "b", {("rte", "lora"): SAM, ("rte", "random"): RANDOM})
    assert not any("--reference" in note for note in make(without, None, [])[0].notes)


def test_nothing_is_said_of_the_papers_tests_where_none_is_shown(tmp_path: Path) -> None:
    pooled, _ = tables(summary(tmp_path, {("sst", "sam"): SAM, ("sst", "random"): RANDOM}))
    assert not any(note.startswith(("paper:", "The paper's t")) for note in pooled.notes)
