"""What the tables say in words: comparability, footnotes, published values, widths, escapes."""

import csv
from pathlib import Path
from typing import Any

import pytest
from test_report_support import PUBLISHED_TRAINING, failure, plan, record, settings, write

from jiant_sparse.report import build, numbers, published
from jiant_sparse.report.words import seeds_of

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]
DATA = Path(published.__file__).parent / "published"


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({}, ()),
        ({"model": "FacebookAI/roberta-base"}, ()),
        ({"model": "prajjwal1/bert-tiny"}, ("model is prajjwal1/bert-tiny",)),
        ({"model": None, "split": "random"}, ("model is unknown", "split is random")),
        ({"pooling": "mean"}, ("pooling is mean",)),
        ({"drop_train": 0.1}, ()),
        ({"drop_train": 0.3}, ("drop_train is 0.3",)),
        ({"method": {"name": "sam", "density": 0.1}}, ("density is 0.1",)),
        ({"train": {**PUBLISHED_TRAINING, "max_steps": 200}}, ("max_steps is 200",)),
        ({"train": None}, ("training is unknown",)),
    ],
)
def test_departures_from_the_published_experiment(
    changes: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    assert published.departures(settings("rte", "sam", 0, **changes), "sam") == reasons


def test_settings_that_are_not_recorded_are_departures() -> None:
    reasons = published.departures({}, "sam")
    assert reasons == (
        *("model is unknown", "split is unknown", "pooling is unknown", "training is unknown"),
    )
    without = {k: v for k, v in PUBLISHED_TRAINING.items() if k != "max_steps"}
    assert published.departures(settings("rte", "sam", 0, train=without), "sam") == (
        "max_steps is unknown",
    )


def test_comparability_stands_beside_the_published_values(tmp_path: Path) -> None:
    small = {"model": "pkg://tiny/model", "split": "random"}
    report = build(write(tmp_path / "a", *(record("rte", "sam", k, setting=small) for k in (0, 1))))
    said = "Not comparable: model is pkg://tiny/model, split is random."
    for text in (report.text, report.page.read_text("utf-8"), report.markdown.read_text("utf-8")):
        assert said in text
        assert "RoBERTa-base, the real GLUE and SuperGLUE tasks, 10 seeds" in text
    assert "76.8±1.7 (−6.8)" in report.text
    page = report.page.read_text("utf-8")
    assert 'class="apart">76.79' in page and "another experiment and not comparable" in page

    same = build(write(tmp_path / "b", record("rte", "sam", 0)))
    assert "Comparable: same model, split and training as published." in same.text
    assert 'class="apart"' not in same.page.read_text("utf-8")

    mixed = build(
        write(tmp_path / "c", record("rte", "sam", 0), record("cb", "sam", 0, setting=small))
    )
    assert "split is random (1 of 2 results)" in " ".join(mixed.text.split())

    none = build(write(tmp_path / "d", failure("rte", "sam", 0, "x")))
    assert "Not comparable: there is no result to compare." in none.text
    assert "No cell has a test value yet." in none.text and "*" not in none.text


def test_a_tenth_left_out_is_held_against_table_2(tmp_path: Path) -> None:
    report = build(write(tmp_path, record("rte", "sam", 0, setting={"drop_train": 0.1})))
    assert "Fu et al. 2023, Table 2" in report.text and "75.7±1.3" in report.text


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


def test_footnotes_say_the_metrics(tmp_path: Path) -> None:
    report = build(write(tmp_path, *(record(task, "sam", 0) for task in SEVEN)))
    for text in (report.text, report.page.read_text("utf-8"), report.markdown.read_text("utf-8")):
        plain = " ".join(text.split())
        assert "MRPC: mean of accuracy and F1." in plain
        assert "STS-B: mean of Pearson and Spearman correlation." in plain
        assert "CB: accuracy, as in the paper." in plain
        assert "WSC: always answering with the majority class scores 63.46" in plain


def test_text_keeps_to_100_columns(tmp_path: Path) -> None:
    methods = list(published.METHODS)
    records = [record(t, m, k, 0.6 + k / 10) for t in SEVEN for m in methods for k in (0, 1)]
    error = "RuntimeError: " + "very " * 80
    directory = write(tmp_path, *records, failure("rte", "frozen", 0, error))
    plan(SEVEN, [*methods, "frozen"], 2).write(directory)
    text = build(directory).text
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("\nsam ") == 4
    for title in ("CoLA", "STS-B", "MRPC", "RTE", "CB", "COPA", "WSC", "AVG", "tuned %"):
        assert title in text


def test_long_lists_end_with_a_count(tmp_path: Path) -> None:
    report = build(write(tmp_path, *(failure("rte", "sam", k, "x") for k in range(25))))
    assert report.text.count("failed: rte / sam") == 20
    assert "... and 5 more; index.html has all." in report.text
    assert report.page.read_text("utf-8").count('class="failed"') == 25


def test_foreign_strings_command_neither_terminal_nor_markdown(tmp_path: Path) -> None:
    directory = write(tmp_path, failure("rte", "sam", 0, "\x1b[2J | <b>bold</b>\u202e"))
    report = build(directory)
    assert "\x1b" not in report.text and "\u202e" not in report.text
    assert r"\| \<b\>bold\</b\>" in report.markdown.read_text("utf-8")


def test_numbers_hide_nothing() -> None:
    assert [numbers.percent(v) for v in (None, 0, 100, 99.9989, 0.5, 0.0912, 0.00001)] == [
        *("–", "0", "100", ">99.99", "0.50", "0.091", "<0.0001")
    ]
    assert [numbers.signed(v, 1) for v in (None, 0.04, -0.04, 1.25, -3.0)] == [
        *("–", "0.0", "0.0", "+1.2", "−3.0")
    ]
    assert numbers.count(124645632) == "124\u202f645\u202f632"
    assert [numbers.seconds(v) for v in (None, 9.96, 600, 7200)] == [
        "–",
        "10.0 s",
        "10.0 min",
        "2.0 h",
    ]
    assert [numbers.size(v) for v in (None, 999, 52300, 4e9)] == ["–", "999 B", "52.3 kB", "4 GB"]


def test_seeds_are_said_as_ranges() -> None:
    assert seeds_of([3]) == "seed 3"
    assert seeds_of([7, 0, 2, 1, 5, 6]) == "seeds 0-2, 5-7"
    assert seeds_of([0, 1]) == "seeds 0, 1"


def test_mixout_is_held_against_the_paper_only_with_its_tuned_share() -> None:
    for q, reasons in ((0.995, ()), (0.9, ("q is 0.9",))):
        found = settings("rte", "mixout", 0, method={"name": "mixout", "q": q, "reset": True})
        assert published.departures(found, "mixout") == reasons
