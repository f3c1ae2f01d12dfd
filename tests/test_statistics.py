"""The report's tests of significance, against SciPy, statsmodels and the published tables."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jiant_sparse.report.claims.outcomes import rank_pairs
from jiant_sparse.report.claims.printed import table
from scipy import stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttest_ind
from support.published import figure4

from jiant_sparse.report import published
from jiant_sparse.report.statistics import (
    MINIMUM_RUNS,
    Sample,
    hedges_g,
    holm,
    pooled,
    rank_correlation,
    spearman,
    two_sided,
    welch,
    welch_contrast,
)

A = [71.2, 69.9, 73.4, 70.0, 72.5, 68.1]
B = [74.0, 70.5, 75.5, 76.25]
SCORES = st.floats(0, 100).map(lambda value: round(value, 3))
GROUPS = st.lists(SCORES, min_size=3, max_size=12).filter(lambda group: np.ptp(group) > 0.01)
SHARES = st.one_of(st.none(), st.floats(0, 1))


def sample(values):
    return Sample.of(values)


def test_a_sample_divides_by_n_minus_one_and_needs_two_values():
    assert sample([1.0, 3.0]) == Sample(2, 2.0, 2.0)
    assert Sample.of([5.0]) is None and Sample.of([]) is None


def test_a_published_std_is_of_the_population():
    again = Sample.published(np.mean(A), np.std(A), len(A))
    assert again.n == 6 and again.variance == pytest.approx(np.var(A, ddof=1))
    assert Sample.published(50.0, 3.0).variance == pytest.approx(10.0)


@pytest.mark.parametrize(("test", "equal"), [(pooled, True), (welch, False)])
def test_two_samples_as_scipy_and_statsmodels_test_them(test, equal):
    found = test(sample(A), sample(B))
    theirs = stats.ttest_ind(A, B, equal_var=equal)
    assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue), rel=1e-12)
    others = ttest_ind(A, B, usevar="pooled" if equal else "unequal")
    assert (found.t, found.p, found.df) == pytest.approx(others, rel=1e-12)
    assert found.t < 0, "the first minus the second"


@settings(deadline=None, max_examples=60)
@given(GROUPS, GROUPS)
def test_swapping_the_sides_turns_the_sign_and_nothing_else(one, other):
    for test in (pooled, welch):
        there, back = test(sample(one), sample(other)), test(sample(other), sample(one))
        assert there.t == pytest.approx(-back.t, abs=1e-9)
        assert there.p == pytest.approx(back.p) and there.df == pytest.approx(back.df)
        assert 0 <= there.p <= 1
    assert hedges_g(sample(one), sample(other)) == pytest.approx(
        -hedges_g(sample(other), sample(one))
    )


@settings(deadline=None, max_examples=60)
@given(GROUPS, GROUPS, st.floats(-50, 50), st.floats(0.1, 10))
def test_a_shift_and_a_scale_of_both_sides_change_no_test(one, other, shift, scale):
    moved = [sample([scale * value + shift for value in group]) for group in (one, other)]
    for test in (pooled, welch):
        assert test(*moved).t == pytest.approx(test(sample(one), sample(other)).t, abs=1e-6)


@pytest.mark.parametrize("test", [pooled, welch, hedges_g])
def test_a_test_needs_three_values_on_each_side_and_some_spread(test):
    assert MINIMUM_RUNS == 3
    assert test(sample([1.0, 2.0, 4.0]), sample([2.0, 3.0, 5.0])) is not None
    assert test(sample([1.0, 2.0]), sample(A)) is None
    assert test(sample(A), sample([1.0, 2.0])) is None
    assert test(None, sample(A)) is None and test(sample(A), None) is None
    constant, other = sample([1.0, 1.0, 1.0]), sample([2.0, 2.0, 2.0])
    assert test(constant, other) is None
    assert test(constant, sample(A)) is not None, "one side that varies is enough"


def test_a_contrast_of_averages_is_satterthwaites():
    tasks = [(A, B), ([50.0, 52.0, 57.0], [49.0, 40.0, 43.0, 44.0])]
    parts = [(0.5, sample(one)) for one, _ in tasks] + [(-0.5, sample(two)) for _, two in tasks]
    found = welch_contrast(parts)
    errors = [0.25 * np.var(g, ddof=1) / len(g) for pair in tasks for g in pair]
    sizes = [len(g) for pair in tasks for g in pair]
    gap = sum(np.mean(one) - np.mean(two) for one, two in tasks) / 2
    t = gap / math.sqrt(sum(errors))
    df = sum(errors) ** 2 / sum(e**2 / (n - 1) for e, n in zip(errors, sizes, strict=True))
    assert (found.t, found.df) == pytest.approx((t, df))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), df))


def test_a_contrast_is_refused_as_a_test_is():
    assert welch_contrast([]) is None
    assert welch_contrast([(1.0, sample(A)), (-1.0, sample([1.0, 2.0]))]) is None
    assert welch_contrast([(1.0, sample(A)), (-1.0, None)]) is None
    assert welch_contrast([(0.0, sample(A)), (1.0, sample([1.0, 1.0, 1.0]))]) is None


@pytest.mark.parametrize(("t", "df"), [(0.0, 3), (-2.5, 9.3), (40.0, 18), (1e-9, 1)])
def test_p_is_students_and_two_sided(t, df):
    assert two_sided(t, df) == pytest.approx(min(1, 2 * stats.t.sf(abs(t), df)), rel=1e-9)


def test_hedges_g_as_statsmodels_corrects_it():
    theirs, _ = effectsize_smd(
        np.mean(A), np.std(A, ddof=1), len(A), np.mean(B), np.std(B, ddof=1), len(B)
    )
    assert hedges_g(sample(A), sample(B)) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    "p_values",
    [[0.2], [0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], [0.0, 1.0, 1e-12, 0.02, 0.02, 0.3]],
)
def test_holm_as_statsmodels_does_it(p_values):
    theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(theirs), abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.lists(SHARES, max_size=30))
def test_holm_only_raises_keeps_the_order_and_leaves_none_alone(p_values):
    corrected = holm(p_values)
    assert [p is None for p in corrected] == [p is None for p in p_values]
    pairs = sorted((p, c) for p, c in zip(p_values, corrected, strict=True) if p is not None)
    assert all(p <= c <= 1 for p, c in pairs)
    assert [c for _, c in pairs] == sorted(c for _, c in pairs)
    known = [p for p in p_values if p is not None]
    assert [c for c in corrected if c is not None] == holm(known), "None is not of the family"


PAIRS = st.tuples(st.integers(0, 6), st.integers(0, 6))


@settings(deadline=None, max_examples=60)
@given(st.lists(PAIRS, min_size=9, max_size=25))
def test_spearman_as_scipy_does_it_with_ties(pairs):
    x, y = zip(*pairs, strict=True)
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
        return
    theirs = stats.spearmanr(x, y)
    assert found.rho == pytest.approx(theirs.statistic, abs=1e-12) and found.n == len(pairs)
    if abs(found.rho) < 1:
        assert found.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


def brute_force(x, y):
    """The share of all orders of y whose |rho| is at least that of the order given."""
    x, y = stats.rankdata(x), stats.rankdata(y)
    found = [abs(np.corrcoef(x, order)[0, 1]) for order in permutations(y)]
    return np.mean(np.array(found) >= found[0] - 1e-9)


@settings(deadline=None, max_examples=30)
@given(st.lists(PAIRS, min_size=3, max_size=6))
def test_the_p_of_few_pairs_is_counted_over_all_orders(pairs):
    x, y = zip(*pairs, strict=True)
    found = spearman(x, y)
    assert found is None or found.p == pytest.approx(brute_force(x, y), abs=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "p"),
    [
        ([1, 2, 3], [4, 5, 6], 2 / 6),
        ([1, 2, 3], [6, 5, 4], 2 / 6),
        ([1, 1, 2], [3, 3, 7], 2 / 6),
        ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], 2 / math.factorial(8)),
        ([*range(9)], [*range(9)], 2 / math.factorial(9)),
        ([1] * 8 + [2], [3] * 8 + [9], 1 / 9),
        ([1, 1, 1, 2, 2, 2, 3, 3, 3], [3, 3, 3, 2, 2, 2, 1, 1, 1], 2 * 6**3 / math.factorial(9)),
    ],
)
def test_a_perfect_correlation_has_the_p_of_the_orders_that_give_it(x, y, p):
    found = spearman(x, y)
    assert abs(found.rho) == 1 and found.p == pytest.approx(p, rel=1e-12)


def test_spearman_of_nothing_to_correlate():
    assert spearman([1, 2], [1, 2]) is None
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    whole = spearman([3.0, 1.0, 2.0], [30.0, 10.0, 20.0])
    assert (whole.rho, whole.n) == (1.0, 3) and whole.p == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="^spearman: 3 and 2 values; x and y must be of equal len"):
        spearman([1, 2, 3], [1, 2])


def test_many_lines_are_correlated_each_for_itself():
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


# Cells whose printed mean is no average of 10 runs (METHODS.md 5.3) and, where it leaves several
# numbers open, the one that gives the printed t.
FEWER = {
    (1, "RTE", "mag_pruning"): 9,
    (1, "CB", "mixout"): 9,
    (2, "CB", "bitfit"): 8,
    (2, "CB", "lora"): 6,
}
# The columns that were tested on the printed numbers: (table of tests, table of scores, task).
REPRODUCED = [(5, 1, task) for task in ("CoLA", "RTE", "CB")] + [(6, 2, "CB"), (6, 2, "MRPC")]


def published_t(key, task, number, *moved):
    """The test of SAM against a method; `moved` is added to both means and deviations."""
    ours, theirs = published.value("sam", task, number), published.value(key, task, number)
    a, b, c, d = moved or (0, 0, 0, 0)
    n = FEWER.get((number, task, key), 10)
    return pooled(
        Sample.published(ours.mean + a, ours.std + b),
        Sample.published(theirs.mean + c, theirs.std + d, n),
    )


@pytest.mark.parametrize("key", [key for key in published.METHODS if key != "sam"])
@pytest.mark.parametrize(("test", "number", "task"), REPRODUCED)
def test_the_published_t_tests_come_out_of_the_published_tables(test, number, task, key):
    t, p = published.t_test(key, task, test)
    # Everything is printed to two decimals: what is behind it lies within half of the last one.
    half = 0.005
    corners = [published_t(key, task, number, *moved) for moved in product((-half, half), repeat=4)]
    assert min(c.t for c in corners) - half <= t <= max(c.t for c in corners) + half
    assert min(c.p for c in corners) - half <= p <= max(c.p for c in corners) + half
    found = published_t(key, task, number)
    assert found.t == pytest.approx(t, abs=0.025) and found.p == pytest.approx(p, abs=0.011)


def test_the_tables_other_columns_do_not_come_out():
    """METHODS.md 6.1: they were made from other runs of SAM than the tables print."""
    assert abs(published_t("full_tuning", "COPA", 1).t - 3.36) > 0.3
    assert abs(published_t("full_tuning", "MRPC", 1).t + 1.69) > 0.3


def columns(number, average):
    """(methods, columns) of deviations and means of a published table, with or without AVG."""
    printed = table(number)
    std = np.column_stack([printed.std[0], printed.average_std[0]])
    mean = np.column_stack([printed.mean[0], printed.average_mean[0]])
    return (std, mean) if average else (std[:, :-1], mean[:, :-1])


# METHODS.md 6.3 gives the first of each pair where ties share the smaller rank, as in the figure,
# and the second (of all other cuts) where they share the mean one.
@pytest.mark.parametrize(
    ("numbers", "average", "n", "smaller", "shared"),
    [
        ((1, 2), True, 160, 0.4181, 0.4103),
        ((1,), True, 80, 0.4861, 0.470),
        ((1,), False, 70, 0.5051, 0.485),
        ((2,), True, 80, 0.3514, 0.348),
        ((1, 2), False, 140, 0.4092, 0.399),
    ],
)
def test_figure_4s_correlations(numbers, average, n, smaller, shared):
    parts = [columns(number, average) for number in numbers]
    for ties, rho in (("min", smaller), ("average", shared)):
        x, y = (
            np.concatenate([stats.rankdata(s * p[i], ties, axis=0).ravel() for p in parts])
            for i, s in ((0, 1), (1, -1))
        )
        found = spearman(x, y)
        assert found.n == n and found.rho == pytest.approx(rho, abs=5e-4)
        theirs = stats.spearmanr(x, y)
        assert (found.rho, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))


def test_figure_4s_correlation_is_not_the_printed_one():
    pairs = [rank_pairs(table(number)) for number in (1, 2)]
    found = spearman(*(np.concatenate([pair[i][0] for pair in pairs]) for i in (0, 1)))
    assert (found.rho, found.n) == (pytest.approx(0.4181, abs=5e-5), 160)
    assert found.p == pytest.approx(3.8e-8, rel=0.02)


def test_figure_4s_points_come_out_of_the_published_tables():
    parts = [rank_pairs(table(number)) for number in (1, 2)]
    stability, performance = (np.concatenate([pair[i][0] for pair in parts]) for i in (0, 1))
    for rank, points, mean, std in figure4():
        its = performance[stability == rank]
        assert len(its) == points
        assert (its.mean(), its.std()) == pytest.approx((mean, std), abs=5e-5)
