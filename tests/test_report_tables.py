"""What the tables say in words: comparability, footnotes, published values, widths, escapes."""

import csv
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import ttest_ind_from_stats
from test_report_support import PUBLISHED_TRAINING, failure, plan, record, settings, write

from jiant_sparse.benchmark.record import Primary
from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import build, numbers, published, rendering
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import collect
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import beside
from jiant_sparse.report.tables.results import results
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


def told(directory: Path) -> tuple[str, str]:
    """What the terminal shows, and the tables as Markdown, one after the other."""
    summary = summarise(collect(directory))
    tables = [table for table in (results(summary), beside.published(summary)) if table]
    return rendering.as_text(summary, tables), "\n".join(map(rendering.markdown, tables))


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
    assert "Comparable: same model, split and training as published." in same
    assert "Published beside measured\n" in same and "−6.79 too few runs" in same

    mixed, _ = told(
        write(tmp_path / "c", record("rte", "sam", 0), record("cb", "sam", 0, setting=small))
    )
    assert "split is random (1 of 2 results)" in " ".join(mixed.split())
    assert "Published beside measured: partly not comparable" in mixed
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


METRICS = (
    "MRPC: mean of accuracy and F1.",
    "STS-B: mean of Pearson and Spearman correlation.",
    "CB: accuracy, as in the paper.",
    "WSC: the majority class alone scores 63.46 on the real test set",
)


def test_footnotes_say_the_metrics(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record(task, "sam", 0) for task in SEVEN))
    for text in told(directory):
        plain = " ".join(text.split())
        assert all(note in plain for note in METRICS)


def test_the_page_says_the_metrics(tmp_path: Path) -> None:
    page = build(write(tmp_path, *(record(task, "sam", 0) for task in SEVEN))).page
    plain = " ".join(page.read_text("utf-8").split())
    assert all(note in plain for note in METRICS)


def test_text_keeps_to_100_columns(tmp_path: Path) -> None:
    methods = list(published.METHODS)
    records = [record(t, m, k, 0.6 + k / 10) for t in SEVEN for m in methods for k in (0, 1)]
    error = "RuntimeError: " + "very " * 80
    directory = write(tmp_path, *records, failure("rte", "frozen", 0, error))
    plan(SEVEN, [*methods, "frozen"], 2).write(directory)
    text, _ = told(directory)
    assert max(map(len, text.splitlines())) <= 100
    # Three runs of columns for the results, two for the differences from the published values.
    assert text.count("\nsam ") == 5
    assert "How far this benchmark's means lie above those of Fu et al. 2023, Table 1" in text
    assert "77.12" not in text and re.search(r"\nsam .* −12.\d\d too few runs", text)
    for title in ("CoLA", "STS-B", "MRPC", "RTE", "CB", "COPA", "WSC", "AVG", "tuned %"):
        assert title in text
    # An error's first line is cut, and says so.
    (cut,) = re.findall(r"failed: rte / frozen seed 0: (.*?…)", " ".join(text.split()))
    assert len(cut) == 201


def test_long_lists_end_with_a_count(tmp_path: Path) -> None:
    text, _ = told(write(tmp_path, *(failure("rte", "sam", k, "x") for k in range(25))))
    assert text.count("failed: rte / sam") == 20
    assert "... and 5 more; index.html has all." in text
    exact, _ = told(write(tmp_path / "b", *(failure("rte", "sam", k, "x") for k in range(20))))
    assert exact.count("failed: rte / sam") == 20 and "more; index" not in exact


def test_the_page_has_the_whole_list(tmp_path: Path) -> None:
    directory = write(tmp_path, *(failure("rte", "sam", k, f"boom {k}.") for k in range(25)))
    page = build(directory).page.read_text("utf-8")
    assert all(f"boom {k}." in page for k in range(25))


def test_foreign_strings_command_neither_terminal_nor_markdown(tmp_path: Path) -> None:
    label = "\x1b[2J | <b>bold<"
    setting = {"method": {"name": label}}
    directory = write(
        tmp_path,
        record("rte", label, 0, setting=setting),
        record("rte", "sam", 0, setting={"model": "a | <i>\u202e"}),
        failure("rte", "sam", 1, "\x1b[2J | <b>bold</b>\u202e"),
    )
    text, markdown = told(directory)
    for shown in (text, markdown):
        assert "\x1b" not in shown and "\u202e" not in shown
    assert r"\| \<b\>bold\<" in markdown and r"model is a \| \<i\>" in markdown
    assert "failed: rte / sam seed 1: \ufffd[2J | <b>bold</b>\ufffd" in text


def table_of(directory: Path) -> Table:
    return results(summarise(collect(directory)))


def test_results_mark_means_and_deviations(tmp_path: Path) -> None:
    values = {
        "sam": (0.70, 0.80),
        "random": (0.70, 0.72),
        "lora": (0.60, 0.61),
        "bitfit": (0.5, 0.6),
    }
    records = [record("rte", m, k, v) for m, vs in values.items() for k, v in enumerate(vs)]
    rows = {row[0].text: row for row in table_of(write(tmp_path, *records)).rows}
    marks = {name: (rows[name][1].rank, rows[name][1].spread_rank) for name in values}
    assert marks == {"sam": (1, 3), "random": (2, 2), "lora": (3, 1), "bitfit": (4, 3)}
    assert rows["sam"][1] == Cell("75.00", 75.0, 1, "5.00", 3, tone="good")
    assert rows["random"][1].tone == "" and rows["random"][2].rank == 2
    shown = rendering.markdown(table_of(tmp_path / "bench"))
    assert "| sam | **75.00** (1) ± 5.00 (3) | **75.00** (1) ± 5.00 (3) | 0.50 | 0.50 |" in shown
    assert "| bitfit | 55.00 ± 5.00 (3) |" in shown


def test_a_method_alone_does_not_stand_out(tmp_path: Path) -> None:
    (row, *_) = table_of(write(tmp_path, record("rte", "sam", 0))).rows
    assert row[1].tone == row[2].tone == ""


def test_results_say_which_cells_do_not_count(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        *(record("rte", "sam", k) for k in (0, 1)),
        *(record("cb", "sam", k) for k in (0, 1)),
        *(record("rte", "lora", k) for k in (0, 1)),
        record("rte", "random", 0),
        failure("rte", "random", 1, "x"),
        record("cb", "random", 1, None),
    )
    plan(["rte", "cb"], ["sam", "random", "lora"], 2).write(directory)
    table = table_of(directory)
    rows = {row[0].text: row for row in table.rows}
    assert [cell.note for cell in rows["sam"]] == [""] * 6
    assert rows["random"][1].note == "n = 1, 1 failed"
    assert rows["random"][2].text == "1 missing, 1 without value"
    assert (rows["random"][2].tone, rows["random"][2].value) == ("alarm", None)
    assert rows["random"][3].text == "incomplete 1/2" and rows["random"][3].value is None
    assert rows["lora"][2].text == "2 missing"
    said = "Cells: 8 ok, 1 failed, 3 missing; 1 warning. The page says which and why."
    assert table.notes[-1] == said and "1 of 2" not in " ".join(table.notes)
    text, markdown = told(directory)
    assert said not in text and said in markdown
    assert "rte / random seed 1: x" in text and "cb / random seed 0" in text


def test_an_average_of_fewer_seeds_says_so(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record(t, "sam", k) for t in ("rte", "cb") for k in (0, 1)))
    plan(["rte", "cb"], ["sam"], 3).write(directory)
    (row, *_) = table_of(directory).rows
    assert row[1].note == "n = 2, 1 missing" and row[3].note == "not all cells"


def baselines(directory: Path, **majority: float | None) -> Path:
    for task, value in majority.items():
        primary = Primary(name=TASKS[task].metric, dev=0.5, test=0.6, majority=value)
        for method in ("sam", "lora"):
            split = {"split": "random"}
            item = record(task, method, 0, primary=primary, setting=split)
            item.write(item.cell.directory(directory))
    return directory / "bench"


def test_the_most_frequent_answer_is_the_last_row(tmp_path: Path) -> None:
    table = table_of(baselines(tmp_path, rte=0.5271, stsb=None, wsc=0.625))
    row = table.rows[-1]
    assert [cell.text for cell in row] == [
        *("most frequent answer", "–", "52.71", "62.50", "–", "–", "–")
    ]
    assert {cell.tone for cell in row} == {"quiet"} and {cell.rank for cell in row} == {None}
    assert [cell.value for cell in row[1:4]] == [None, 52.71, 62.5]
    assert (
        "WSC: 2 of 2 means lie below 62.50, the score of always giving the most frequent answer."
        in table.notes
    )
    assert not [note for note in table.notes if note.startswith("RTE")]
    lines = {line[1]: dict(zip(table.fields, line, strict=True)) for line in table.lines}
    assert [lines[task]["majority"] for task in ("rte", "stsb", "wsc")] == [52.71, None, 62.5]


def test_the_most_frequent_answer_has_an_average_where_all_are_known(tmp_path: Path) -> None:
    row = table_of(baselines(tmp_path / "a", rte=0.5, wsc=0.6)).rows[-1]
    assert row[3].text == "55.00" and row[3].rank is None
    none = table_of(baselines(tmp_path / "b", rte=None, wsc=None))
    assert [row[0].text for row in none.rows] == ["lora", "sam"]


def test_a_method_beside_another_label_says_its_key(tmp_path: Path) -> None:
    setting = {"method": {"name": "sam"}}
    directory = write(tmp_path, record("rte", "sam", 0), record("rte", "twice", 0, setting=setting))
    heads = [row[0] for row in table_of(directory).rows]
    assert {(head.text, head.note) for head in heads[:2]} == {("sam", ""), ("twice", "sam")}


def test_csv_of_the_results_has_all_that_was_promised(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        *(record("rte", "sam", k, 0.7 + k / 100) for k in (0, 2)),
        record("rte", "sam", 3, None),
        failure("rte", "x", 0, ""),
    )
    plan(["rte"], ["sam", "x"], 4).write(directory)
    sam, other = csv.DictReader(rendering.plain_csv(table_of(directory)).splitlines())
    assert sam == {
        **{"benchmark": "bench", "task": "rte", "method": "sam", "n": "2", "seeds": "0 2"},
        **{"mean": "71.0", "std": "1.0", "rank": "1", "std_rank": "1", "majority": "52.71"},
        **{"tuned_percent": "0.5", "changed_percent": "0.499"},
        **{"missing": "1", "failed": "0", "undefined": "1"},
    }
    assert (other["n"], other["seeds"], other["mean"], other["failed"]) == ("0", "", "", "1")


def beside_of(directory: Path) -> Table:
    table = beside.published(summarise(collect(directory)))
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
    assert "every published value as that of 10 runs" in " ".join(table.notes)
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
    assert beside.published(summarise(collect(directory))) is None
    assert "Published" not in rendering.as_text(
        summarise(collect(directory)), [table_of(directory)]
    )


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


def test_a_failure_alone_is_pointed_to(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0), failure("rte", "sam", 1, "x"))
    plan(["rte"], ["sam"], 2).write(directory)
    said = "Cells: 1 ok, 1 failed, 0 missing. The page says which and why."
    assert said in table_of(directory).notes
    record("rte", "sam", 1).write(directory / "rte" / "sam" / "seed-1")
    assert not table_of(directory).notes


def test_half_a_letter_is_replaced() -> None:
    assert numbers.printable("a\ud800b") == "a\ufffdb"
