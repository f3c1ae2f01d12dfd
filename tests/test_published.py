"""The published numbers: what is read, and what is odd about them, recomputed."""

import csv
import operator
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.records import PUBLISHED_TRAINING, record, settings, write

from jiant_sparse.report import published
from jiant_sparse.report.frame import load
from jiant_sparse.report.oddities import ODDITIES, Oddity, oddities
from jiant_sparse.report.statistics import Sample, pooled

# Where 10 runs cannot be, the number with which the printed t follows.
RUNS = {
    (1, "mag_pruning", "RTE"): 9,
    (1, "mixout", "CB"): 9,
    (1, "full_tuning", "WSC"): 9,
    (1, "lora", "WSC"): 9,
    (2, "full_tuning", "RTE"): 9,
    (2, "bitfit", "RTE"): 9,
    (2, "bitfit", "CB"): 8,
    (2, "lora", "CB"): 6,
    (2, "lora", "COPA"): 8,
}
EXAMPLES = {"RTE": 277, "CB": 56, "COPA": 100, "WSC": 104}


def shown(tmp_path: Path, *pairs: tuple[str, str], **setting: object) -> tuple[Oddity, ...]:
    records = [record(task, method, setting=setting) for task, method in pairs]
    return oddities(load(write(tmp_path, *records)))


def about(*words: str) -> Oddity:
    (found,) = [item for item in ODDITIES if all(w in f"{item.places} {item.text}" for w in words)]
    return found


def values(part: str) -> Iterator[tuple[int, str, list[float], float]]:
    """(table, method's key, the tasks' values, AVG) of both tables; part: mean or std."""
    for table in (1, 2):
        for key in published.METHODS:
            found = [published.value(key, task, table) for task in published.TASKS]
            average = published.value(key, published.AVERAGE, table)
            yield table, key, [getattr(v, part) for v in found], getattr(average, part)


def test_every_file_has_a_source_and_every_source_a_file() -> None:
    with open(published.DIRECTORY / "SOURCE.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = {path.name for path in published.DIRECTORY.glob("*.csv")} - {"SOURCE.csv"}
    assert {row["file"] for row in rows} == files
    assert all("Fu et al. 2023, arXiv 2211.15583" in row["source"] for row in rows)


def test_numbers_are_found_by_method_and_task() -> None:
    # The columns of Table 3 stand in another order than those of Table 1.
    assert published.hours("sam", "STS-B") == 2.78
    assert published.hours("sam", "MRPC") == 1.68
    assert published.hours("full_tuning", published.AVERAGE) == 1.67
    assert published.t_test("adapter", "CoLA", 5) == (-2.34, 0.03)
    assert published.t_test("adapter", "CoLA", 6) == (0.32, 0.75)
    assert published.percent_tuned("lora") == 0.91
    for method, task in (("mixout", "CB"), (None, "CB"), ("sam", None), ("fish", "CB")):
        assert published.hours(method, task) is None
    for method, task in (("sam", "CoLA"), ("fish", "CoLA"), ("adapter", published.AVERAGE)):
        assert published.t_test(method, task, 5) is None
    assert published.percent_tuned("fish") is published.percent_tuned(None) is None


def test_figure_5_by_part_task_and_density() -> None:
    curves = published.figure5()
    assert {*curves} == {*product(published.FIGURE5, published.TASKS)}
    grid = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    assert all([density for density, _ in curve] == grid for curve in curves.values())
    assert dict(curves["test_mean", "CoLA"])[0.005] == 60.893
    with pytest.raises(TypeError):
        operator.setitem(curves, ("test_mean", "CoLA"), ())


UNRECORDED = {
    "no method": {"method": None},
    "no field": {"method": {"name": "x"}},
    "none": {"method": {"name": "x", "density": None, "q": None}},
}


@pytest.mark.parametrize("changes", UNRECORDED.values(), ids=UNRECORDED)
def test_an_unrecorded_density_or_q_is_a_departure(changes: dict[str, object]) -> None:
    for method in published.METHODS:
        name = "q" if method == "mixout" else "density"
        sized = method == "mixout" or method in published.WITH_DENSITY
        found = settings("rte", method, 0, **changes)
        expected = {name: None} if sized else {}
        assert published.departures(found, method) == expected, method
        assert published.is_published_size(found, method) != sized, method


def test_an_unrecorded_share_of_left_out_data_is_a_departure() -> None:
    found = settings("rte", "bitfit", 0, drop_train=None)
    absent = {name: value for name, value in found.items() if name != "drop_train"}
    for one in (found, absent):
        assert published.departures(one, "bitfit") == {"drop_train": None}
        # Something has to stand beside it.
        assert published.table_of(one) == 1
        assert not published.has_table(one)


# The oddities, one by one, as far as the files tell.


def test_avg_is_the_mean_but_for_the_last_digit_of_five() -> None:
    off = {
        (table, part, key)
        for part in ("mean", "std")
        for table, key, tasks, average in values(part)
        if f"{fmean(tasks):.2f}" != f"{average:.2f}"
    }
    assert off == {
        (1, "mean", "mag_pruning"),
        (1, "std", "mixout"),
        (1, "std", "lora"),
        (1, "std", "diff_pruning"),
        (2, "std", "adapter"),
    }
    assert about("Four are printed 0.01 higher").methods == (
        "mag_pruning", "mixout", "lora", "diff_pruning",
    )  # fmt: skip
    assert f"{fmean(next(v for t, k, v, _ in values('std') if (t, k) == (2, 'adapter'))):.2f}" in (
        about("Adapter's AVG deviation").text
    )


def test_random_does_not_outperform_full_tuning_in_table_1() -> None:
    def average(key: str, table: int) -> float:
        return published.value(key, published.AVERAGE, table).mean

    text = about("even Random").text
    assert f"{average('random', 1):.2f} against {average('full_tuning', 1):.2f}" in text
    assert average("random", 1) < average("full_tuning", 1)
    assert average("random", 2) - average("full_tuning", 2) == pytest.approx(0.02)


def test_the_cells_that_no_10_runs_give() -> None:
    possible = {
        (table, key, task): [n for n in range(1, 13) if _is_possible(value, n * EXAMPLES[task])]
        for table, key, tasks, _ in values("mean")
        for task, value in zip(published.TASKS, tasks, strict=True)
        if task in EXAMPLES
    }
    threes = [3, 6, 9, 12]
    assert all(runs in possible[cell] for cell, runs in RUNS.items())
    assert {cell: runs for cell, runs in possible.items() if 10 not in runs} == {
        (1, "mixout", "CB"): [9],
        (1, "mag_pruning", "RTE"): threes,
        (1, "child_pruning", "RTE"): [7],
        (1, "child_pruning", "WSC"): [11],
        (1, "full_tuning", "WSC"): [9],
        (1, "lora", "WSC"): [9],
        (2, "full_tuning", "RTE"): [9],
        (2, "bitfit", "RTE"): threes,
        (2, "bitfit", "CB"): [8],
        (2, "lora", "CB"): threes,
        (2, "lora", "COPA"): [4, 8, 12],
        (2, "random", "WSC"): [7],
        (2, "adapter", "WSC"): [7],
        (2, "child_pruning", "RTE"): [],
    }
    assert {*about("10 runs behind").tasks} == {*EXAMPLES}


def _is_possible(percent: float, answers: int) -> bool:
    return abs(100 * round(percent * answers / 100) / answers - percent) < 0.005 + 1e-9


def test_no_published_score_of_wsc_reaches_the_majority() -> None:
    place = published.TASKS.index("WSC")
    scores = [tasks[place] for _, _, tasks, _ in values("mean")]
    scores += [score for _, score in published.figure5()["test_mean", "WSC"]]
    assert f"{min(scores):.2f} to {max(scores):.2f}, lies below 63.46" in about("Every").text
    # 66 of the 104 answers of the test set are alike.
    assert max(scores) < 63.46 == round(100 * 66 / 104, 2)


def test_lora_takes_longer_than_full_tuning() -> None:
    lora, full = (published.hours(key, published.AVERAGE) for key in ("lora", "full_tuning"))
    assert f"{lora} h against {full} h" in about("train faster").text
    assert lora > full
    absent = [key for key in published.METHODS if published.hours(key, "CB") is None]
    assert absent == ["mixout", "mag_pruning"]


@pytest.mark.parametrize(("scores", "tests", "fit"), [(1, 5, {"CoLA", "RTE", "CB"}), (2, 6, None)])
def test_columns_of_the_t_tests_that_the_scores_give(
    scores: int, tests: int, fit: set[str] | None
) -> None:
    def sample(key: str, task: str) -> Sample:
        value = published.value(key, task, scores)
        runs = RUNS.get((scores, key, task), published.RUNS)
        return Sample.published(value.mean, value.std, runs)

    odd = about(f"('Table {tests}', 'Table {scores}')").tasks
    for task in published.TASKS:
        errors = [
            abs(pooled(sample("sam", task), sample(key, task)).t - found[0])
            for key in published.METHODS
            if (found := published.t_test(key, task, tests))
        ]
        assert len(errors) == 9
        # Two-decimal means and deviations leave some room.
        assert (max(errors) > 0.05) == (task in odd), (task, max(errors))
    assert fit is None or {*published.TASKS} - {*odd} == fit


# What the oddities say of the tests: table, task, SAM's mean and deviation, and whose t do not
# follow from these.
IMPLIED = [
    (1, "CoLA", 60.89, 0.96, ()),
    (1, "RTE", 76.79, 1.72, ()),
    (1, "CB", 88.93, 1.75, ()),
    (1, "STS-B", 90.61, 0.165, ()),
    (1, "COPA", 74.39, 4.05, ()),
    (1, "WSC", 60.76, 4.63, ()),
    (1, "MRPC", 88.945, 0.70, ("bitfit",)),
    (2, "MRPC", 88.785, 0.68, ()),
    (2, "CB", 86.79, 4.38, ()),
    (2, "RTE", 76.46, 1.99, ()),
    (2, "STS-B", 90.465, 0.155, ("lora",)),
    (2, "COPA", 74.00, 2.79, ("random", "adapter")),
]


def follows(table: int, task: str, ours: tuple[float, float], key: str) -> bool:
    """Whether SAM's mean and deviation give the printed t against a method, within rounding."""
    theirs, half = published.value(key, task, table), 0.005
    runs = RUNS.get((table, key, task), published.RUNS)
    found = [
        pooled(
            Sample.published(*ours, published.RUNS),
            Sample.published(theirs.mean + a, theirs.std + b, runs),
        ).t
        for a in (-half, half)
        for b in (-half, half)
    ]
    t, _ = published.t_test(key, task, published.TESTS_OF[table])
    return min(found) - half <= t <= max(found) + half


@pytest.mark.parametrize(("table", "task", "mean", "std", "but"), IMPLIED)
def test_the_rows_of_sam_that_the_t_tests_imply(
    table: int, task: str, mean: float, std: float, but: tuple[str, ...]
) -> None:
    others = [key for key in published.METHODS if key != "sam"]
    assert tuple(key for key in others if not follows(table, task, (mean, std), key)) == but
    printed, odd = published.value("sam", task, table), about(f"('Table {table + 4}', ")
    if (mean, std) != (printed.mean, printed.std) and task in about(
        f"('Table {table + 4}', "
    ).tasks:
        said = [f"{task} {m} ± {d}" for m in (f"{mean:g}", f"{mean:.2f}") for d in _digits(std)]
        assert any(part in odd.text for part in said), said
        before = f"({printed.mean:.2f} ± {printed.std:.2f}"
        assert before in odd.text.replace("(printed ", "("), before


def _digits(std: float) -> tuple[str, str]:
    return f"{std:g}", f"{std:.2f}"


@pytest.mark.parametrize(("task", "most"), [("CoLA", 4), ("WSC", 7)])
def test_no_row_of_sam_gives_these_columns_of_table_6(task: str, most: int) -> None:
    printed, half = published.value("sam", task, 2), 0.005
    mean = np.linspace(printed.mean - 1, printed.mean + 2, 601)[:, None]
    std = np.linspace(0.3, 7, 671)[None, :]
    fitting = np.zeros((mean.size, std.size), int)
    for key in published.METHODS:
        if key == "sam":
            continue
        theirs, n = published.value(key, task, 2), RUNS.get((2, key, task), published.RUNS)
        found = []
        for a, b in product((-half, half), repeat=2):
            spread = (10 * std**2 + n * (theirs.std + b) ** 2) / (n + 8) * (1 / 10 + 1 / n)
            found.append((mean - theirs.mean - a) / spread**0.5)
        t, _ = published.t_test(key, task, 6)
        fitting += (np.min(found, 0) - half <= t) & (t <= np.max(found, 0) + half)
    assert fitting.max() == most


def test_figure_5_at_the_density_of_table_1() -> None:
    text = about("should be the same runs").text
    means, stds = (
        {task: dict(published.figure5()[part, task])[0.005] for task in published.TASKS}
        for part in ("test_mean", "test_std")
    )
    for task in published.TASKS:
        printed = published.value("sam", task)
        drawn = f"{means[task]:.2f} ± {stds[task]:.2f}"
        apart = f"{task} ({drawn} against {printed.mean:.2f} ± {printed.std:.2f})"
        # The figure is read to 0.001.
        far = max(abs(means[task] - printed.mean), abs(stds[task] - printed.std)) > 0.0065
        assert (apart in text) == far, apart


def test_figure_5s_mean_rises_before_it_falls() -> None:
    curves = [published.figure5()["test_mean", task] for task in published.TASKS]
    means = {
        points[0][0]: fmean(value for _, value in points) for points in zip(*curves, strict=True)
    }
    best = max(means, key=means.__getitem__)
    assert f"{means[0.2]:.2f} at 0.2 to {means[best]:.2f} at {best}" in about("decrease with").text


def test_the_printed_p_of_figure_4_is_of_92_pairs() -> None:
    rho, fitting = 0.4356, []
    for n in range(10, 200):
        p = 2 * stats.t.sf(rho * ((n - 2) / (1 - rho**2)) ** 0.5, n - 2)
        fitting += [n] if f"{p:.6f}" == "0.000014" else []
    assert 92 in fitting and not any(n % len(published.METHODS) == 0 for n in fitting)
    assert "92 pairs" in about("go together").text


def test_figure_5_has_a_single_run_and_holes() -> None:
    curves = published.figure5()
    zero = {key for key, curve in curves.items() if "std" in key[0] and curve[0][1] == 0}
    assert zero == {("test_std", "STS-B"), ("train_std", "STS-B"), ("train_std", "CB")}
    holes = {(key[0], d) for key, curve in curves.items() for d, value in curve if value is None}
    assert holes == {("train_mean", 0.005), ("train_std", 0.005)}


def test_oddities_are_of_what_is_shown(tmp_path: Path) -> None:
    main = shown(tmp_path / "a", *product(("wsc", "cola"), ("sam", "lora")))
    assert {*map(about, ("Every published score on WSC", "0.91", "pooled two-sample"))} <= {*main}
    for absent in ("Adapter's AVG deviation", "Bitfit's 0.09", "STS-B's metric", "As in Table 5"):
        assert about(absent) not in main
    little = shown(tmp_path / "b", ("cola", "sam"), drop_train=0.1)
    assert about("Fig. 4", "160 pairs") in little and about("As in Table 5") in little
    for absent in ("Every published score on WSC", "0.91", "pooled two-sample"):
        assert about(absent) not in little
    assert shown(tmp_path / "c", ("sst", "fish")) == ()


def test_every_oddity_can_be_shown_and_is_told_once(tmp_path: Path) -> None:
    tasks = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
    pairs = [(task, method) for task in tasks for method in published.METHODS]
    main = shown(tmp_path / "a", *pairs)
    perturbed = shown(tmp_path / "b", *pairs, drop_train=0.1)
    assert {*main, *perturbed} == {*ODDITIES}
    assert len({item.text for item in ODDITIES}) == len(ODDITIES)
    places = {place for item in ODDITIES for place in item.places}
    assert places == {"text", "Fig. 4", "Fig. 5", *(f"Table {n}" for n in range(1, 7))}


@pytest.mark.parametrize(
    ("changes", "apart"),
    [
        ({}, {}),
        ({"model": "FacebookAI/roberta-base"}, {}),
        ({"model": None, "split": "random"}, {"model": None, "split": "random"}),
        ({"pooling": "mean"}, {"pooling": "mean"}),
        ({"drop_train": 0.1}, {}),
        ({"drop_train": 0.3}, {"drop_train": 0.3}),
        ({"method": {"name": "sam", "density": 0.1}}, {"density": 0.1}),
        ({"train": {**PUBLISHED_TRAINING, "max_steps": 200}}, {"max_steps": 200}),
        ({"train": None}, {"training": None}),
        ({"method": {"name": "mixout", "q": 0.9}}, {"q": 0.9}),
        ({"method": {"name": "mixout", "q": 0.995, "reset": True}}, {}),
    ],
)
def test_departures(changes: dict[str, Any], apart: dict[str, Any]) -> None:
    method = changes.get("method", {}).get("name", "sam")
    found = settings("rte", "sam", 0, **changes)
    assert published.departures(found, method) == apart
    same_size = not apart.keys() & {"model", "density", "q"}
    assert published.is_published_size(found, method) == same_size


def test_settings_that_are_not_recorded_are_departures() -> None:
    unknown = ("model", "split", "pooling", "drop_train", "training", "density")
    assert published.departures({}, "sam") == dict.fromkeys(unknown)
    without = {k: v for k, v in PUBLISHED_TRAINING.items() if k != "max_steps"}
    found = settings("rte", "sam", 0, train=without)
    assert published.departures(found, "sam") == {"max_steps": None}


@pytest.mark.parametrize(("table", "part"), [*product((1, 2), ("mean", "std"))])
def test_published_values_are_the_files(table: int, part: str) -> None:
    path = published.DIRECTORY / f"table{table}_{part}.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream)}
    assert {*rows} == {*published.METHODS.values()}
    for key, task in product(published.METHODS, (*published.TASKS, published.AVERAGE)):
        printed = float(rows[published.METHODS[key]][task])
        assert getattr(published.value(key, task, table), part) == printed
