"""Which published table a group without records stands beside: that of the others' data."""

from pathlib import Path

from support.records import failure, plan, record, write

from jiant_sparse.report import published, stochastic
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import collect
from jiant_sparse.report.summary import Summary
from jiant_sparse.schema.record import Record

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]
REDUCED = {"drop_train": 0.1}


def half_run(tmp_path: Path, *records: Record) -> Summary:
    """Of seven tasks and two methods only these records are there."""
    directory = write(tmp_path, *records)
    plan(SEVEN, ["full_tuning", "sam"], 2).write(directory)
    return summarise(collect(directory))


def tables(summary: Summary) -> set[int]:
    return {group.published.table for group in summary.groups if not group.records}


def test_a_missing_cell_of_a_half_run_has_the_value_of_the_others_table(tmp_path: Path) -> None:
    summary = half_run(tmp_path, record("rte", "sam", 0, setting=REDUCED))
    missing = [group for group in summary.groups if not group.records]
    assert len(missing) == 13
    for group in missing:
        assert group.published == published.value(group.method, group.task.published_title, 2)
    for row in summary.rows:
        assert row.average.published == published.value(row.key, published.AVERAGE, 2)


def test_without_a_share_of_any_table_it_is_table_1(tmp_path: Path) -> None:
    assert tables(half_run(tmp_path / "a", record("rte", "sam", setting={"drop_train": 0.3}))) == {
        1
    }
    assert tables(half_run(tmp_path / "b", record("rte", "sam"))) == {1}


def test_the_table_of_most_records_is_taken(tmp_path: Path) -> None:
    other = [record("cb", "sam", seed, setting=REDUCED) for seed in range(2)]
    failed = [failure("wsc", "sam", seed, "x") for seed in range(2)]
    unknown = [record("copa", "sam", seed, setting={"drop_train": None}) for seed in range(2)]
    # Neither failures nor records that do not say it have a part in it.
    summary = half_run(tmp_path / "a", record("rte", "sam"), *other, *failed, *unknown)
    assert tables(summary) == {2}
    even = [record("rte", "sam", seed) for seed in range(2)]
    assert tables(half_run(tmp_path / "b", *even, *other)) == {1}


def test_an_unrecorded_share_beside_a_tenth_is_said_once(tmp_path: Path) -> None:
    reduced = record("rte", "sam", 0, setting=REDUCED)
    unknown = record("rte", "sam", 1, setting={"drop_train": None})
    (group,) = summarise(collect(write(tmp_path, reduced, unknown))).groups
    assert group.departures == ("drop_train is 0.1 and unknown",)


def test_methods_stand_in_the_order_of_the_papers(tmp_path: Path) -> None:
    expected = [*published.METHODS]
    expected += [key for key in stochastic.METHODS if key not in published.METHODS]
    records = [record("rte", key) for key in (*sorted(expected), "fish")]
    found = summarise(collect(write(tmp_path, *records)))
    assert [row.label for row in found.rows] == [*expected, "fish"]


def test_a_method_without_a_record_is_known_by_its_name(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam"))
    plan(["rte"], ["sam", "top_tuning", "mine"], 1).write(directory)
    found = summarise(collect(directory))
    assert [row.key for row in found.rows] == ["sam", "top_tuning", None]
