"""The report's statistics, against independent implementations and the published tables."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.weightstats import ttest_ind

from jiant_sparse.report import published
from jiant_sparse.report.claims.findings import rank_pairs
from jiant_sparse.report.claims.papers import table
from jiant_sparse.report.statistics import (
    MINIMUM_RUNS,
    Sample,
    hedges_g,
    holm,
    pooled,
    rank_correlation,
    spearman,
    welch,
    welch_contrast,
)

A = [71.2, 69.9, 73.4, 70.0, 72.5, 68.1]
B = [74.0, 70.5, 75.5, 76.25]
SCORES = st.floats(0, 100).map(lambda value: round(value, 3))
GROUPS = st.lists(SCORES, min_size=3, max_size=12).filter(lambda group: np.ptp(group) > 0.01)


def test_samples():
    assert Sample.of([1.0, 3.0]) == Sample(2, 2.0, 2.0)
    assert Sample.of([5.0]) is None and Sample.of([]) is None
    again = Sample.published(np.mean(A), np.std(A), len(A))
    assert again.n == 6 and again.variance == pytest.approx(np.var(A, ddof=1))
    assert Sample.published(50.0, 3.0).variance == pytest.approx(10.0)


@pytest.mark.parametrize(("test", "usevar"), [(pooled, "pooled"), (welch, "unequal")])
def test_two_samples(test, usevar):
    found = test(Sample.of(A), Sample.of(B))
    assert (found.t, found.p, found.df) == pytest.approx(ttest_ind(A, B, usevar=usevar), rel=1e-12)
    assert found.t < 0, "the first minus the second"


@settings(deadline=None, max_examples=60)
@given(GROUPS, GROUPS, st.floats(-50, 50), st.floats(0.1, 10))
def test_symmetry_shift_and_scale(one, other, shift, scale):
    a, b = Sample.of(one), Sample.of(other)
    moved = [Sample.of([scale * value + shift for value in group]) for group in (one, other)]
    for test in (pooled, welch):
        there, back = test(a, b), test(b, a)
        assert there.t == pytest.approx(-back.t, abs=1e-9) and 0 <= there.p <= 1
        assert (there.p, there.df) == pytest.approx((back.p, back.df))
        assert test(*moved).t == pytest.approx(there.t, abs=1e-6)
    assert hedges_g(a, b) == pytest.approx(-hedges_g(b, a))


@pytest.mark.parametrize("test", [pooled, welch, hedges_g])
def test_minimum_runs_and_some_spread(test):
    assert MINIMUM_RUNS == 3
    a, two, constant = Sample.of(A), Sample.of([1.0, 2.0]), Sample.of([1.0, 1.0, 1.0])
    assert test(Sample.of([1.0, 2.0, 4.0]), Sample.of([2.0, 3.0, 5.0])) is not None
    for sides in ((two, a), (a, two), (None, a), (a, None), (constant, Sample(3, 2.0, 0.0))):
        assert test(*sides) is None
    assert test(constant, a) is not None, "one side that varies is enough"
    assert welch_contrast([]) is None
    assert welch_contrast([(1.0, a), (-1.0, a), (1.0, two)]) is None


def test_contrast_is_satterthwaites():
    groups = [A, [50.0, 52.0, 57.0], B, [49.0, 40.0, 43.0, 44.0]]
    shares = [0.5, 0.5, -0.5, -0.5]
    found = welch_contrast([*zip(shares, map(Sample.of, groups), strict=True)])
    errors = np.array([0.25 * np.var(group, ddof=1) / len(group) for group in groups])
    sizes = np.array([*map(len, groups)])
    gap = sum(share * np.mean(group) for share, group in zip(shares, groups, strict=True))
    df = errors.sum() ** 2 / (errors**2 / (sizes - 1)).sum()
    assert (found.t, found.df) == pytest.approx((gap / math.sqrt(errors.sum()), df))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.t), df))


def test_p_is_never_above_1_nor_lost():
    assert welch(Sample(9, 0.0, 1.0), Sample(9, 0.0, 1.0)).p == 1
    assert 0 < welch(Sample(9, 100.0, 1.0), Sample(9, 0.0, 1.0)).p < 1e-20
    tiny = welch(Sample(3, 1e-150, 1e-300), Sample(3, 0.0, 1e-300))
    assert tiny.df == pytest.approx(4)


def test_hedges_g():
    theirs, _ = effectsize_smd(
        np.mean(A), np.std(A, ddof=1), len(A), np.mean(B), np.std(B, ddof=1), len(B)
    )
    assert hedges_g(Sample.of(A), Sample.of(B)) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([None], [None]),
        ([0.01, None, 0.04, 0.03, None, 0.005], [0.03, None, 0.06, 0.06, None, 0.02]),
        ([0.5, 0.5, 0.9], [1.0, 1.0, 1.0]),
        ([0.0, 1.0, 1e-12, 0.02, 0.02, 0.3], [0.0, 1.0, 5e-12, 0.08, 0.08, 0.6]),
    ],
)
def test_holm(p_values, corrected):
    assert holm(p_values) == [p if p is None else pytest.approx(p, rel=1e-12) for p in corrected]


def by_hand(x, y):
    """The share of all orders of y whose |rho| is at least that of the order given."""
    x, y = stats.rankdata(x), stats.rankdata(y)
    found = [abs(np.corrcoef(x, order)[0, 1]) for order in permutations(y)]
    return np.mean(np.array(found) >= found[0] - 1e-9)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20))
def test_spearman_with_ties(pairs):
    x, y = zip(*pairs, strict=True)
    found = spearman(x, y)
    if len({*x}) == 1 or len({*y}) == 1:
        assert found is None
        return
    a, b = stats.rankdata(x), stats.rankdata(y)
    assert found.rho == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
    assert found.n == len(pairs)
    if len(pairs) <= 6:
        assert found.p == pytest.approx(by_hand(x, y), abs=1e-12)
    elif len(pairs) > 8 and abs(found.rho) < 1:
        t = found.rho * math.sqrt((found.n - 2) / (1 - found.rho**2))
        assert found.p == pytest.approx(2 * stats.t.sf(abs(t), found.n - 2), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "p"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 6),
        ([1, 2, 3], [6, 5, 4], 2 / 6),
        ([1, 1, 2], [3, 3, 7], 2 / 6),
        ([*range(8)], [*range(8)], 2 / math.factorial(8)),
        ([*range(9)], [*range(9)], 2 / math.factorial(9)),
        ([1] * 8 + [2], [3] * 8 + [9], 1 / 9),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3], [3, 3, 3, 2, 2, 2, 1, 1, 1], 2 * 6**3 / math.factorial(9)),
    ],
)
def test_p_of_a_perfect_correlation(x, y, p):
    found = spearman(x, y)
    assert abs(found.rho) == 1 and found.p == pytest.approx(p, rel=1e-12)


def test_p_of_eight_pairs():
    """Without ties, by the sums of squared rank differences of all orders."""
    found = spearman([*range(8)], [1, 0, 3, 2, 5, 4, 7, 6])
    assert found.rho == pytest.approx(1 - 6 * 8 / (8 * 63))
    sums = ((np.array([*permutations(range(8))]) - np.arange(8)) ** 2).sum(axis=1)
    assert found.p == pytest.approx(np.mean((sums <= 8) | (sums >= 168 - 8)), abs=1e-12)


def test_spearman_of_nothing_to_correlate():
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="^spearman: 3 and 2 values; x and y must be of equal len"):
        spearman([1, 2, 3], [1, 2])


def test_lines_are_correlated_each_for_itself():
    generator = np.random.default_rng(5)
    x, y = (generator.integers(0, 5, (40, 9)) for _ in range(2))
    x[3] = 1
    rho = rank_correlation(x, y)
    expected = [
        stats.spearmanr(a, b).statistic if len({*a}) > 1 else np.nan
        for a, b in zip(x, y, strict=True)
    ]
    assert rho == pytest.approx(expected, nan_ok=True, abs=1e-12)
    assert np.isnan(rho[3])


def test_figure_4s_points():
    pairs = [rank_pairs(table(number)) for number in (1, 2)]
    stability, performance = (np.concatenate([pair[i][0] for pair in pairs]) for i in (0, 1))
    found = spearman(stability, performance)
    # Not the printed 0.4356.
    assert (found.rho, found.n) == (pytest.approx(0.4181, abs=5e-5), 160)
    assert found.p == pytest.approx(3.8e-8, rel=0.02)
    for printed in pd.read_csv(published.DIRECTORY / "figure4_rank.csv").itertuples():
        its = performance[stability == printed.stability_rank]
        assert len(its) == printed.n_points
        expected = (printed.mean_performance_rank, printed.std)
        assert (its.mean(), its.std()) == pytest.approx(expected, abs=5e-5)
