"""Result sets side by side: what is held against what, what is said of it, and bad input."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.records import failure, provenance, record
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.report import published
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import collect
from jiant_sparse.report.comparison import Compared, compare
from jiant_sparse.report.comparison.sets import differences, label
from jiant_sparse.schema.record import Cost, Primary, Record

LOW = (0.700, 0.712, 0.705, 0.698)
HIGH = (0.740, 0.751, 0.748, 0.739)
FILES = {"model": "a" * 64, "test": "b" * 64}


def cells(task: str, method: str, values: tuple, **changes: object) -> list[Record]:
    changes = {"inputs": FILES, **changes}
    return [record(task, method, seed, value, **changes) for seed, value in enumerate(values)]


def write(directory: Path, *records: Record, benchmark: str = "bench") -> Path:
    for item in records:
        cell = item.cell.model_copy(update={"benchmark": benchmark})
        item.model_copy(update={"cell": cell}).write(cell.directory(directory))
    return directory / benchmark


def lines(made: Compared) -> dict[tuple[str, str], dict[str, str]]:
    with open(made.page.parent / "tables/comparison.csv", encoding="utf-8") as stream:
        return {(row["task"], row["method"]): row for row in csv.DictReader(stream)}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two commits; `sam` has gained on RTE."""
    new = provenance(commit="f" * 40)
    cost = Cost(step_milliseconds_median=151.0)
    old = [*cells("rte", "sam", LOW), *cells("cb", "sam", LOW), *cells("rte", "random", LOW)]
    a = write(tmp_path / "a", *old)
    now = {"provenance": new, "cost": cost}
    b = write(
        tmp_path / "b",
        *cells("rte", "sam", HIGH, **now),
        *cells("cb", "sam", LOW, **now),
        *cells("rte", "random", LOW[:2], **now),
    )
    return a, b


def test_each_place_is_tested_as_scipy_does_and_corrected_over_all(two: tuple[Path, Path]) -> None:
    made = compare(two)
    assert made.page == two[0] / "report/compare/index.html"
    found = lines(made)
    row = found["RTE", "sam"]
    test = stats.ttest_ind([100 * v for v in HIGH], [100 * v for v in LOW], equal_var=False)
    assert float(row["t"]) == pytest.approx(test.statistic, abs=1e-5)
    assert float(row["p"]) == pytest.approx(test.pvalue, abs=1e-6)
    assert float(row["difference"]) == pytest.approx(4.075)
    assert float(row["step_time_ratio"]) == pytest.approx(2)
    assert float(row["hedges_g"]) > 0
    assert {place: row["word"] for place, row in found.items()} == {
        ("RTE", "random"): "too few runs",
        ("AVG", "random"): "no result",
        ("RTE", "sam"): "higher",
        ("CB", "sam"): "no difference seen",
        ("AVG", "sam"): "higher",
    }
    tested = [row for row in found.values() if row["p"]]
    expected = multipletests([float(row["p"]) for row in tested], method="holm")[1]
    assert [float(row["holm_p"]) for row in tested] == pytest.approx(list(expected), abs=2e-6)
    assert (found["RTE", "random"]["n"], found["RTE", "random"]["n_baseline"]) == ("2", "4")
    assert "too few runs" in made.text
    assert "2 and 4; a test needs 3" in made.text


def test_what_is_said_is_after_the_correction(tmp_path: Path) -> None:
    near = tuple(value + 0.012 for value in LOW)
    tasks = ("rte", "cb", "wsc", "copa")
    a = write(tmp_path / "a", *(item for task in tasks for item in cells(task, "sam", LOW)))
    same = (item for task in tasks[1:] for item in cells(task, "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", near), *same)
    row = lines(compare([a, b]))["RTE", "sam"]
    assert float(row["p"]) < 0.05 < float(row["holm_p"])
    assert row["word"] == "no difference seen"


def test_the_other_way_round_everything_changes_its_sign(two: tuple[Path, Path]) -> None:
    there, back = lines(compare(two)), lines(compare(two, baseline=two[1]))
    assert back["RTE", "sam"]["word"] == "lower"
    assert back["RTE", "random"]["word"] == there["RTE", "random"]["word"] == "too few runs"
    for name in ("difference", "t", "hedges_g"):
        assert float(back["RTE", "sam"][name]) == -float(there["RTE", "sam"][name])
    assert float(back["RTE", "sam"]["step_time_ratio"]) == 0.5
    assert back["RTE", "sam"]["set"] == "bench (012345678)"
    assert back["RTE", "sam"]["baseline"] == "bench (fffffffff)"


def test_the_average_is_over_the_same_tasks_or_not_compared(two: tuple[Path, Path]) -> None:
    found = lines(compare(two))
    row = found["AVG", "sam"]
    assert float(row["mean"]) == pytest.approx((100 * sum(HIGH) / 4 + 100 * sum(LOW) / 4) / 2)
    assert float(row["difference"]) == pytest.approx(4.075 / 2)
    # Satterthwaite's contrast: the same errors, over four samples.
    variances = [stats.tvar([100 * v for v in values]) / 4 for values in (HIGH, LOW, LOW, LOW)]
    assert float(row["t"]) == pytest.approx(4.075 / sum(variances) ** 0.5, abs=1e-4)
    assert row["hedges_g"] == ""
    assert float(row["step_time_ratio"]) == pytest.approx(2)
    assert ("AVG", "random") in found
    assert found["AVG", "random"]["word"] == "no result"
    write(two[1].parent, *cells("wsc", "sam", LOW))
    more = lines(compare(two))["AVG", "sam"]
    assert (more["word"], more["difference"]) == ("not comparable", "")
    assert more["reasons"] == "AVG is over other tasks"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"primary": Primary(name="f1", dev=0.7, test=0.7)}, "metric is f1, not acc"),
        ({"inputs": {**FILES, "test": "c" * 64}}, "test data differ"),
        ({"inputs": {"model": "a" * 64}}, "test data are not recorded"),
        (
            {"setting": {"task": {"name": "rte", "like": "cb", "metric": "acc"}}},
            "task is cb, not rte",
        ),
        ({"setting": {"method": {"name": "random"}}}, "method is random, not sam"),
    ],
)
def test_what_is_of_another_thing_is_not_compared(
    tmp_path: Path, changes: dict, reason: str
) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", HIGH, **changes))
    row = lines(compare([a, b]))["RTE" if "task" not in reason else "rte", "sam"]
    assert (row["word"], row["difference"], row["p"]) == ("not comparable", "", "")
    assert row["reasons"] == reason
    assert row["mean"] != ""


def test_many_reasons_are_told_in_the_csv_alone(tmp_path: Path) -> None:
    setting = {"model": "tiny", "split": "files", "pooling": "mean"}
    made = compare(
        [write(tmp_path, *cells("rte", "sam", LOW, setting=setting))], baseline="published"
    )
    reasons = lines(made)["RTE", "sam"]["reasons"]
    assert reasons == "model is tiny; split is files; pooling is mean"
    page = made.page.read_text("utf-8")
    assert "model is tiny; split is files; and 1 more" in page


def test_a_missing_side_or_spread_is_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", (0.5,) * 3), failure("rte", "lora", 0, "no"))
    b = write(tmp_path / "b", *cells("rte", "sam", (0.6,) * 3), *cells("rte", "lora", LOW))
    write(tmp_path / "b", *cells("rte", "bitfit", LOW))
    found = lines(compare([a, b]))
    assert found["RTE", "sam"]["word"] == "no spread"
    assert float(found["RTE", "sam"]["difference"]) == pytest.approx(10)
    assert found["RTE", "lora"]["word"] == found["RTE", "bitfit"]["word"] == "no result"
    assert found["RTE", "bitfit"]["mean_baseline"] == ""
    assert float(found["RTE", "bitfit"]["mean"]) == pytest.approx(70.375)
    # A method that the baseline alone has.
    turned = lines(compare([b, a]))["RTE", "bitfit"]
    assert (turned["mean"], turned["n"]) == ("", "0")
    assert float(turned["mean_baseline"]) == pytest.approx(70.375)


def test_three_sets_each_against_the_first(two: tuple[Path, Path], tmp_path: Path) -> None:
    third = write(tmp_path / "c", *cells("rte", "sam", HIGH), benchmark="third")
    made = compare([*two, third])
    with open(made.page.parent / "tables/comparison.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["task"] == "RTE"]
    assert [row["set"] for row in rows[:2]] == ["bench (fffffffff)", "third"]
    assert {row["baseline"] for row in rows} == {"bench (012345678)"}
    assert "bench (fffffffff) and third against bench (012345678)" in made.text


def test_against_the_published_tables_one_set_is_enough(tmp_path: Path) -> None:
    value = published.value("sam", "RTE")
    near = tuple(value.mean / 100 + shift for shift in (-0.01, 0.0, 0.012))
    a = write(
        tmp_path / "a",
        *cells("rte", "sam", near),
        *cells("cb", "sam", (0.2, 0.21, 0.2)),
        *cells("cb", "random", near, setting={"model": "tiny"}),
        *cells("rte", "mine", near),
    )
    found = lines(compare([a], baseline="published"))
    assert found["RTE", "sam"]["word"] == "no difference seen"
    assert found["RTE", "sam"]["n_baseline"] == "10"
    assert float(found["RTE", "sam"]["mean_baseline"]) == value.mean
    expected = stats.ttest_ind_from_stats(
        100 * sum(near) / 3, stats.tstd([100 * v for v in near]), 3,
        value.mean, value.std * (10 / 9) ** 0.5, 10, equal_var=False,
    )  # fmt: skip
    assert float(found["RTE", "sam"]["p"]) == pytest.approx(expected.pvalue, abs=1e-6)
    assert found["CB", "sam"]["word"] == "lower"
    assert found["CB", "random"]["word"] == "not comparable"
    assert "model is tiny" in found["CB", "random"]["reasons"]
    assert found["RTE", "mine"]["word"] == "no result"
    made = compare([a], baseline="published")
    assert (
        "bench against published: partly not comparable: model is tiny (1 of 3 results)"
        in made.text
    )
    assert "partly not comparable: model is tiny (1 of 3 results)" in made.page.read_text("utf-8")
    # The paper's AVG is over its seven tasks.
    assert found["AVG", "sam"]["mean_baseline"] == ""


def test_the_published_average_stands_beside_its_seven_tasks(tmp_path: Path) -> None:
    tasks = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
    a = write(tmp_path, *(item for task in tasks for item in cells(task, "sam", (0.1, 0.11, 0.12))))
    row = lines(compare([a], baseline="published"))["AVG", "sam"]
    assert float(row["mean_baseline"]) == pytest.approx(
        published.value("sam", "AVG").mean, abs=0.01
    )
    assert row["word"] == "lower"


SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")


def test_an_average_is_not_held_against_one_task(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *(item for task in SEVEN for item in cells(task, "sam", LOW)))
    b = write(tmp_path / "b", *cells("cb", "sam", HIGH))
    for pair in ([a, b], [b, a]):
        row = lines(compare(pair))["AVG", "sam"]
        assert (row["word"], row["reasons"]) == ("not comparable", "AVG is over other tasks")
        assert [row[k] for k in ("difference", "p", "holm_p", "hedges_g", "step_time_ratio")] == (
            [""] * 5
        )
    # The side that is shown is the side that is recorded.
    row = lines(compare([a, b]))["AVG", "sam"]
    assert float(row["mean_baseline"]) == pytest.approx(100 * sum(LOW) / 4)
    assert float(row["mean"]) == pytest.approx(100 * sum(HIGH) / 4)


def test_an_average_over_one_task_is_not_tested_once_more(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, *cells("cb", "sam", v)) for n, v in (("a", LOW), ("b", HIGH)))
    c = write(tmp_path / "c", *cells("cb", "sam", LOW), *cells("rte", "sam", LOW))
    made = compare([a, b, c])
    with open(made.page.parent / "tables/comparison.csv", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["task"] == "AVG"]
    assert [row["reasons"] for row in rows] == ["AVG is over one task", "AVG is over other tasks"]
    assert [row["p"] for row in rows] == ["", ""]


def test_one_task_is_not_held_against_the_published_average(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *(item for task in SEVEN for item in cells(task, "sam", LOW)))
    b = write(tmp_path / "b", *cells("cb", "sam", HIGH))
    made = compare([a, b], baseline="published")
    with open(made.page.parent / "tables/comparison.csv", encoding="utf-8") as stream:
        one, other = [row for row in csv.DictReader(stream) if row["task"] == "AVG"]
    assert one["p"] != ""
    assert (other["word"], other["p"], other["mean_baseline"]) == ("no result", "", "")


def test_sets_beside_two_published_tables_show_both_values(tmp_path: Path) -> None:
    reduced = {"drop_train": 0.1}
    a = write(tmp_path / "a", *cells("rte", "sam", LOW), benchmark="T1")
    b = write(tmp_path / "b", *cells("rte", "sam", LOW, setting=reduced), benchmark="T2")
    made = compare([a, b], baseline="published")
    one, two = (published.value("sam", "RTE", table) for table in (1, 2))
    page = made.page.read_text("utf-8")
    for text in (made.text, page):
        assert f"{one.mean:.2f}" in text
        assert f"for T2: {two.mean:.2f} ± {two.std:.2f}" in text
        assert "for T1" not in text
    assert "for T1" not in compare([a], baseline="published").text


def test_step_times_are_the_means_that_the_report_shows(tmp_path: Path) -> None:
    a, b = (
        write(
            tmp_path / name,
            *(
                record(
                    "rte", "sam", seed, LOW[seed], inputs=FILES,
                    cost=Cost(step_milliseconds_median=time),
                )
                for seed, time in enumerate(times)
            ),
        )
        for name, times in (("a", (10.0, 10.0, 40.0)), ("b", (30.0, 30.0, 60.0)))
    )  # fmt: skip
    assert float(lines(compare([a, b]))["RTE", "sam"]["step_time_ratio"]) == pytest.approx(2)


def test_without_a_result_nothing_is_said_to_differ(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW), *cells("cb", "sam", LOW))
    failed = [failure(task, "sam", seed, "x") for task in ("rte", "cb") for seed in range(3)]
    b = write(tmp_path / "b", *failed)
    write(tmp_path / "b", *cells("wsc", "sam", LOW))
    for pair in ([a, b], [b, a]):
        found = lines(compare(pair))
        assert {row["word"] for row in found.values()} == {"no result"}
        assert {row["reasons"] for row in found.values()} == {""}


def told(*directories: Path) -> dict[str, tuple[str, ...]]:
    sets = label([summarise(collect(directory)) for directory in directories])
    return {item.name: item.values for item in differences(sets)}


def test_what_differs_is_told_and_nothing_else(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    other = {"decay_unselected": True, **record().settings["train"], "learning_rate": 0.5}
    b = write(
        tmp_path / "b",
        *cells(
            "rte", "sam", LOW[:3],
            setting={"model": "tiny", "train": other, "method": {"name": "sam", "density": 0.1}},
            provenance=provenance(device="GPU", versions={"python": "3.11.9", "torch": "3"}),
            inputs={**FILES, "model": "c" * 64, "train": "d" * 64},
        ),
    )  # fmt: skip
    assert told(a, b) == {
        "cells": ("4 ok, 0 failed, missing unknown", "3 ok, 0 failed, missing unknown"),
        "model": ("roberta-base", "tiny"),
        "train.decay_unselected": ("not recorded", "true"),
        "train.learning_rate": ("0.0001", "0.5"),
        "method sam.density": ("0.005", "0.1"),
        "ran on": ("cpu", "GPU"),
        "version of torch": ("2.13.0", "3"),
        "file model": ("a" * 12, "c" * 12),
        "file train of rte": ("not recorded", "d" * 12),
    }
    assert told(a) == {}
    made = compare([a, b])
    assert "model: bench (cpu): roberta-base; bench (GPU): tiny" in made.text
    page = made.page.read_text("utf-8")
    assert (
        page.index("What differs between") < page.index("roberta-base") < page.index("caption-comp")
    )
    assert (
        "The sets differ in: cells, model, train.learning_rate, method sam.density, ran on"
        in " ".join(made.text.split())
    )


def test_a_task_or_method_that_only_one_set_has_is_no_difference(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", LOW), *cells("cb", "random", LOW))
    assert told(a, b).keys() == {"cells"}
    less = {"inputs": {"model": "a" * 64}, "setting": {"method": {"name": "random"}}}
    c = write(tmp_path / "c", *cells("cb", "random", LOW, **less))
    found = told(a, b, c)
    assert found["file test of cb"] == ("\N{EN DASH}", "b" * 12, "not recorded")
    assert found["method random.density"] == ("\N{EN DASH}", "0.005", "not recorded")


def test_readings_of_one_method_may_differ(tmp_path: Path) -> None:
    paper = {"name": "random", "density": 0.005, "draw": "exact", "scope": "global"}
    program = {**paper, "draw": "bernoulli", "scope": "per_tensor"}
    train = record().settings["train"] | {"decay_unselected": False, "freeze_head": False}
    a = write(
        tmp_path / "a", *cells("rte", "random", LOW, setting={"method": paper, "train": train})
    )
    b = write(
        tmp_path / "b", *cells("rte", "random", LOW, setting={"method": program, "train": train})
    )
    assert told(a, b)["method random.draw"] == ("exact", "bernoulli")
    assert "reading of random" in told(a, b)


def test_mixed_values_are_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    kinds = [provenance(threads=number) for number in (1, 1, 2, 3, 4, 5)]
    b = write(
        tmp_path / "b",
        *(record("rte", "sam", i, inputs=FILES, provenance=kind) for i, kind in enumerate(kinds)),
    )
    assert told(a, b)["threads used"] == (
        "2", "1 (2 cells), 2 (1 cell), 3 (1 cell), 4 (1 cell), and 1 more",
    )  # fmt: skip


def test_sets_of_one_record_of_all_that_is_known_do_not_differ(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", LOW))
    made = compare([a, b])
    assert "Nothing that is recorded of the runs differs." in made.text
    assert "Nothing that is recorded of the runs." in made.page.read_text("utf-8")
    assert lines(made)["RTE", "sam"]["baseline"] == "bench (a)"


def labels(*directories: Path) -> list[str]:
    return [item.label for item in label([summarise(collect(each)) for each in directories])]


def test_a_set_is_called_by_what_tells_it_apart(tmp_path: Path, monkeypatch) -> None:
    x, y = tmp_path / "x", tmp_path / "x/old"
    a, b = (write(place, *cells("rte", "sam", LOW)) for place in (x, y))
    monkeypatch.chdir(tmp_path)
    # One path is a part of the other: both are told as they were given.
    assert labels(Path("x/bench"), Path("x/old/bench")) == [
        "bench (x/bench)", "bench (x/old/bench)",
    ]  # fmt: skip
    device = write(tmp_path / "z", *cells("rte", "sam", LOW, provenance=provenance(device="GPU")))
    assert labels(a, device) == ["bench (cpu)", "bench (GPU)"]
    other = write(tmp_path / "z", *cells("rte", "sam", LOW), benchmark="other")
    assert labels(b, other) == ["bench", "other"]
    unknown = write(tmp_path / "u", *cells("rte", "sam", LOW, provenance=provenance(commit=None)))
    assert labels(b, unknown) == ["bench (x/old)", "bench (u)"]
    odd = write(tmp_path / "odd", *cells("rte", "sam", LOW), benchmark="bench (x)")
    assert len(set(labels(a, device, odd))) == 3
    long = write(tmp_path / "long", *cells("rte", "sam", LOW), benchmark="n" * 200)
    assert labels(long, a)[0] == "n" * 45 + "..."


def test_labels_that_are_still_equal_are_numbered(tmp_path: Path) -> None:
    a, b = (
        write(tmp_path / name, *cells("rte", "sam", LOW), benchmark=f"{'n' * 60}{name}")
        for name in ("a", "b")
    )
    assert labels(a, b) == [f"{'n' * 45}... (bench)", ""] or len(set(labels(a, b))) == 2


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    setting = {"model": evil, "x": evil}
    a = write(tmp_path / "a", *cells("rte", "<b>|$&", LOW, setting=setting))
    b = write(tmp_path / "b", *cells("rte", "<b>|$&", LOW, provenance=provenance(device=evil)))
    (b / "<i>").mkdir()
    (b / "<i>/record.json").write_text("{")
    made = compare([a, b])
    page = made.page.read_text("utf-8")
    assert evil not in page
    assert "<b>|" not in page
    assert "<i>/record" not in page
    assert "&lt;i&gt;/record.json</code>: file: Invalid JSON" in page
    assert "4 ok, 0 failed, missing unknown, 1 unusable" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_the_same_records_give_the_same_bytes(two: tuple[Path, Path], tmp_path: Path) -> None:
    made = [compare(two, output_dir=tmp_path / name) for name in ("one", "two")]
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert [str(name) for name in names] == [
        "figures/ranks.png", "figures/ranks.svg", "index.html",
        "tables/comparison.csv", "tables/comparison.md", "tables/comparison.tex",
    ]  # fmt: skip
    for name in names:
        one, other = ((tmp_path / place / name).read_bytes() for place in ("one", "two"))
        assert one == other, name
    assert made[0].text == made[1].text
    assert not (two[0] / "report").exists()


def test_sets_that_share_nothing_are_told_so(two: tuple[Path, Path], tmp_path: Path) -> None:
    said = "No method has a result on the same task on both sides."
    other = write(tmp_path / "c", *cells("wsc", "sam", HIGH), *cells("rte", "lora", HIGH))
    made = compare([two[0], other])
    assert said in " ".join(made.text.split())
    assert said in made.page.read_text("utf-8")
    assert {row["word"] for row in lines(made).values()} == {"no result"}
    # Two averages that are over other tasks share nothing either.
    apart = write(tmp_path / "d", *cells("wsc", "sam", HIGH), *cells("copa", "sam", HIGH))
    assert said in " ".join(compare([two[0], apart]).text.split())
    assert lines(compare([two[0], apart]))["AVG", "sam"]["word"] == "not comparable"
    write(tmp_path / "c", *cells("rte", "sam", HIGH))
    assert said not in " ".join(compare([two[0], other]).text.split())


def test_the_sets_are_enumerated(two: tuple[Path, Path], tmp_path: Path) -> None:
    more = [write(tmp_path / n, *cells("rte", "sam", LOW), benchmark=n) for n in ("x", "y")]
    page = compare([*two, *more]).page.read_text("utf-8")
    assert "<h1>bench (fffffffff), x and y against bench (012345678)</h1>" in page


def test_one_seed_draws_no_ranks(tmp_path: Path) -> None:
    a, b = (write(tmp_path / n, *cells("rte", "sam", LOW[:1])) for n in "ab")
    made = compare([a, b])
    assert not (made.page.parent / "figures").exists()
    assert "Figures" not in made.page.read_text("utf-8")


@pytest.fixture
def cli(two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str):
        return CliRunner().invoke(app, ["report", *arguments])

    return call


def test_the_command_prints_the_comparison(cli) -> None:
    result = cli("a/bench", "b/bench", "--compare", "--baseline", "./b/bench")
    assert result.exit_code == 0, result.output
    assert "bench (012345678) against bench (fffffffff)" in result.stdout
    assert Path("a/bench/report/compare/index.html").exists()
    assert result.stderr == "page: a/bench/report/compare/index.html\n"
    alone = cli("a/bench", "--compare", "--baseline", "published", "--output-dir", "out")
    assert alone.exit_code == 0, alone.output
    assert "bench against published" in alone.stdout
    assert Path("out/tables/comparison.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            ["a/bench", "b/bench"],
            ["expected one directory, got 2: a/bench, b/bench; use --compare for several"],
        ),
        (
            ["a/bench", "--baseline", "published"],
            ["--baseline published: belongs to a comparison; add --compare"],
        ),
        (
            ["a/bench", "b/bench", "--compare", "--reference", "sam"],
            ["--reference sam: belongs to a report of one set, not --compare"],
        ),
        (
            ["a/bench", "b/bench", "--baseline", "a/bench"],
            ["expected one directory, got 2: a/bench, b/bench; use --compare for several",
             "--baseline a/bench: belongs to a comparison; add --compare"],
        ),
        (
            ["a/bench", "--compare"],
            ["got one directory to compare, a/bench; give two or more, or compare it with "
             "--baseline published"],
        ),
        (
            ["a/bench", "--compare", "--baseline", "a/bench"],
            ["got one directory to compare, a/bench; give two or more, or compare it with "
             "--baseline published"],
        ),
        (
            ["a/bench", "b/bench", "--compare", "--baseline", "a"],
            ["--baseline a: is not one of the directories that are compared; allowed are "
             "published, a/bench, b/bench"],
        ),
        (
            ["a/bench", "b/bench", "./a/bench", "--compare"],
            ["a/bench: is given twice, as a/bench before"],
        ),
        (
            ["gone", "a", "b/bench", "--compare"],
            ["gone: is not a directory; expected <output>/<benchmark>",
             "a: no usable record.json; expected <task>/<method>/seed-<k>/record.json"],
        ),
    ],
)  # fmt: skip
def test_bad_input_is_a_line_and_nothing_is_written(
    cli, tmp_path: Path, arguments: list[str], problems: list[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = cli(*arguments)
    assert result.exit_code == 2, result.output
    said = [line.removeprefix("error: ") for line in result.stderr.splitlines()]
    assert [line for line in said if not line.startswith("a/bench/")][: len(problems)] == problems
    assert sorted(tmp_path.rglob("*")) == before


def test_a_report_is_done_whatever_it_says_of_the_cells(cli, tmp_path: Path) -> None:
    write(tmp_path / "a", failure("rte", "sam", 9, "diverged"))
    (tmp_path / "a/bench/cb/sam/seed-0/record.json").write_text("{")
    result = cli("a/bench", "--output-dir", "out")
    assert result.exit_code == 0, result.output
    assert "1 failed" in result.stdout
    assert "1 unusable" in result.stdout
    assert result.stderr.splitlines()[-1] == "page: out/index.html"
    assert "page: " not in result.stdout


def test_a_comparison_does_not_replace_a_report_nor_a_report_a_comparison(
    cli, tmp_path: Path
) -> None:
    assert cli("a/bench").exit_code == 0
    assert cli("a/bench", "b/bench", "--compare").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for arguments, where in (
        (["a/bench", "b/bench", "--compare", "--output-dir", "a/bench/report"], "a report"),
        (["a/bench", "--output-dir", "a/bench/report/compare"], "a comparison"),
    ):
        result = cli(*arguments)
        assert result.exit_code == 2, result.output
        assert result.stderr == (
            f"error: {arguments[-1]}/index.html: is of {where} and would be replaced; "
            "give another --output-dir\n"
        )
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_nothing_to_compare_is_bad_input() -> None:
    with pytest.raises(InputError, match="there is nothing to compare; give a directory"):
        compare([], baseline="published")
    with pytest.raises(InputError, match="got one directory to compare, none; give two or more"):
        compare([])


def test_help_says_what_each_option_is_for(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(cli("--help").stdout.split())
    options = ("--output-dir", "--reference", "--compare", "--baseline", "published tables")
    for words in (*options, "Exit code 0: the report is written, whatever it says of failed"):
        assert words in shown


def test_a_comparison_needs_neither_torch_nor_jiant(two: tuple[Path, Path]) -> None:
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'jiant', 'transformers'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from jiant_sparse.cli import main\n"
        f"sys.argv = ['x', 'report', {str(two[0])!r}, {str(two[1])!r}, '--compare']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
