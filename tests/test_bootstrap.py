"""The bootstrap: what is drawn, from what, and what never changes."""

import numpy as np
import pytest

from jiant_sparse.report.claims.bootstrap import (
    RESAMPLES,
    Replicates,
    expected_deviation,
    interval,
    replicate,
)
from jiant_sparse.report.claims.papers import table

WIDE = (-2.0, 0.0, 2.0)
TEN = tuple(2.0 * x for x in (-1.5, -1, -0.8, -0.3, -0.1, 0.1, 0.3, 0.8, 1, 1.5))
THREE_TASKS = ((70.0, 73.0, 79.0), (60.0, 70.0, 60.0), (50.0, 51.0, 53.0))


def test_line_0_is_the_data():
    groups = {"sam": THREE_TASKS, "random": THREE_TASKS[::-1]}
    found, alone = replicate(groups), replicate(groups, 0)
    assert found.mean.shape == found.std.shape == (RESAMPLES + 1, 2, 4)
    assert found.names == ("sam", "random")
    for m, tasks in enumerate(groups.values()):
        for part, of in ((found.mean, np.mean), (found.std, np.std)):
            expected = of(tasks, axis=1)
            assert part[0, m] == pytest.approx([*expected, expected.mean()])
    assert (alone.mean == found.mean[:1]).all() and (alone.std == found.std[:1]).all()


@pytest.mark.parametrize("values", [(0.0, 3.0, 9.0), (0.0, 5.0, 2.0, 7.0, 1.0), WIDE, TEN])
def test_resamples_are_centred_and_spread_by_the_standard_error(values):
    """Plain resamples of three values spread by 0.82 of it, and decide far too often."""
    found = replicate({"sam": [values] * 3})
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert found.mean[1:, 0, :3].mean(axis=0) == pytest.approx(found.mean[0, 0, :3], abs=error / 20)
    assert found.mean[1:, 0, :3].std(axis=0) == pytest.approx(np.full(3, error), rel=0.03)
    assert found.std[1:].mean(axis=0) == pytest.approx(found.std[0]), "no loss of spread"


def test_groups_are_drawn_each_for_itself_and_always_alike():
    groups = {"sam": [(0, 10.0, 20.0)] * 3, "lora": [(0, 10.0, 20.0)] * 3}
    found, again = replicate(groups), replicate(groups)
    apart = np.corrcoef(found.mean[1:, :, :3].reshape(RESAMPLES, -1).T) - np.eye(6)
    assert np.abs(apart).max() < 0.05
    assert (found.mean == again.mean).all() and (found.std == again.std).all()


def test_shift_and_scale():
    values = np.array([10.0, 20.0, 40.0])
    one, other = replicate({"sam": [values]}), replicate({"sam": [0.5 * values + 30]})
    assert other.mean == pytest.approx(0.5 * one.mean + 30)
    assert other.std == pytest.approx(0.5 * one.std, abs=1e-8)


def test_equal_values_deviate_by_exactly_nothing():
    found = replicate({"sam": [(100 * (0.1 + 0.2),) * 3]})
    assert (found.std == 0).all() and (found.mean == found.mean[0]).all()


def test_nothing_is_made_of_nothing():
    found = replicate({"sam": [(), (50.0,), (50.0, 51.0)]})
    assert np.isnan(found.mean[:, 0, 0]).all() and np.isnan(found.std[:, 0, :2]).all()
    assert (found.mean[:, 0, 1] == 50).all() and not np.isnan(found.std[:, 0, 2]).any()
    assert np.isnan(found.mean[:, 0, 3]).all(), "an average over all tasks or none"


def test_pieces_of_any_size_draw_the_same(monkeypatch):
    made = []
    for draws in (2_000_000, 12_345):
        monkeypatch.setattr("jiant_sparse.report.claims.bootstrap.DRAWS", draws)
        made.append(replicate({"sam": [(50.0, 60.0, 80.0), TEN]}))
    assert (made[0].mean == made[1].mean).all() and (made[0].std == made[1].std).all()
    assert not np.isnan(made[0].mean).any()


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_expected_deviation(n):
    draws = np.random.default_rng(0).normal(size=(200_000, n))
    assert expected_deviation(n) == pytest.approx(draws.std(axis=1).mean(), rel=0.005)


def test_fewer_runs_do_not_make_a_method_steadier():
    """The deviation of three values is smaller than that of ten of the same kind."""
    generator = np.random.default_rng(2)
    gaps, plain = [], []
    for _ in range(200):
        few, many = ([generator.normal(0, 2, n) for _ in range(3)] for n in (3, 10))
        found = replicate({"full_tuning": few, "random": many}, 0).std[0, :, -1]
        gaps.append(found[0] - found[1])
        plain.append(np.std(many, axis=1).mean() - np.std(few, axis=1).mean())
    assert np.mean(plain) > 0.25, "uncorrected, three runs look steadier"
    assert abs(np.mean(gaps)) < 2.5 * np.std(gaps) / 200**0.5


def test_interval_is_of_the_resamples_alone():
    values = np.concatenate([[1000.0], np.arange(1, 1001)])
    assert interval(values) == pytest.approx(tuple(np.percentile(np.arange(1, 1001), [2.5, 97.5])))
    assert interval(np.array([3.0])) is interval(np.array([3.0, np.nan])) is None
    assert interval(np.array([3.0, np.nan, 5.0])) == (5.0, 5.0)


def test_subset_is_in_the_order_asked():
    chosen = table(1).subset({"a": "sam", "b": "full_tuning"})
    assert chosen.names == ("a", "b") and chosen.mean.shape == (1, 2, 8)
    assert [*chosen.mean[0, :, -1]] == [77.12, 74.78] and chosen.average("b")[0] == 74.78
    assert [*chosen.std[0, :, -1]] == [1.51, 2.60] and chosen.std[0, 0, 0] == 0.96
    assert isinstance(chosen, Replicates) and table(1) != table(1), "not compared by its arrays"
