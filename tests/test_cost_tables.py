"""What a method costs: times beside Table 3."""

from pathlib import Path
from typing import Any

import pytest
from support.records import cells, failure, lines, plan, provenance, record, write

from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.table import Cell
from jiant_sparse.report.tables.times import (
    step_time,
    time_to_best,
    time_to_stop,
    to_best,
    to_stop,
)
from jiant_sparse.schema.record import Cost, Machine, Record

SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")


def summary(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


def timed(
    seconds: float | None, seed: int = 0, /, task: str = "rte", method: str = "sam", **changes: Any
) -> Record:
    """A cell of `seconds` of steps; `select` of choosing and `step` milliseconds if given."""
    cost = Cost(
        train_seconds=seconds,
        select_seconds=changes.pop("select", 0.0),
        eval_seconds=1e6,
        step_milliseconds_median=changes.pop("step", None),
    )
    return record(task, method, seed, cost=cost, **changes)


def test_the_long_form_has_the_average(tmp_path: Path) -> None:
    records = [timed(10.0 * i, s, task=t) for i, t in enumerate(SEVEN, 1) for s in (0, 1)]
    records.append(timed(5.0, 0, method="random"))
    found = summary(tmp_path, *records)
    random, sam = lines(time_to_stop(found), average=True)
    where = {"benchmark": "bench", "task": "AVG", "n": None}
    assert sam == {
        **where, "method": "sam", "mean_seconds": 40.0, "std_seconds": 0.0, "published_hours": 2.02
    }  # fmt: skip
    assert random == {
        **where, "method": "random", "mean_seconds": None, "std_seconds": None,
        "published_hours": 2.62,
    }  # fmt: skip
    assert "published_hours" not in lines(time_to_best(found), average=True)[0]


def test_hours_stand_beside_the_row_of_the_method_alone(tmp_path: Path) -> None:
    denser = {"method": {"name": "sam", "density": 0.01}}
    found = [timed(5.0), timed(5.0, method="denser", setting=denser)]
    table = time_to_stop(summary(tmp_path / "a", *found))
    assert cells(table, "sam")["RTE"].note == "paper 3.15 h"
    assert cells(table, "denser")["RTE"].note == ""
    by_method = {line["method"]: line["published_hours"] for line in lines(table)}
    assert by_method == {"sam": 3.15, "denser": None}
    # Of two variants neither stands for the method, and there is nothing to say of hours.
    found[0] = timed(5.0, method="densest", setting=denser)
    several = time_to_stop(summary(tmp_path / "b", *found))
    assert cells(several, "densest")["RTE"].note == ""
    assert not any("hours" in note for note in several.notes)


@pytest.mark.parametrize("unknown", ["train", "select"])
def test_a_part_of_the_time_that_is_unknown_makes_the_whole_unknown(
    tmp_path: Path, unknown: str
) -> None:
    item = timed(None, select=5.0) if unknown == "train" else timed(5.0, select=None)
    assert to_stop(item) is None and to_best(item) is None
    assert cells(time_to_stop(summary(tmp_path, item)), "sam")["RTE"].text == "–"


def test_time_to_stop_is_choosing_and_all_steps_without_evaluations(tmp_path: Path) -> None:
    table = time_to_stop(summary(tmp_path, timed(20.0, 0, select=4.0), timed(30.0, 1, select=4.0)))
    assert (table.name, table.title) == ("time_to_stop", "Time to stop (s)")
    found = cells(table, "sam")["RTE"]
    assert (found.text, found.spread, found.value) == ("29.00", "5.00", 29.0)
    assert found.note == "paper 3.15 h"
    assert lines(table) == [
        {
            "benchmark": "bench",
            "task": "rte",
            "method": "sam",
            "n": 2,
            "mean_seconds": 29.0,
            "std_seconds": 5.0,
            "published_hours": 3.15,
        }
    ]


def test_a_method_that_chooses_nothing_has_its_steps_alone(tmp_path: Path) -> None:
    table = time_to_stop(summary(tmp_path, timed(20.0, method="full_tuning")))
    found = cells(table, "full_tuning")["RTE"]
    assert (found.text, found.spread) == ("20.00", "")


def test_what_was_not_measured_is_a_dash_and_not_imputed(tmp_path: Path) -> None:
    failed = timed(7.0, 2, status="failed", error="diverged", primary=None)
    records = [timed(None, 0, select=5.0), timed(20.0, 1), failed]
    records += [timed(None, 0, method="mixout"), timed(None, 0, method="random")]
    table = time_to_stop(summary(tmp_path, *records))
    assert cells(table, "sam")["RTE"].text == "20.00"
    assert lines(table)[-1]["n"] == 1
    assert cells(table, "mixout")["RTE"] == Cell()
    assert cells(table, "random")["RTE"] == Cell(note="paper 6.70 h")
    untimed = [line for line in lines(table) if line["method"] == "mixout"]
    assert [(line["n"], line["mean_seconds"]) for line in untimed] == [(0, None)]


@pytest.mark.parametrize(
    ("seconds", "unit", "texts"),
    [
        ((3600.0, 7200.0, 1800.0), "h", ["1.00", "2.00", "0.50"]),
        ((60.0, 3601.0, 90.0), "min", ["1.00", "60.02", "1.50"]),
        ((59.0, 3600.0, 1.0), "s", ["59.00", "3600.00", "1.00"]),
        ((0.5, 0.25, 0.001), "s", ["0.50", "0.25", "<0.01"]),
    ],
)
def test_one_unit_for_a_table(
    tmp_path: Path, seconds: tuple[float, ...], unit: str, texts: list[str]
) -> None:
    tasks = ("cola", "rte", "cb")
    found = [timed(s, 0, task=task) for task, s in zip(tasks, seconds, strict=True)]
    table = time_to_stop(summary(tmp_path, *found))
    assert [column.subtitle for column in table.columns] == ["", *[unit] * 4]
    assert table.columns[0].title == "method"
    assert table.title == f"Time to stop ({unit})"
    assert [cells(table, "sam")[title].text for title in ("CoLA", "RTE", "CB")] == texts


def test_average_over_all_tasks_or_none(tmp_path: Path) -> None:
    records = [timed(10.0 * i, s, task=t) for i, t in enumerate(SEVEN, 1) for s in (0, 1)]
    records += [timed(5.0, 0, task=t, method="random") for t in SEVEN[:-1]]
    table = time_to_stop(summary(tmp_path, *records))
    assert cells(table, "sam")["AVG"] == Cell("40.00", 40.0, spread="0.00", note="paper 2.02 h")
    assert cells(table, "random")["AVG"] == Cell(note="paper 2.62 h")
    # One seed has a mean and no deviation.
    single = [timed(5.0, 0, task=t) for t in SEVEN]
    alone = cells(time_to_stop(summary(tmp_path / "b", *single)), "sam")["AVG"]
    assert (alone.text, alone.spread) == ("5.00", "")


def test_the_papers_average_stands_beside_its_seven_tasks_alone(tmp_path: Path) -> None:
    table = time_to_stop(summary(tmp_path, timed(5.0)))
    assert cells(table, "sam")["AVG"] == Cell("5.00", 5.0)


def test_step_time(tmp_path: Path) -> None:
    table = step_time(summary(tmp_path, timed(9.0, 0, step=75.5), timed(9.0, 1, step=74.5)))
    assert (table.name, table.title) == ("step_time", "Time per step (ms)")
    found = cells(table, "sam")["RTE"]
    assert (found.text, found.spread, found.note) == ("75.00", "0.50", "")
    (line,) = lines(table)
    assert line["mean_milliseconds"] == pytest.approx(75)
    assert line["std_milliseconds"] == pytest.approx(0.5)
    assert "published_hours" not in line
    slow = step_time(summary(tmp_path / "slow", timed(9.0, 0, step=2500.0)))
    assert slow.title == "Time per step (s)"
    assert lines(slow)[0]["mean_milliseconds"] == pytest.approx(2500)


def test_time_to_best_takes_the_share_of_the_steps_and_all_of_the_choice(tmp_path: Path) -> None:
    table = time_to_best(summary(tmp_path, timed(20.0, select=7.0, best_step=300, steps=400)))
    assert (table.name, table.title) == ("time_to_best", "Time to best score (s)")
    assert cells(table, "sam")["RTE"] == Cell("22.00", 22.0)
    assert "An estimate" in table.caption
    assert "published_hours" not in table.fields


@pytest.mark.parametrize(("best", "steps"), [(None, 400), (300, None), (0, 0)])
def test_time_to_best_is_unknown_without_its_steps(
    tmp_path: Path, best: int | None, steps: int | None
) -> None:
    found = summary(tmp_path, timed(100.0, best_step=best, steps=steps))
    assert cells(time_to_best(found), "sam")["RTE"] == Cell()


def test_notes_say_on_what_the_times_were_taken(tmp_path: Path) -> None:
    one = time_to_stop(summary(tmp_path / "a", timed(1.0), timed(1.0, 1)))
    assert one.notes[0] == "Taken on cpu, 2 threads."
    assert not any("differ" in note for note in one.notes)
    gpu = timed(1.0, 1, provenance=provenance(device="cuda:0 H200\x1b", threads=1))
    two = time_to_stop(summary(tmp_path / "b", timed(1.0), gpu))
    assert two.notes[0] == "Taken on cpu, 2 threads; cuda:0 H200\ufffd, 1 thread."
    assert two.notes[1] == "The machines differ: the times are not of one experiment."


def test_earlier_parts_of_a_run_are_machines_too_and_failed_cells_are_not(tmp_path: Path) -> None:
    before = Machine(commit=None, dirty=None, versions={}, device=None, threads=None)
    resumed = timed(1.0, provenance=provenance(earlier=[before]))
    broken = failure("rte", "sam", 1, "diverged")
    table = time_to_stop(summary(tmp_path, resumed, broken))
    assert table.notes[0] == "Taken on an unknown device; cpu, 2 threads."


def test_hours_of_another_experiment_are_said_to_be(tmp_path: Path) -> None:
    hours = (
        "The paper's hours are of a TITAN RTX, and only times of one compare with them; the "
        "settings are"
    )
    same = time_to_stop(summary(tmp_path / "a", timed(1.0)))
    said = "comparable: same model, data, split and training as published."
    assert same.notes[-1] == f"{hours} {said}"
    other = summary(tmp_path / "b", timed(1.0, setting={"model": "tiny"}))
    assert time_to_stop(other).notes[-1] == f"{hours} not comparable: model is tiny."
    assert not any("paper" in note for note in step_time(other).notes)
    apart = {"model": "tiny", "split": "random", "pooling": "mean"}
    briefly = f"{hours} not comparable: model is tiny, split is random and 1 more setting."
    assert time_to_stop(summary(tmp_path / "c", timed(1.0, setting=apart))).notes[-1] == briefly


def test_times_of_a_method_that_has_no_record(tmp_path: Path) -> None:
    write(tmp_path, timed(20.0))
    directory = tmp_path / "bench"
    plan(["rte"], ["sam", "lora"], 1).write(directory)
    table = time_to_stop(load(directory))
    assert cells(table, "lora")["RTE"] == Cell(note="paper 4.87 h")
    untimed = summary(tmp_path / "none", timed(None))
    assert time_to_stop(untimed).title == "Time to stop (s)"
