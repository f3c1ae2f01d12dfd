"""What the tables say: footnotes, ranks, gaps, averages, widths, escapes."""

import csv
import re
from pathlib import Path

import pytest
from support.records import failure, plan, record, write

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.report import build, numbers, published
from jiant_sparse.report.frame import load
from jiant_sparse.report.render import to_csv, to_markdown
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables import beside
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.terminal import as_text
from jiant_sparse.report.words import seeds_of
from jiant_sparse.schema.record import Primary

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]


def told(directory: Path) -> tuple[str, str]:
    """What the terminal shows, and the tables as Markdown, one after the other."""
    summary = load(directory)
    tables = [table for table in (results(summary), beside.published(summary)) if table]
    return as_text(summary, tables), "\n".join(map(to_markdown, tables))


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
    return results(load(directory))


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
    shown = to_markdown(table_of(tmp_path / "bench"))
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
    answer = "always giving the most frequent answer scores"
    assert f"WSC: 2 of the 2 means lie below 62.50, which {answer}." in table.notes
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
    sam, other, average, nothing = csv.DictReader(to_csv(table_of(directory)).splitlines())
    assert sam == {
        **{"benchmark": "bench", "task": "rte", "method": "sam", "n": "2", "seeds": "0 2"},
        **{"mean": "71.0", "std": "1.0", "rank": "1", "std_rank": "1", "majority": "52.71"},
        **{"tuned_percent": "0.5", "drawn_percent": "", "changed_percent": "0.499"},
        **{"missing": "1", "failed": "0", "undefined": "1"},
    }
    assert (other["n"], other["seeds"], other["mean"], other["failed"]) == ("0", "", "", "1")
    assert average == {**sam, "task": "AVG", "n": "", "seeds": ""}
    assert (nothing["task"], nothing["method"], nothing["mean"]) == ("AVG", "x", "")
    assert nothing["failed"] == "1"


def test_the_average_of_the_long_form_is_that_of_the_table(tmp_path: Path) -> None:
    values = {"cb": (0.6, 0.8), "rte": (0.5, 0.54)}
    records = [record(t, "sam", k, v) for t, vs in values.items() for k, v in enumerate(vs)]
    directory = write(tmp_path, *records, record("cb", "lora", 0, 0.9))
    plan(["cb", "rte"], ["sam", "lora"], 2).write(directory)
    table = table_of(directory)
    lines = [dict(zip(table.fields, line, strict=True)) for line in table.lines]
    found = {line["method"]: line for line in lines if line["task"] == "AVG"}
    sam = found["sam"]
    assert (sam["mean"], sam["std"]) == (pytest.approx(61.0), pytest.approx(6.0))
    assert (sam["rank"], sam["std_rank"], sam["missing"], sam["n"]) == (1, 1, 0, None)
    assert (found["lora"]["mean"], found["lora"]["rank"], found["lora"]["missing"]) == (
        None,
    ) * 2 + (3,)


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


def test_a_failure_alone_is_pointed_to(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0), failure("rte", "sam", 1, "x"))
    plan(["rte"], ["sam"], 2).write(directory)
    said = "Cells: 1 ok, 1 failed, 0 missing. The page says which and why."
    assert said in table_of(directory).notes
    write(tmp_path, record("rte", "sam", 1))
    assert not table_of(directory).notes


def test_half_a_letter_is_replaced() -> None:
    assert numbers.printable("a\ud800b") == "a\ufffdb"
