"""Result sets side by side: what is compared with what, what is said of it, and bad input."""

from pathlib import Path

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from support.records import failure, provenance, record
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.report import published
from jiant_sparse.report.comparison import compare
from jiant_sparse.report.comparison.pairs import Pair, pairs
from jiant_sparse.report.comparison.sets import differences, label
from jiant_sparse.report.comparison.table import comparison
from jiant_sparse.report.frame import load
from jiant_sparse.report.numbers import DASH
from jiant_sparse.report.table import Table
from jiant_sparse.schema.record import Cost, Primary, Record

LOW = (0.700, 0.712, 0.705, 0.698)
HIGH = (0.740, 0.751, 0.748, 0.739)
FILES = {"model": "a" * 64, "test": "b" * 64}
SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")


def cells(tasks: str, method: str, values: tuple, **changes: object) -> list[Record]:
    """A method with these values by seed on each of `tasks`."""
    changes = {"inputs": FILES, **changes}
    return [
        record(task, method, seed, value, **changes)
        for task in tasks.split()
        for seed, value in enumerate(values)
    ]


def write(directory: Path, *records: Record, benchmark: str = "bench") -> Path:
    for item in records:
        cell = item.cell.model_copy(update={"benchmark": benchmark})
        item.model_copy(update={"cell": cell}).write(cell.directory(directory))
    return directory / benchmark


def compared(*directories: Path, published: bool = False) -> dict[tuple[str, str], Pair]:
    """The pairs of the last directory with the first one, or with the published tables."""
    sets = label([*map(load, directories)])
    found = pairs(None, sets) if published else pairs(sets[0], sets[1:])
    return {(place[0]["task"], place[0]["method"]): place[-1] for place in found}


def table_of(*directories: Path, published: bool = False) -> Table:
    sets = label([*map(load, directories)])
    return comparison(sets, None if published else sets[0], differences(sets))


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two commits; `sam` has gained on RTE."""
    now = {"provenance": provenance(commit="f" * 40), "cost": Cost(step_milliseconds_median=151.0)}
    old = [*cells("rte cb", "sam", LOW), *cells("rte", "random", LOW)]
    new = [*cells("rte", "sam", HIGH, **now), *cells("cb", "sam", LOW, **now)]
    new += cells("rte", "random", LOW[:2], **now)
    return write(tmp_path / "a", *old), write(tmp_path / "b", *new)


# What is compared.


def test_each_place_is_tested_and_corrected_over_all(two: tuple[Path, Path]) -> None:
    found = compared(*two)
    assert {place: row["word"] for place, row in found.items()} == {
        ("RTE", "random"): "too few runs",
        ("AVG", "random"): "no result",
        ("RTE", "sam"): "higher",
        ("CB", "sam"): "no difference seen",
        ("AVG", "sam"): "higher",
    }
    row = found["RTE", "sam"]
    test = stats.ttest_ind([100 * v for v in HIGH], [100 * v for v in LOW], equal_var=False)
    assert (row["t"], row["p"]) == pytest.approx((test.statistic, test.pvalue))
    assert row["difference"] == pytest.approx(4.075) and row["hedges_g"] > 0
    assert row["step_time_ratio"] == 2
    tested = [row for row in found.values() if row["p"] is not None]
    expected = multipletests([row["p"] for row in tested], method="holm")[1]
    assert [row["holm_p"] for row in tested] == pytest.approx([*expected])
    assert (found["RTE", "random"]["n"], found["RTE", "random"]["n_baseline"]) == (2, 4)


def test_what_is_said_is_after_the_correction(tmp_path: Path) -> None:
    near = tuple(value + 0.012 for value in LOW)
    a = write(tmp_path / "a", *cells("rte cb wsc copa", "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", near), *cells("cb wsc copa", "sam", LOW))
    row = compared(a, b)["RTE", "sam"]
    assert row["p"] < 0.05 < row["holm_p"] and row["word"] == "no difference seen"


def test_the_other_way_round_everything_changes_its_sign(two: tuple[Path, Path]) -> None:
    there, back = compared(*two)["RTE", "sam"], compared(*two[::-1])["RTE", "sam"]
    assert (there["word"], back["word"]) == ("higher", "lower")
    for name in ("difference", "t", "hedges_g"):
        assert back[name] == pytest.approx(-there[name])
    assert back["step_time_ratio"] == 0.5
    assert (back["set"], back["baseline"]) == ("bench (012345678)", "bench (fffffffff)")


def test_the_average_is_satterthwaites_contrast(two: tuple[Path, Path]) -> None:
    row = compared(*two)["AVG", "sam"]
    assert row["mean"] == pytest.approx((100 * sum(HIGH) / 4 + 100 * sum(LOW) / 4) / 2)
    assert row["difference"] == pytest.approx(4.075 / 2)
    variances = [stats.tvar([100 * v for v in values]) / 4 for values in (HIGH, LOW, LOW, LOW)]
    assert row["t"] == pytest.approx(4.075 / sum(variances) ** 0.5, abs=1e-4)
    assert row["hedges_g"] is None and row["step_time_ratio"] == pytest.approx(2)


NOTHING = dict.fromkeys(("difference", "p", "holm_p", "hedges_g", "step_time_ratio"))


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        (" ".join(SEVEN), "cb", "AVG is over other tasks"),
        ("cb rte", "cb rte wsc", "AVG is over other tasks"),
        # It would be the task's own test once more.
        ("cb", "cb", "AVG is over one task"),
    ],
)
def test_averages_over_other_tasks_are_not_compared(tmp_path: Path, ours, theirs, reason) -> None:
    a = write(tmp_path / "a", *cells(theirs, "sam", LOW))
    b = write(tmp_path / "b", *cells(ours, "sam", HIGH))
    # That AVG is a place at all takes a second task, of any set.
    c = write(tmp_path / "c", *cells("cb mrpc", "other", LOW))
    sets = label([*map(load, (a, b, c))])
    found = {(place[0]["task"], place[0]["method"]): place[0] for place in pairs(sets[0], sets[1:])}
    row = found["AVG", "sam"]
    assert (row["word"], row["reasons"]) == ("not comparable", (reason,))
    assert {name: row[name] for name in NOTHING} == NOTHING
    # The side that is shown is the side that is recorded.
    assert row["mean"] == pytest.approx(100 * sum(HIGH) / 4)
    assert row["mean_baseline"] == pytest.approx(100 * sum(LOW) / 4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"primary": Primary(name="f1", dev=0.7, test=0.7)}, "metric is f1, not acc"),
        ({"inputs": {**FILES, "test": "c" * 64}}, "test data differ"),
        ({"inputs": {"model": "a" * 64}}, "test data are not recorded"),
        ({"setting": {"task": {"name": "rte", "like": "cb"}}}, "task is cb, not rte"),
        ({"setting": {"method": {"name": "random"}}}, "method is random, not sam"),
        (
            {"setting": {"split": "dev_as_test"}},
            "on one side the test set also chose the best step",
        ),
        ({"provenance": provenance(dropped_examples={"test": 1})}, "other test rows were left out"),
    ],
)
def test_results_of_different_things_are_not_compared(
    tmp_path: Path, changes: dict, reason: str
) -> None:
    a = write(tmp_path / "a", *cells("rte cb", "sam", LOW))
    changed = cells("rte", "sam", HIGH, **changes)
    found = compared(a, write(tmp_path / "b", *changed, *cells("cb", "sam", LOW)))
    # Of another task, RTE is a variant, which has no title.
    (row,) = (row for (title, _), row in found.items() if title.upper() == "RTE")
    assert (row["word"], row["difference"], row["p"]) == ("not comparable", None, None)
    assert row["reasons"] == (reason,) and row["mean"] is not None
    # On AVG the reason has its task.
    assert [one.partition(": ")[2] for one in found["AVG", "sam"]["reasons"]] == [reason]


def test_many_reasons_are_told_in_the_csv_alone(tmp_path: Path) -> None:
    setting = {"model": "tiny", "split": "files", "pooling": "mean"}
    a = write(tmp_path, *cells("rte", "sam", LOW, setting=setting))
    made = table_of(a, published=True)
    assert [*made.data["reasons"]] == ["model is tiny; split is files; pooling is mean"]
    assert made.rows[0][-1].note == "model is tiny; split is files; and 1 more"


def test_a_missing_side_or_spread_is_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", (0.5,) * 3), failure("rte", "lora", 0, "no"))
    more = [*cells("rte", "lora", LOW), *cells("rte", "bitfit", LOW)]
    b = write(tmp_path / "b", *cells("rte", "sam", (0.6,) * 3), *more)
    found = compared(a, b)
    assert found["RTE", "sam"]["word"] == "no spread"
    assert found["RTE", "sam"]["difference"] == pytest.approx(10)
    assert found["RTE", "lora"]["word"] == found["RTE", "bitfit"]["word"] == "no result"
    assert found["RTE", "bitfit"]["mean_baseline"] is None
    assert found["RTE", "bitfit"]["mean"] == pytest.approx(70.375)
    # A method that the baseline alone has.
    turned = compared(b, a)["RTE", "bitfit"]
    assert (turned["mean"], turned["n"]) == (None, 0)
    assert turned["mean_baseline"] == pytest.approx(70.375)


def test_without_a_result_nothing_is_said_to_differ(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte cb", "sam", LOW))
    failed = [failure(task, "sam", seed, "x") for task in ("rte", "cb") for seed in range(3)]
    b = write(tmp_path / "b", *failed, *cells("wsc", "sam", LOW))
    for found in (compared(a, b), compared(b, a)):
        assert {row["word"] for row in found.values()} == {"no result"}
        assert {row["reasons"] for row in found.values()} == {()}
    c, d = (write(tmp_path / name, *failed) for name in "cd")
    assert table_of(c, d).caption.startswith("No cell has a test value yet.")


def test_step_times_are_the_means_that_the_report_shows(tmp_path: Path) -> None:
    def timed(name: str, *times: float) -> Path:
        costs = [Cost(step_milliseconds_median=time) for time in times]
        return write(tmp_path / name, *(record(seed=k, cost=cost) for k, cost in enumerate(costs)))

    found = compared(timed("a", 10.0, 10.0, 40.0), timed("b", 30.0, 30.0, 60.0))
    assert found["RTE", "sam"]["step_time_ratio"] == pytest.approx(2)


# The published tables.


def test_against_the_published_tables(tmp_path: Path) -> None:
    value = published.value("sam", "RTE")
    near = tuple(value.mean / 100 + shift for shift in (-0.01, 0.0, 0.012))
    a = write(
        tmp_path / "a",
        *cells("rte", "sam", near),
        *cells("cb", "sam", (0.2, 0.21, 0.2)),
        *cells("cb", "random", near, setting={"model": "tiny"}),
        *cells("rte", "mine", near),
    )
    found = compared(a, published=True)
    assert {place: row["word"] for place, row in found.items() if place[0] != "AVG"} == {
        ("RTE", "sam"): "no difference seen",
        ("CB", "sam"): "lower",
        ("CB", "random"): "not comparable",
        ("RTE", "mine"): "no result",
    }
    row = found["RTE", "sam"]
    assert (row["n_baseline"], row["mean_baseline"]) == (10, value.mean)
    ours, theirs = stats.tstd([100 * v for v in near]), value.std * (10 / 9) ** 0.5
    expected = stats.ttest_ind_from_stats(
        100 * sum(near) / 3, ours, 3, value.mean, theirs, 10, equal_var=False
    )
    assert row["p"] == pytest.approx(expected.pvalue, abs=1e-6)
    assert found["CB", "random"]["reasons"] == ("model is tiny",)
    # The paper's AVG is over its seven tasks.
    assert found["AVG", "sam"]["mean_baseline"] is None


def test_the_published_average_stands_beside_its_seven_tasks(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells(" ".join(SEVEN), "sam", (0.1, 0.11, 0.12)))
    b = write(tmp_path / "b", *cells("cb", "sam", HIGH))
    row = compared(a, published=True)["AVG", "sam"]
    expected = published.value("sam", "AVG").mean
    assert row["word"] == "lower" and row["mean_baseline"] == pytest.approx(expected, abs=0.01)
    alone = compared(a, b, published=True)["AVG", "sam"]
    assert (alone["word"], alone["p"], alone["mean_baseline"]) == ("no result", None, None)


def test_sets_beside_two_published_tables_show_both_values(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW), benchmark="T1")
    reduced = cells("rte", "sam", LOW, setting={"drop_train": 0.1})
    b = write(tmp_path / "b", *reduced, benchmark="T2")
    one, other = (published.value("sam", "RTE", number) for number in (1, 2))
    shown = table_of(a, b, published=True).rows[0][1]
    assert shown.value == one.mean
    assert shown.note == f"for T2: {other.mean:.2f} ± {other.std:.2f}"


# What differs.


def told(*directories: Path) -> dict[str, tuple[str, ...]]:
    sets = label([*map(load, directories)])
    return {item.name: item.values for item in differences(sets)}


def test_what_differs_is_told_and_nothing_else(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    train = {"decay_unselected": True, **record().settings["train"], "learning_rate": 0.5}
    other = {
        "setting": {"model": "tiny", "train": train, "method": {"name": "sam", "density": 0.1}},
        "provenance": provenance(device="GPU", versions={"python": "3.11.9", "torch": "3"}),
        "inputs": {**FILES, "model": "c" * 64, "train": "d" * 64},
    }
    b = write(tmp_path / "b", *cells("rte", "sam", LOW[:3], **other))
    assert told(a, b) == {
        "cells": ("4 ok, 0 failed, missing unknown", "3 ok, 0 failed, missing unknown"),
        "model": ("roberta-base", "tiny"),
        "train.decay_unselected": ("not recorded", "true"),
        "train.learning_rate": ("0.0001", "0.5"),
        "method sam.density": ("0.005", "0.1"),
        "reading of sam": ("paper", "mixed"),
        "ran on": ("cpu", "GPU"),
        "version of torch": ("2.13.0", "3"),
        "file model": ("a" * 12, "c" * 12),
        "file train of rte": ("not recorded", "d" * 12),
    }
    assert told(a) == {}
    made = compare([a, b])
    assert "model: bench (cpu): roberta-base; bench (GPU): tiny" in made.text
    page = made.page.read_text("utf-8")
    places = [page.index(text) for text in ("What differs between", "roberta-base", "caption-comp")]
    assert places == sorted(places)


def test_a_task_or_method_that_only_one_set_has_is_no_difference(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    b = write(tmp_path / "b", *cells("rte", "sam", LOW), *cells("cb", "random", LOW))
    assert told(a, b).keys() == {"cells"}
    less = {"inputs": {"model": "a" * 64}, "setting": {"method": {"name": "random"}}}
    c = write(tmp_path / "c", *cells("cb", "random", LOW, **less))
    found = told(a, b, c)
    assert found["file test of cb"] == (DASH, "b" * 12, "not recorded")
    assert found["method random.density"] == (DASH, "0.005", "not recorded")


def test_mixed_values_are_counted(tmp_path: Path) -> None:
    a = write(tmp_path / "a", *cells("rte", "sam", LOW))
    kinds = [provenance(threads=number) for number in (1, 1, 2, 3, 4, 5)]
    mixed = (record("rte", "sam", i, inputs=FILES, provenance=k) for i, k in enumerate(kinds))
    assert told(a, write(tmp_path / "b", *mixed))["threads used"] == (
        "2",
        "1 (2 cells), 2 (1 cell), 3 (1 cell), 4 (1 cell), and 1 more",
    )


def labels(*directories: Path) -> list[str]:
    return [item.label for item in label([*map(load, directories)])]


def test_a_set_is_called_by_what_tells_it_apart(tmp_path: Path, monkeypatch) -> None:
    def named(name: str, benchmark: str = "bench", **origin: object) -> Path:
        origin = {"provenance": provenance(**origin)}
        return write(tmp_path / name, *cells("rte", "sam", LOW, **origin), benchmark=benchmark)

    a, b = named("x"), named("x/old")
    monkeypatch.chdir(tmp_path)
    # One path is a part of the other: both are told as they were given.
    given = Path("x/bench"), Path("x/old/bench")
    assert labels(*given) == ["bench (x/bench)", "bench (x/old/bench)"]
    device = named("z", device="GPU")
    assert labels(a, device) == ["bench (cpu)", "bench (GPU)"]
    assert labels(b, named("other", "other")) == ["bench", "other"]
    assert labels(b, named("u", commit=None)) == ["bench (x/old)", "bench (u)"]
    assert len({*labels(a, device, named("odd", "bench (x)"))}) == 3
    one, two = named("a", "n" * 60 + "a"), named("b", "n" * 60 + "b")
    assert labels(one, a)[0] == "n" * 45 + "..."
    assert len({*labels(one, two)}) == 2, "numbered if nothing else tells them apart"


# The table, the page and the text.


def test_three_sets_each_against_the_first(two: tuple[Path, Path], tmp_path: Path) -> None:
    more = [write(tmp_path / n, *cells("rte", "sam", HIGH), benchmark=n) for n in ("x", "y")]
    made = table_of(*two, *more)
    rows = made.data[made.data["task"] == "RTE"]
    assert [*rows["set"]][:3] == ["bench (fffffffff)", "x", "y"]
    assert {*rows["baseline"]} == {"bench (012345678)"}
    assert made.title == "bench (fffffffff), x and y against bench (012345678)"


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    setting = {"model": evil, "x": evil}
    a = write(tmp_path / "a", *cells("rte", "<b>|$&", LOW, setting=setting))
    b = write(tmp_path / "b", *cells("rte", "<b>|$&", LOW, provenance=provenance(device=evil)))
    (b / "<i>").mkdir()
    (b / "<i>/record.json").write_text("{")
    page = compare([a, b]).page.read_text("utf-8")
    for raw in (evil, "<b>|", "<i>/record"):
        assert raw not in page
    assert "&lt;i&gt;/record.json</code>: file: Invalid JSON" in page
    assert "4 ok, 0 failed, missing unknown, 1 unusable" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_sets_of_equal_records_do_not_differ(tmp_path: Path) -> None:
    a, b = (write(tmp_path / name, *cells("rte", "sam", LOW)) for name in "ab")
    made = compare([a, b])
    assert "Nothing that is recorded of the runs differs." in made.text
    page = made.page.read_text("utf-8")
    assert "Nothing that is recorded of the runs." in page
    # One seed or one method draws no ranks.
    assert not (made.page.parent / "figures").exists() and "Figures" not in page


@pytest.mark.parametrize(
    ("records", "alone"),
    [
        # Two averages that are over other tasks share nothing either.
        ([*cells("wsc copa", "sam", HIGH), *cells("rte", "lora", HIGH)], True),
        (cells("rte", "sam", HIGH), False),
    ],
)
def test_sets_that_share_nothing_are_told_so(two, tmp_path: Path, records, alone) -> None:
    made = table_of(two[0], write(tmp_path / "c", *records))
    assert made.caption.endswith("on the same task on both sides.") == alone


# The command.


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
    assert result.stderr == "page: a/bench/report/compare/index.html\n"
    alone = cli("a/bench", "--compare", "--baseline", "published", "--output-dir", "out")
    assert alone.exit_code == 0, alone.output
    assert "bench against published: partly not comparable: " not in alone.stdout
    assert "bench against published: comparable: same model" in alone.stdout
    assert Path("out/tables/comparison.tex").exists()


def test_a_report_is_done_whatever_it_says_of_the_cells(tmp_path: Path) -> None:
    directory = write(tmp_path, failure("rte", "sam", 0, "x"), failure("rte", "sam", 1, "x"))
    (directory / "rte/sam/seed-1/record.json").write_text("{")
    result = CliRunner().invoke(app, ["report", str(directory), "--output-dir", f"{tmp_path}/out"])
    assert result.exit_code == 0, result.output
    assert "1 failed" in result.stdout and "1 unusable" in result.stdout
    assert result.stderr.splitlines()[-1] == f"page: {tmp_path}/out/index.html"
    assert "page: " not in result.stdout


SEVERAL = "expected one directory, got 2: a/bench, b/bench; use --compare for several"
ONE = (
    "got one directory to compare, a/bench; give two or more, or compare it with --baseline "
    "published"
)


@pytest.mark.parametrize(
    ("arguments", "problems"),
    [
        (
            "a/bench b/bench --baseline a/bench",
            [SEVERAL, "--baseline a/bench: belongs to a comparison; add --compare"],
        ),
        (
            "a/bench b/bench --compare --reference sam",
            ["--reference sam: belongs to a report of one set, not --compare"],
        ),
        ("a/bench --compare", [ONE]),
        (
            "a/bench b/bench --compare --baseline a",
            [
                "--baseline a: is not one of the directories that are compared; allowed are "
                "published, a/bench, b/bench"
            ],
        ),
        ("a/bench b/bench ./a/bench --compare", ["a/bench: is given twice, as a/bench before"]),
        (
            "gone a b/bench --compare",
            [
                "gone: is not a directory; expected <output>/<benchmark>",
                "a: no usable record.json; expected <task>/<method>/seed-<k>/record.json",
            ],
        ),
    ],
)
def test_bad_input_is_a_line_and_nothing_is_written(
    cli, tmp_path: Path, arguments: str, problems: list[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = cli(*arguments.split())
    assert result.exit_code == 2, result.output
    said = [line.removeprefix("error: ") for line in result.stderr.splitlines()]
    assert [line for line in said if not line.startswith("a/bench/")][: len(problems)] == problems
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_to_compare_is_bad_input() -> None:
    for baseline in ("published", None):
        with pytest.raises(InputError, match="there is nothing to compare; give a directory"):
            compare([], baseline=baseline)


def test_help_says_what_each_option_is_for(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    shown = " ".join(cli("--help").stdout.split())
    options = ("--output-dir", "--reference", "--compare", "--baseline", "published tables")
    for words in (*options, "Exit code 0: the report is written, even if it lists failed"):
        assert words in shown
