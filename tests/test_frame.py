"""The frames of a benchmark: each column, what is unknown, and which published value it meets."""

import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from support.records import failure, plan, record, write

from jiant_sparse.report import frame, published
from jiant_sparse.report.frame import Frame
from jiant_sparse.schema.record import Cost, Params, Primary, Record

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]
REDUCED = {"drop_train": 0.1}


def load(tmp_path: Path, *records: Record) -> Frame:
    return frame.load(write(tmp_path, *records))


def result(found: Frame, task: str = "rte", method: str = "sam") -> SimpleNamespace:
    rows = found.of(method)
    (row,) = rows[rows["task"] == task].to_dict("records")
    return SimpleNamespace(**row)


def test_a_cell_is_a_row(tmp_path: Path) -> None:
    params = Params(
        **dict(eligible=200, selected=40, added=2, head=7, trainable=49, changed=30),
        moved_per_step=10.5,
    )
    cost = Cost(train_seconds=100.0, select_seconds=4.0, step_milliseconds_median=2.5)
    found = load(
        tmp_path,
        record("rte", "sam", 1, 0.7, params=params, cost=cost, best_step=300, steps=400),
        failure("rte", "sam", 0, "boom"),
    )
    failed, ok = found.cells.itertuples()
    assert (failed.seed, failed.status, failed.error) == (0, "failed", "boom")
    assert math.isnan(failed.test) and math.isnan(failed.selected) and pd.isna(failed.steps)
    assert (ok.test, ok.dev) == (70.0, 70.0) and ok.train == pytest.approx(90)
    assert (ok.tuned_percent, ok.drawn_percent, ok.changed_percent) == (6.25, 20, 15)
    assert (ok.stop_seconds, ok.best_seconds) == (104, 79)
    assert (ok.best_step, ok.steps, ok.key, ok.record.cell.seed) == (300, 400, "sam", 1)
    assert found.failed == 1 and len(found.ok) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"cost": Cost(train_seconds=1.0)},
        {"cost": Cost(select_seconds=1.0)},
        {"best_step": None, "cost": Cost(train_seconds=1.0)},
    ],
)
def test_a_time_without_its_parts_is_unknown(tmp_path: Path, changes: dict[str, Any]) -> None:
    (cell,) = load(tmp_path, record(**changes)).cells.itertuples()
    assert math.isnan(cell.stop_seconds) and math.isnan(cell.best_seconds)


def test_the_manifest_gives_the_order(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record(t, m, 0) for t in ("rte", "cb") for m in ("sam", "lora")))
    without = frame.load(directory)
    assert without.tasks["task"].tolist() == ["rte", "cb"]
    assert without.methods["method"].tolist() == ["lora", "sam"]
    plan(["cb", "rte"], ["sam"], 1).write(directory)
    ordered = frame.load(directory)
    assert ordered.tasks["task"].tolist() == ["cb", "rte"]
    assert ordered.methods["method"].tolist() == ["sam", "lora"]
    assert (ordered.missing, ordered.unplanned) == (0, 2)


def test_average_is_the_mean_of_means_and_of_deviations(tmp_path: Path) -> None:
    values = {task: [0.5 + 0.05 * i, 0.52 + 0.06 * i, 0.6] for i, task in enumerate(SEVEN)}
    records = [record(t, "sam", k, v) for t, vs in values.items() for k, v in enumerate(vs)]
    (average,) = load(tmp_path, *records).averages.itertuples()
    mean = statistics.mean(100 * statistics.mean(vs) for vs in values.values())
    assert average.mean == pytest.approx(mean)
    std = statistics.mean(100 * statistics.pstdev(vs) for vs in values.values())
    assert average.std == pytest.approx(std)
    assert (average.published_mean, average.published_std) == (77.12, 1.51)
    assert average.difference == pytest.approx(mean - 77.12)


def test_a_failed_record_does_not_choose_the_published_table(tmp_path: Path) -> None:
    records = [record("rte", "sam", seed, 0.75, setting=REDUCED) for seed in (1, 2, 3)]
    row = result(load(tmp_path, failure("rte", "sam", 0, "x"), *records))
    assert (row.published_table, row.published_mean, row.departures) == (2, 75.74, {})


def test_a_result_counts_cells_and_ranks_means(tmp_path: Path) -> None:
    scores = {"sam": (0.7, 0.8), "lora": (0.75, 0.75), "random": (0.6, None)}
    records = [record("rte", m, k, v) for m, vs in scores.items() for k, v in enumerate(vs)]
    directory = write(tmp_path, *records, failure("rte", "lora", 2, "x"))
    plan(["rte", "cb"], ["sam", "lora", "random"], 4).write(directory)
    found = frame.load(directory)
    sam, lora, random = (result(found, "rte", method) for method in scores)
    assert (sam.n, sam.mean, sam.seeds, sam.missing_seeds) == (2, 75.0, (0, 1), (2, 3))
    assert sam.std == pytest.approx(5) and lora.std == 0 and math.isnan(random.std)
    assert (sam.rank, lora.rank, random.rank) == (1, 1, 3)
    assert (sam.std_rank, lora.std_rank) == (2, 1) and pd.isna(random.std_rank)
    assert (lora.failed, lora.missing, random.undefined) == (1, 1, 1)
    assert not sam.complete and found.missing == 17 and found.unplanned == 0
    nothing = result(found, "cb")
    assert nothing.n == 0 and nothing.departures is None and math.isnan(nothing.mean)
    average = found.averages.iloc[0]
    assert math.isnan(average["mean"]) and average["with_value"] == 1 and average["missing"] == 6
    assert list(found.scores["task"]) == ["rte"] * 3 + ["cb"] * 3 + ["AVG"] * 3


def test_without_a_manifest_nothing_is_known_to_be_missing(tmp_path: Path) -> None:
    found = load(tmp_path, record("rte", "sam", 0))
    row = result(found)
    assert found.missing is None and row.missing_seeds is None and pd.isna(row.missing)
    assert row.complete


def test_means_that_differ_in_the_last_bit_share_a_rank(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        *(record("rte", "sam", k, v) for k, v in enumerate((0.1, 0.2, 0.3))),
        *(record("rte", "lora", k, v) for k, v in enumerate((0.3, 0.1, 0.2))),
    )
    assert set(found.results["rank"]) == {1} and set(found.results["std_rank"]) == {1}


def test_departures_are_settings_with_their_values(tmp_path: Path) -> None:
    small = {"model": "tiny", "method": {"name": "mixout", "q": 0.9}}
    other = {"model": "tiny", "method": {"name": "mixout", "q": 0.5}}
    found = load(
        tmp_path,
        record("rte", "mixout", 0, setting=small, primary=Primary(name="f1", dev=0.5, test=0.5)),
        record("rte", "mixout", 1, setting=other, data=None),
        failure("rte", "mixout", 2, "x"),
    )
    assert result(found, method="mixout").departures == {
        "model": ("tiny",),
        "q": ("0.9", "0.5"),
        "metric": ("f1",),
        "data": ("unknown",),
    }
    assert result(found, method="mixout").word == "not comparable"


def test_two_shares_of_left_out_data_are_one_departure(tmp_path: Path) -> None:
    reduced = record("rte", "sam", 0, setting=REDUCED)
    unknown = record("rte", "sam", 1, setting={"drop_train": None})
    found = load(tmp_path, reduced, unknown)
    assert result(found).departures == {"drop_train": ("0.1 and unknown",)}


def half_run(tmp_path: Path, *records: Record) -> Frame:
    """Of seven tasks and two methods only these records are there."""
    directory = write(tmp_path, *records)
    plan(SEVEN, ["full_tuning", "sam"], 2).write(directory)
    return frame.load(directory)


def test_a_missing_cell_meets_the_table_of_the_others(tmp_path: Path) -> None:
    found = half_run(tmp_path, record("rte", "sam", 0, setting=REDUCED))
    empty = found.results[[not records for records in found.results["records"]]]
    assert len(empty) == 13
    for row in pd.concat([empty, found.averages]).itertuples():
        value = published.value(row.key, row.published_title, 2)
        assert (row.published_mean, row.published_std) == (value.mean, value.std)


def test_the_table_of_most_records_is_usual(tmp_path: Path) -> None:
    def usual(place: str, *records: Record) -> int:
        (table,) = set(half_run(tmp_path / place, *records).averages["published_table"])
        return table

    other = [record("cb", "sam", seed, setting=REDUCED) for seed in range(2)]
    failed = [failure("wsc", "sam", seed, "x") for seed in range(2)]
    unknown = [record("copa", "sam", seed, setting={"drop_train": None}) for seed in range(2)]
    assert usual("a", record("rte", "sam", setting={"drop_train": 0.3})) == 1
    # Neither failures nor records that do not say it count.
    mixed = half_run(tmp_path / "b", record("rte", "sam"), *other, *failed, *unknown)
    assert result(mixed, "mrpc").published_table == 2
    even = [record("rte", "sam", seed) for seed in range(2)]
    assert result(half_run(tmp_path / "c", *even, *other), "mrpc").published_table == 1


def test_methods_stand_in_the_order_of_the_papers(tmp_path: Path) -> None:
    expected = [*published.METHODS]
    expected += [key for key in published.STOCHASTIC_METHODS if key not in published.METHODS]
    found = load(tmp_path, *(record("rte", key) for key in (*sorted(expected), "fish")))
    assert found.methods["method"].tolist() == [*expected, "fish"]
    assert found.methods["title"].tolist()[:2] == ["FullTuning", "Random"]


def test_a_method_without_records_has_its_label_as_key(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam"))
    plan(["rte"], ["sam", "top_tuning", "mine"], 1).write(directory)
    assert frame.load(directory).methods["key"].tolist() == ["sam", "top_tuning", None]


def test_keyed_names_the_row_that_stands_for_a_method(tmp_path: Path) -> None:
    def keyed(*labels: str) -> str | None:
        method = {"method": {"name": "sam", "density": 0.005}}
        place = tmp_path / "-".join(labels)
        return load(place, *(record("rte", x, setting=method) for x in labels)).keyed("sam")

    assert (keyed("mine"), keyed("sam", "mine"), keyed("a", "b")) == ("mine", "sam", None)
    assert load(tmp_path, record()).keyed("lora") is None


def test_a_variant_is_not_the_task_of_the_paper(tmp_path: Path) -> None:
    task = {"task": {"name": "mine", "like": "rte", "metric": "acc"}}
    (row,) = load(tmp_path, record("mine", setting=task)).tasks.itertuples()
    assert (row.task, row.like, row.title, row.published_title) == ("mine", "rte", "mine", None)
    assert row.metric == "acc" and math.isnan(row.majority)


@pytest.mark.parametrize(("other", "expected"), [(0.5271, 52.71), (None, 52.71), (0.5, None)])
def test_a_majority_on_which_records_disagree_is_unknown(
    tmp_path: Path, other: float | None, expected: float | None
) -> None:
    primary = Primary(name="acc", dev=0.7, test=0.7, majority=other)
    found = load(tmp_path, record(seed=0), record(seed=1, primary=primary))
    majority = found.tasks["majority"].iloc[0]
    assert majority == pytest.approx(expected, nan_ok=True) if expected else math.isnan(majority)
