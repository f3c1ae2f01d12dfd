"""Whether a measured mean could be the published one, against SciPy and at the edges."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.records import failure, published_data, record, write

from jiant_sparse.report import beside, notes, published
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.statistics import Sample

OTHER = "not comparable"
SEVEN = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
# Population std 1, mean 0, ten values.
SHAPE = tuple(np.linspace(-1, 1, 10) / np.std(np.linspace(-1, 1, 10)))


def measured(directory: Path, scores: dict[str, Sequence[float]], **setting: Any) -> Frame:
    """SAM with these values, in percent, by task and seed."""
    return load(
        write(
            directory,
            *(
                record(task, "sam", seed, value / 100, setting=setting)
                for task, values in scores.items()
                for seed, value in enumerate(values)
            ),
        )
    )


def judged(found: Frame, *, average: bool = False) -> SimpleNamespace:
    """The word, test and reasons of the first result, or of the first AVG."""
    row = next((found.averages if average else found.results).itertuples())
    return SimpleNamespace(word=row.word, t=row.t, p=row.p, reasons=notes.reasons(found, row))


def rte(directory: Path, values: Sequence[float], **setting: Any) -> SimpleNamespace:
    return judged(measured(directory, {"rte": values}, **setting))


def around(mean: float, std: float) -> list[float]:
    return [mean + std * shape for shape in SHAPE]


def test_a_published_value_is_compatible_with_itself(tmp_path):
    # Of Table 2, which leaves out a tenth of the training set.
    found = rte(tmp_path, around(75.74, 1.27), drop_train=0.1)
    assert (found.word, found.reasons) == ("compatible", [])
    assert (found.t, found.p) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


@pytest.mark.parametrize(
    ("mean", "word"), [(79.0, "higher"), (74.0, "lower"), (77.5, "compatible")]
)
def test_welch_from_mean_std_and_10_runs(tmp_path, mean, word):
    values = around(mean, 1.1)[:7]
    found = rte(tmp_path, values)
    spread = 1.72 * (10 / 9) ** 0.5
    expected = stats.ttest_ind_from_stats(
        np.mean(values), np.std(values, ddof=1), 7, 76.79, spread, 10, equal_var=False
    )
    assert (found.t, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert found.word == word and (found.p < 0.05) == (word != "compatible")


@pytest.mark.parametrize(
    ("values", "setting", "word", "reasons"),
    [
        ([50.0], {}, "too few runs", ["1 run; a test needs 3"]),
        ([50.0, 51.0], {}, "too few runs", ["2 runs; a test needs 3"]),
        ([76.0, 77.0, 78.0], {}, "compatible", []),
        # Only the published side varies.
        ([52.71] * 4, {}, "lower", []),
        # More runs of another experiment would not help.
        ([70.0], {"model": "tiny", "split": "files"}, OTHER, ["model is tiny", "split is files"]),
        (around(76.79, 1.72), {"method": None}, OTHER, ["density is unknown"]),
        (around(76.79, 1.72), {"drop_train": None}, OTHER, ["drop_train is unknown"]),
    ],
)
def test_few_or_equal_runs_and_another_experiment(tmp_path, values, setting, word, reasons):
    found = rte(tmp_path, values, **setting)
    assert (found.word, found.reasons) == (word, reasons)
    assert np.isnan(found.p) == (word in ("too few runs", OTHER))


def test_no_spread_on_either_side(tmp_path, monkeypatch):
    still = staticmethod(lambda mean, std, n: Sample(n, mean, 0.0))
    monkeypatch.setattr(beside.Sample, "published", still)
    found = rte(tmp_path, [52.71] * 4)
    assert found.word == "no spread"
    assert found.reasons == ["neither side varies from run to run"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "data is unknown"),
        (published_data(published_test=False), "data is not the authors'"),
        (published_data(published_train_val=False), "data is not the authors'"),
    ],
)
def test_other_rows(tmp_path, data, reason):
    """One record of another experiment is enough."""
    records = [record("rte", "sam", seed, 0.76 + seed / 100) for seed in range(3)]
    found = load(write(tmp_path, *records, record("rte", "sam", 3, 0.77, data=data)))
    assert judged(found).reasons == [reason]
    assert notes.comparability(found) == (False, f"not comparable: {reason}")


def test_nothing_published_or_nothing_measured(tmp_path):
    like = {"task": {"name": "mine", "like": "rte", "metric": "acc"}}
    found = load(
        write(
            tmp_path,
            record("rte", "fish", 0, 0.7),
            record("sst", "sam", 0, 0.7),
            # A variant is never the paper's task, whatever its rows.
            record("mine", "sam", 0, 0.7, setting=like),
            failure("rte", "sam", 0, "diverged"),
        )
    )
    assert {*found.results["word"]} == {*found.averages["word"]} == {None}
    assert found.results["published_mean"].count() == 1


def sevens(move: float = 0.0) -> dict[str, Sequence[float]]:
    """SAM's published values on all tasks, `move` points higher."""
    values = {
        t: published.value("sam", title) for t, title in zip(SEVEN, published.TASKS, strict=True)
    }
    return {task: around(value.mean + move, value.std) for task, value in values.items()}


@pytest.mark.parametrize(("move", "word"), [(0.3, "compatible"), (2.0, "higher"), (-2.0, "lower")])
def test_the_variance_of_the_average(tmp_path, move, word):
    found = judged(measured(tmp_path, sevens(move)), average=True)
    stds = [published.value("sam", title).std for title in published.TASKS]
    # Each of 7 tasks twice, each with std^2 * 10 / 9 / 10.
    error = (2 * sum(std**2 / 9 for std in stds)) ** 0.5 / 7
    assert found.t == pytest.approx(move / error, abs=1e-9)
    assert (found.word, found.reasons) == (word, [])


@pytest.mark.parametrize(
    ("changes", "setting", "word", "reasons"),
    [
        (
            {"cb": [80.0, 90.0], "wsc": [60.0]},
            {},
            "too few runs",
            ["CB: 2 runs; a test needs 3", "WSC: 1 run; a test needs 3"],
        ),
        ({"wsc": []}, {}, None, []),
        ({}, {"model": "tiny"}, OTHER, ["model is tiny"]),
    ],
)
def test_an_average_without_a_test(tmp_path, changes, setting, word, reasons):
    found = judged(measured(tmp_path, sevens() | changes, **setting), average=True)
    assert (found.word, found.reasons) == (word, reasons)
