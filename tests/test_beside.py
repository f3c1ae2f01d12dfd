"""The paper's values: the files, what departs from their experiment, and the table of both."""

import csv
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind_from_stats
from support.records import PUBLISHED_TRAINING, failure, record, settings, write

from jiant_sparse.report import build, published
from jiant_sparse.report.frame import load
from jiant_sparse.report.render import to_markdown
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import beside
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.terminal import as_text

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]
DATA = Path(published.__file__).parent / "published"


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({}, {}),
        ({"model": "FacebookAI/roberta-base"}, {}),
        ({"model": "prajjwal1/bert-tiny"}, {"model": "prajjwal1/bert-tiny"}),
        ({"model": None, "split": "random"}, {"model": None, "split": "random"}),
        ({"pooling": "mean"}, {"pooling": "mean"}),
        ({"drop_train": 0.1}, {}),
        ({"drop_train": 0.3}, {"drop_train": 0.3}),
        ({"method": {"name": "sam", "density": 0.1}}, {"density": 0.1}),
        ({"train": {**PUBLISHED_TRAINING, "max_steps": 200}}, {"max_steps": 200}),
        ({"train": None}, {"training": None}),
    ],
)
def test_departures(changes: dict[str, Any], apart: dict[str, Any]) -> None:
    assert published.departures(settings("rte", "sam", 0, **changes), "sam") == apart


def test_settings_that_are_not_recorded_are_departures() -> None:
    unknown = ("model", "split", "pooling", "drop_train", "training", "density")
    assert published.departures({}, "sam") == dict.fromkeys(unknown)
    without = {k: v for k, v in PUBLISHED_TRAINING.items() if k != "max_steps"}
    found = settings("rte", "sam", 0, train=without)
    assert published.departures(found, "sam") == {"max_steps": None}


def told(directory: Path) -> tuple[str, str]:
    """What the terminal shows, and the tables as Markdown, one after the other."""
    summary = load(directory)
    tables = [table for table in (results(summary), beside.published(summary)) if table]
    return as_text(summary, tables), "\n".join(map(to_markdown, tables))


def test_comparability_stands_beside_the_published_values(tmp_path: Path) -> None:
    small = {"model": "pkg://tiny/model", "split": "random"}
    directory = write(tmp_path / "a", *(record("rte", "sam", k, setting=small) for k in (0, 1)))
    said = "Not comparable: model is pkg://tiny/model, split is random."
    text, markdown = told(directory)
    for shown in (text, markdown):
        assert said in shown and "Published beside measured: not comparable" in shown
        assert "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds" in shown
        assert "−6.79" in shown and "−6.79 not" not in shown and "Welch" not in shown
    assert "76.79 ±1.72" in text and "| 76.79 ± 1.72<br>" in markdown

    same, _ = told(write(tmp_path / "b", record("rte", "sam", 0)))
    assert "Comparable: same model, data, split and training as published." in same
    assert "Published beside measured\n" in same and "−6.79 too few runs" in same

    mixed, _ = told(
        write(tmp_path / "c", record("rte", "sam", 0), record("cb", "sam", 0, setting=small))
    )
    assert "split is random (1 of 2 results)" in " ".join(mixed.split())
    assert "Published beside measured: partly not comparable" in mixed
    assert "Partly not comparable: model is pkg://tiny/model (1 of 2 results)," in mixed
    assert "−18.93 not comparable" in mixed and "what Welch's test says" in mixed

    none, _ = told(write(tmp_path / "d", failure("rte", "sam", 0, "x")))
    assert "Not comparable: there is no result to compare." in none and "no result" in none
    assert "No cell has a test value yet." in none and "(1)" not in none


def test_the_page_says_comparability(tmp_path: Path) -> None:
    small = {"model": "pkg://tiny/model", "split": "random"}
    directory = write(tmp_path, *(record("rte", "sam", k, setting=small) for k in (0, 1)))
    page = build(directory).page.read_text("utf-8")
    assert "Not comparable: model is pkg://tiny/model, split is random." in page
    assert "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds" in page
    assert "76.79" in page and "−6.79" in page and "−6.79 not" not in page


def test_a_tenth_left_out_is_held_against_table_2(tmp_path: Path) -> None:
    text, _ = told(write(tmp_path, record("rte", "sam", 0, setting={"drop_train": 0.1})))
    assert "Fu et al. 2023, Table 2" in text and "75.74 ±1.27" in text


@pytest.mark.parametrize("table", [1, 2])
def test_published_values_are_the_files(table: int) -> None:
    for part in ("mean", "std"):
        with open(DATA / f"table{table}_{part}.csv", encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert sorted(row["method"] for row in rows) == sorted(published.METHODS.values())
        for key, name in published.METHODS.items():
            row = next(row for row in rows if row["method"] == name)
            for task in (*published.TASKS, published.AVERAGE):
                found = getattr(published.value(key, task, table), part)
                assert found == float(row[task])


def test_every_published_file_has_a_source() -> None:
    with open(DATA / "SOURCE.csv", encoding="utf-8", newline="") as stream:
        named = {row["file"] for row in csv.DictReader(stream)}
    assert named | {"SOURCE.csv"} == {path.name for path in DATA.iterdir()}


def table_of(directory: Path) -> Table:
    return results(load(directory))


def beside_of(directory: Path) -> Table:
    table = beside.published(load(directory))
    assert table is not None
    return table


def test_published_values_stand_beside_the_measured(tmp_path: Path) -> None:
    near, far = (0.75, 0.76, 0.78), (0.60, 0.61, 0.62)
    directory = write(
        tmp_path,
        *(record("rte", "sam", k, v) for k, v in enumerate(near)),
        *(record("rte", "lora", k, v) for k, v in enumerate(far)),
        *(record("rte", "bitfit", k, 0.9 + v) for k, v in enumerate((0.01, 0.02))),
        record("rte", "frozen", 0),
    )
    table = beside_of(directory)
    cells = {row[0].text: row[1] for row in table.rows}
    assert list(cells) == ["bitfit", "lora", "sam"]
    assert cells["sam"] == Cell("76.79", 76.79, spread="1.72", note="−0.46 compatible")
    assert (cells["lora"].note, cells["lora"].tone) == ("−15.97 lower", "alarm")
    assert (cells["bitfit"].note, cells["bitfit"].tone) == ("+18.76 too few runs", "quiet")
    assert table.rows[0][2] == Cell(tone="quiet")
    assert "of 2 equal pairs, about 0.1 would come out unequal" in " ".join(table.notes)
    said = "every published value as that of 10 runs; the printed digits of some cells fit only"
    assert f"{said} another number of runs, or none." in " ".join(table.notes)
    assert "The paper's AVG is over its seven tasks" in table.notes[-1]
    lines = {line[2]: dict(zip(table.fields, line, strict=True)) for line in table.lines}
    sam = lines["sam"]
    deviation = 1.72 * (10 / 9) ** 0.5
    expected = ttest_ind_from_stats(
        *(statistics.mean(near) * 100, statistics.stdev(near) * 100, 3),
        *(76.79, deviation, 10),
        equal_var=False,
    )
    assert (sam["t"], sam["p"]) == pytest.approx((expected.statistic, expected.pvalue))
    assert 2 < sam["df"] < 11
    assert (sam["published_mean"], sam["published_std"], sam["published_runs"]) == (76.79, 1.72, 10)
    assert (sam["n"], sam["table"], sam["word"], sam["reasons"]) == (3, 1, "compatible", "")
    assert sam["difference"] == pytest.approx(sam["mean"] - 76.79)
    few = lines["bitfit"]
    assert (few["t"], few["df"], few["p"], few["word"]) == (None, None, None, "too few runs")
    assert few["reasons"] == "2 runs; a test needs 3"


def test_one_comparison_is_not_spoken_of_as_many(tmp_path: Path) -> None:
    values = enumerate((0.75, 0.76, 0.78))
    table = beside_of(write(tmp_path, *(record("rte", "sam", k, v) for k, v in values)))
    assert "one equal pair in twenty would come out unequal" in " ".join(table.notes)
    untested = beside_of(write(tmp_path / "b", record("rte", "sam", 0)))
    assert "not corrected" not in " ".join(untested.notes)


def test_the_published_average_stands_beside_all_seven_tasks(tmp_path: Path) -> None:
    records = [record(t, "sam", k, 0.7 + k / 50) for t in SEVEN for k in (0, 1, 2)]
    table = beside_of(write(tmp_path, *records))
    (row,) = table.rows
    assert (row[-1].text, row[-1].spread, row[-1].note) == ("77.12", "1.51", "−5.12 lower")
    assert not [note for note in table.notes if "AVG" in note]
    (line,) = [line for line in table.lines if line[1] == "AVG"]
    average = dict(zip(table.fields, line, strict=True))
    assert (average["n"], average["published_mean"], average["word"]) == (None, 77.12, "lower")
    assert average["mean"] == pytest.approx(72.0) and average["p"] < 0.05


def test_nothing_published_is_no_table(tmp_path: Path) -> None:
    directory = write(tmp_path, record("sst", "sam", 0))
    assert beside.published(load(directory)) is None
    assert "Published" not in as_text(load(directory), [table_of(directory)])


def test_mixout_is_held_against_the_paper_only_with_its_tuned_share() -> None:
    for q, reasons in ((0.995, {}), (0.9, {"q": 0.9})):
        found = settings("rte", "mixout", 0, method={"name": "mixout", "q": q, "reset": True})
        assert published.departures(found, "mixout") == reasons
