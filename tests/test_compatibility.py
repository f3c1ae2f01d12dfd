"""Whether a measured mean could be the published one, against SciPy and at the edges."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.records import failure, published_data, record, write

from jiant_sparse.report import compatibility, notes, published
from jiant_sparse.report.compatibility import Compatibility
from jiant_sparse.report.frame import load
from jiant_sparse.report.statistics import Sample
from jiant_sparse.report.summary import Row
from jiant_sparse.schema.record import Data

SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
# RTE, SAM: 76.79 +- 1.72. Population std 1, mean 0, ten values.
SHAPE = tuple(np.linspace(-1, 1, 10) / np.std(np.linspace(-1, 1, 10)))


def row(directory: Path, scores: dict[str, Sequence[float]], **setting: Any) -> Row:
    """SAM's row of a benchmark with these values, in percent, by task and seed."""
    records = [
        record(task, "sam", seed, value / 100, setting=setting)
        for task, values in scores.items()
        for seed, value in enumerate(values)
    ]
    (found,) = load(write(directory, *records)).rows
    return found


def judged(directory: Path, values: Sequence[float], **setting: Any) -> Compatibility | None:
    return compatibility.of(row(directory, {"rte": values}, **setting).groups[0])


def around(mean: float, std: float) -> list[float]:
    return [mean + std * shape for shape in SHAPE]


def test_the_published_values_are_compatible_with_themselves(tmp_path: Path) -> None:
    found = judged(tmp_path, around(76.79, 1.72))
    assert found.word == "compatible"
    assert found.test.t == pytest.approx(0, abs=1e-9)
    assert found.test.p == pytest.approx(1)
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("mean", "word"),
    [(79.0, "higher"), (74.0, "lower"), (77.5, "compatible"), (76.0, "compatible")],
)
def test_welch_from_published_mean_std_and_10_runs(tmp_path: Path, mean: float, word: str) -> None:
    values = around(mean, 1.1)[:7]
    found = judged(tmp_path, values)
    spread = 1.72 * (10 / 9) ** 0.5
    expected = stats.ttest_ind_from_stats(
        np.mean(values), np.std(values, ddof=1), 7, 76.79, spread, 10, equal_var=False
    )
    assert found.test.t == pytest.approx(expected.statistic)
    assert found.test.p == pytest.approx(expected.pvalue)
    assert found.word == word
    assert (found.test.p < 0.05) == (word != "compatible")


@pytest.mark.parametrize(("runs", "said"), [(1, "1 run; "), (2, "2 runs; ")])
def test_too_few_runs_are_not_tested(tmp_path: Path, runs: int, said: str) -> None:
    found = judged(tmp_path, [50.0 + i for i in range(runs)])
    assert found == Compatibility("too few runs", None, (f"{said}a test needs 3",))


def test_three_runs_are_enough(tmp_path: Path) -> None:
    assert judged(tmp_path, [76.0, 77.0, 78.0]).word == "compatible"


def test_measured_values_without_spread_are_tested_against_the_published_one(
    tmp_path: Path,
) -> None:
    found = judged(tmp_path, [52.71] * 4)
    assert found.word == "lower"
    assert found.test.df == pytest.approx(9)


def test_no_spread_on_either_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compatibility, "_published", lambda value: Sample(10, value.mean, 0.0))
    found = judged(tmp_path, [52.71] * 4)
    assert found == Compatibility("no spread", None, ("neither side varies from run to run",))


def test_another_experiment_is_not_comparable_whatever_its_numbers(tmp_path: Path) -> None:
    found = judged(tmp_path, around(76.79, 1.72), model="tiny", split="files")
    assert found == Compatibility("not comparable", None, ("model is tiny", "split is files"))
    # Also with too few runs: more of them would not help.
    assert judged(tmp_path / "one", [70.0], model="tiny").word == "not comparable"


def test_one_record_of_another_experiment_is_enough(tmp_path: Path) -> None:
    records = [record("rte", "sam", seed, 0.76) for seed in range(3)]
    odd = record("rte", "sam", 3, 0.77, setting={"model": "tiny"})
    found = load(write(tmp_path, *records, odd)).rows[0].groups[0]
    assert compatibility.of(found) == Compatibility("not comparable", None, ("model is tiny",))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [({"method": None}, "density is unknown"), ({"drop_train": None}, "drop_train is unknown")],
)
def test_what_is_not_recorded_is_not_comparable(
    tmp_path: Path, setting: dict[str, Any], reason: str
) -> None:
    found = judged(tmp_path, around(76.79, 1.72), **setting)
    assert found == Compatibility("not comparable", None, (reason,))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "data is unknown"),
        (published_data(published_test=False), "data is not the authors'"),
        (published_data(published_train_val=False), "data is not the authors'"),
    ],
)
def test_other_rows_than_the_authors_are_not_comparable(
    tmp_path: Path, data: Data | None, reason: str
) -> None:
    records = [record("rte", "sam", seed, 0.76 + seed / 100, data=data) for seed in range(4)]
    summary = load(write(tmp_path, *records))
    found = compatibility.of(summary.rows[0].groups[0])
    assert found == Compatibility("not comparable", None, (reason,))
    assert notes.comparability(summary) == (False, f"not comparable: {reason}")


def test_a_variant_is_never_the_papers_task(tmp_path: Path) -> None:
    """Whatever its rows: the authors' own, even."""
    like = {"task": {"name": "mine", "like": "rte", "metric": "acc"}}
    records = [record("mine", "sam", seed, 0.84 + seed / 100, setting=like) for seed in range(4)]
    (found,) = load(write(tmp_path, *records)).rows
    assert found.groups[0].published is None
    assert compatibility.of(found.groups[0]) is compatibility.of_average(found) is None


def test_the_table_is_that_of_the_data(tmp_path: Path) -> None:
    # SAM on RTE: 76.79 in Table 1, 75.74 +- 1.27 in Table 2.
    found = judged(tmp_path, around(75.74, 1.27), drop_train=0.1)
    assert found.test.t == pytest.approx(0, abs=1e-9)


def test_nothing_published_or_nothing_measured_is_nothing(tmp_path: Path) -> None:
    records = [record("rte", "fish", 0, 0.7), record("sst", "sam", 0, 0.7)]
    failed = failure("rte", "sam", 0, "diverged")
    summary = load(write(tmp_path, *records, failed))
    assert [compatibility.of(group) for group in summary.groups] == [None] * 4
    assert [compatibility.of_average(row) for row in summary.rows] == [None] * 2


def sevens(move: float = 0.0, runs: int = 10) -> dict[str, Sequence[float]]:
    """SAM's published values on all tasks, `move` points higher."""
    found = {}
    for task, title in zip(SEVEN, published.TASKS, strict=True):
        value = published.value("sam", title)
        found[task] = around(value.mean + move, value.std)[:runs]
    return found


def test_the_published_average_is_compatible_with_itself(tmp_path: Path) -> None:
    found = compatibility.of_average(row(tmp_path, sevens()))
    assert (found.word, found.reasons) == ("compatible", ())
    assert found.test.t == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("move", "word"), [(2.0, "higher"), (-2.0, "lower"), (0.3, "compatible")])
def test_the_variance_of_the_average_is_that_of_a_mean(
    tmp_path: Path, move: float, word: str
) -> None:
    found = compatibility.of_average(row(tmp_path, sevens(move)))
    stds = [published.value("sam", title).std for title in published.TASKS]
    # Each of 7 tasks twice, each with std^2 * 10 / 9 / 10.
    error = (2 * sum(std**2 / 9 for std in stds)) ** 0.5 / 7
    assert found.test.t == pytest.approx(move / error)
    assert found.word == word


def test_an_average_needs_runs_on_every_task(tmp_path: Path) -> None:
    scores = {**sevens(), "cb": [80.0, 90.0], "wsc": [60.0]}
    found = compatibility.of_average(row(tmp_path, scores))
    expected = ("CB: 2 runs; a test needs 3", "WSC: 1 run; a test needs 3")
    assert found == Compatibility("too few runs", None, expected)


def test_an_average_with_tasks_missing_is_nothing(tmp_path: Path) -> None:
    scores = sevens()
    del scores["wsc"]
    assert compatibility.of_average(row(tmp_path, scores)) is None


def test_an_average_of_another_experiment_says_each_reason_once(tmp_path: Path) -> None:
    found = compatibility.of_average(row(tmp_path, sevens(), model="tiny"))
    assert found == Compatibility("not comparable", None, ("model is tiny",))
