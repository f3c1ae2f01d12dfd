"""The bootstrap: what is drawn, from what, and what never changes."""

import numpy as np
import pytest
from support.claims import FLAT, LITTLE, nine, runs, summary_of
from support.records import failure, record

from jiant_sparse.report.claims.bootstrap import RESAMPLES, interval, observed, resampled
from jiant_sparse.report.claims.printed import table


def test_line_0_is_the_data_and_the_rest_are_resamples():
    summary = summary_of(*runs("sam", 0.7, (0.0, 0.03, 0.09)), *runs("random", 0.6, (0.0, 0.1, 0)))
    found = resampled(summary.rows)
    assert found.mean.shape == found.std.shape == (RESAMPLES + 1, 2, 3)
    assert found.names == tuple(row.label for row in summary.rows)
    for m, row in enumerate(summary.rows):
        assert found.mean[0, m] == pytest.approx([g.score.mean for g in row.groups])
        assert found.std[0, m] == pytest.approx([g.score.std for g in row.groups])
        assert found.average_mean[0, m] == pytest.approx(row.average.mean)
        assert found.average_std[0, m] == pytest.approx(row.average.std)
    alone = observed(summary.rows)
    assert alone.mean.shape == (1, 2, 3)
    assert (alone.mean == found.mean[:1]).all() and (alone.std == found.std[:1]).all()


def test_resamples_are_centred_on_the_data_whatever_n():
    for spread in ((0.0, 0.03, 0.09), (0.0, 0.05, 0.02, 0.07, 0.01)):
        found = resampled(summary_of(*runs("sam", 0.5, spread)).rows)
        n = len(spread)
        error = found.std[0] / (n - 1) ** 0.5
        assert found.mean[1:].mean(axis=0) == pytest.approx(found.mean[0], abs=0.05 * error.max())
        assert found.mean[1:].std(axis=0) == pytest.approx(error, rel=0.05), "the error of a mean"
        assert found.std[1:].mean(axis=0) == pytest.approx(found.std[0]), "no loss of spread"


def test_groups_are_drawn_each_for_itself():
    found = resampled(
        summary_of(*runs("sam", 0.5, (0, 0.1, 0.2)), *runs("lora", 0.5, (0, 0.1, 0.2))).rows
    )
    flat = found.mean[1:].reshape(RESAMPLES, -1)
    apart = np.corrcoef(flat.T) - np.eye(6)
    assert np.abs(apart).max() < 0.05


def test_the_same_records_give_the_same_draws():
    rows = summary_of(*nine(4, spread=(0.0, 0.05, 0.02))).rows
    one, other = resampled(rows), resampled(rows)
    assert (one.mean == other.mean).all() and (one.std == other.std).all()


def test_a_shift_moves_means_and_a_scale_moves_both():
    values = np.array([0.1, 0.2, 0.4])
    one, other = (
        resampled(summary_of(*runs("sam", 0.0, tuple(spread))).rows)
        for spread in (values, 0.5 * values + 0.3)
    )
    assert other.mean == pytest.approx(0.5 * one.mean + 30)
    assert other.std == pytest.approx(0.5 * one.std, abs=1e-8)


def test_equal_values_deviate_by_exactly_nothing():
    found = resampled(summary_of(*runs("sam", 0.1 + 0.2, FLAT)).rows)
    assert (found.std == 0).all() and (found.mean == found.mean[0]).all()


def test_nothing_is_made_of_nothing():
    records = [failure("cb", "sam", 0, "x"), *runs("sam", 0.5, LITTLE, ("rte",))]
    lone = record("copa", "sam", 0, 0.5)
    found = resampled(summary_of(*records, lone).rows)
    titles = [group.task.label for group in summary_of(*records, lone).rows[0].groups]
    cb, copa = titles.index("cb"), titles.index("copa")
    assert np.isnan(found.mean[:, 0, cb]).all() and np.isnan(found.std[:, 0, cb]).all()
    assert (found.mean[:, 0, copa] == 50).all() and np.isnan(found.std[:, 0, copa]).all()
    assert np.isnan(found.average_mean).all(), "an average over all tasks or none"


def test_many_values_are_drawn_in_pieces(monkeypatch):
    monkeypatch.setattr("jiant_sparse.report.claims.bootstrap.DRAWS", 12_345)
    found = resampled(summary_of(*runs("sam", 0.5, (0.0, 0.1, 0.3))).rows)
    assert not np.isnan(found.mean).any() and not np.isnan(found.std).any()
    assert found.mean[1:].mean(axis=0) == pytest.approx(found.mean[0], abs=0.6)


def test_an_interval_is_of_the_resamples_alone():
    values = np.concatenate([[1000.0], np.arange(1, 1001)])
    assert interval(values) == pytest.approx(tuple(np.percentile(np.arange(1, 1001), [2.5, 97.5])))
    assert interval(np.array([3.0])) is None
    assert interval(np.array([3.0, np.nan])) is None
    assert interval(np.array([3.0, np.nan, 5.0])) == (5.0, 5.0)


def test_a_subset_is_in_the_order_asked():
    chosen = table(1).subset({"a": "sam", "b": "full_tuning"})
    assert chosen.names == ("a", "b") and list(chosen.average_mean[0]) == [77.12, 74.78]
    assert chosen.average("b")[0] == 74.78 and chosen.mean.shape == (1, 2, 7)
    assert list(chosen.average_std[0]) == [1.51, 2.60] and chosen.std[0, 0, 0] == 0.96
