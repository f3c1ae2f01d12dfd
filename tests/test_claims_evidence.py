"""That a verdict takes evidence: for each part of a claim, from few seeds and from unequal n."""

import numpy as np
import pytest
from support.claims import FLAT, LITTLE, nine, runs, summary_of
from support.records import failure

from jiant_sparse.report.claims import judge
from jiant_sparse.report.claims.bootstrap import (
    RESAMPLES,
    expected_deviation,
    observed,
    resampled,
    scores,
)
from jiant_sparse.report.claims.outcomes import (
    Parts,
    in_the_top,
    mean_peaks,
    most_beat,
    stochastic_order,
)
from jiant_sparse.report.published import METHODS

OTHERS = tuple(METHODS)[1:]
WIDE = (-0.02, 0.0, 0.02)
TEN = tuple(0.02 * x for x in (-1.5, -1, -0.8, -0.3, -0.1, 0.1, 0.3, 0.8, 1, 1.5))


def verdict(number, *records):
    return next(v for v in judge(summary_of(*records)) if v.claim.number == number)


# The parts of a claim.


def parts(*wrong, needed, lines=10_000):
    """Statements that are false in so many of the resamples, and true in the data."""
    table = np.ones((lines + 1, len(wrong)), bool)
    for column, number in enumerate(wrong):
        table[1 : number + 1, column] = False
    return Parts(table, needed)


@pytest.mark.parametrize(
    ("wrong", "needed", "sure"),
    [
        ((250,), 1, True),
        ((251,), 1, False),
        # Any of two: half the chance for each. Both of two: the whole.
        ((125, 9000), 1, True),
        ((126, 9000), 1, False),
        ((250, 250), 2, True),
        ((250, 251), 2, False),
        # Five of nine: four may be wrong, so that a fifth of the chance is left.
        ((50,) * 5 + (5000,) * 4, 5, True),
        ((50,) * 4 + (51,) + (5000,) * 4, 5, False),
        ((0,) * 4 + (1000,) * 5, 5, False),
        ((0, 0), 3, False),
    ],
)
def test_enough_statements_must_each_be_sure(wrong, needed, sure):
    assert parts(*wrong, needed=needed).sure(0.025) == sure


def test_the_data_are_no_resample():
    table = np.ones((2, 1), bool)
    table[0] = False
    assert Parts(table, 1).sure(0.025)


def test_five_methods_that_may_as_well_be_equal_are_no_fifth_that_is_better():
    """In nearly every resample one of five equal ones is better, each time another one."""
    records = runs("full_tuning", 0.6, FLAT)
    for place, method in enumerate(OTHERS):
        records += runs(method, 0.7 if place < 4 else 0.601, LITTLE if place < 4 else WIDE)
    found = verdict("1", *records)
    assert found.share > 0.975 and found.estimate == 9
    assert found.state == "not enough data"
    assert found.reason.endswith("resamples; but too few of its parts are sure, each for itself.")
    sure = [r for r in records if r.cell.method != OTHERS[4]] + runs(OTHERS[4], 0.7)
    assert verdict("1", *sure).state == "supported"
    assert "too few" not in verdict("1", *sure).reason


def test_an_order_is_refuted_only_if_one_of_its_steps_is():
    """Three equal methods stand in any one order in few resamples; that refutes none."""
    spread = (-0.04, -0.02, 0.0, 0.02, 0.04)
    names = {"stochastic_tuning": 0.6, "top_tuning": 0.614, "full_tuning": 0.628}
    records = [r for name, level in names.items() for r in runs(name, level, spread)]
    found = verdict("7", *records)
    assert found.share < 0.025 and found.state == "not enough data"
    assert "too few of its parts" in found.reason
    clear = [r for r in records if r.cell.method != "full_tuning"] + runs("full_tuning", 0.7)
    assert verdict("7", *clear).state == "not supported"


def test_what_each_claim_consists_of():
    generator = np.random.default_rng(3)
    mean, std = generator.normal(50, 3, (50, 10, 7)), generator.uniform(1, 2, (50, 10, 7))
    table = scores(tuple(METHODS), mean, std)
    one, four = most_beat(table), in_the_top(table)
    assert one.pro.lines.shape == one.contra.lines.shape == (50, 9)
    assert (one.pro.needed, one.contra.needed) == (5, 5)
    assert four.pro.lines.shape == (50, 7) and (four.pro.needed, four.contra.needed) == (4, 4)
    even = in_the_top(scores(tuple(METHODS), mean[..., :6], std[..., :6]))
    assert (even.pro.needed, even.contra.needed) == (4, 3), "half of the tasks is not most"
    names = ("stochastic_tuning", "top_tuning", "full_tuning")
    seven = stochastic_order(scores(names, mean[:, :3], std[:, :3]))
    curve = mean_peaks(scores(("0.001", "0.01", "0.1", "0.2"), mean[:, :4], std[:, :4]))
    assert (seven.pro.needed, seven.contra.needed) == (2, 1)
    assert (curve.pro.needed, curve.contra.needed) == (3, 1)
    for found in (one, four, even, seven, curve):
        count = [p.lines.sum(axis=1) >= p.needed for p in (found.pro, found.contra)]
        assert (count[0] == found.holds).all() and (count[1] == found.fails).all()
        assert (found.pro.lines == ~found.contra.lines).all()


def test_methods_that_all_give_one_answer_are_not_the_best_three():
    equal = [r for method in METHODS for r in runs(method, 0.6, FLAT)]
    found = verdict("4", *equal)
    assert (found.state, found.estimate) == ("not enough data", 3)
    assert "(ranks 1, 1, 1), 3 of them in a tie that goes beyond place 3, among 10" in found.reason
    three = [r for r in equal if r.cell.method not in OTHERS[:7]]
    three += [r for method in OTHERS[:7] for r in runs(method, 0.5, FLAT)]
    whole = verdict("4", *three)
    assert whole.state == "supported" and "tie" not in whole.reason, "full tuning, SAM, a third"


# The bootstrap of few values.


def test_a_resampled_mean_spreads_by_its_standard_error():
    """Plain resamples of three values spread by 0.82 of it, and decide far too often."""
    for values in ((0.0, 0.03, 0.09), (0.0, 0.05, 0.02, 0.07, 0.01)):
        found = resampled(summary_of(*runs("sam", 0.5, values)).rows)
        error = 100 * np.std(values, ddof=1) / len(values) ** 0.5
        assert found.mean[1:].std(axis=0) == pytest.approx(np.full((1, 3), error), rel=0.03)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_expected_deviation_is_that_of_normal_draws(n):
    draws = np.random.default_rng(0).normal(size=(200_000, n))
    assert expected_deviation(n) == pytest.approx(draws.std(axis=1).mean(), rel=0.005)


def test_fewer_runs_do_not_make_a_method_steadier():
    """The deviation of three values is smaller than that of ten of the same kind."""
    generator = np.random.default_rng(2)
    gaps, told = [], []
    for _ in range(40):
        few, many = (tuple(generator.normal(0, 0.02, n)) for n in (3, 10))
        rows = summary_of(*runs("full_tuning", 0.6, few), *runs("random", 0.6, many)).rows
        found = observed(rows).average_std[0]
        gaps.append(found[0] - found[1])
        told.append([row.average.std for row in rows])
    plain = np.diff(np.array(told), axis=1).mean()
    assert plain > 0.25, "as the table of results has it, three runs look steadier"
    assert abs(np.mean(gaps)) < 2.5 * np.std(gaps) / 40**0.5


def test_deviations_of_equal_n_are_as_measured():
    rows = summary_of(*runs("full_tuning", 0.6, TEN), *runs("random", 0.6, TEN[::-1])).rows
    found = observed(rows)
    assert found.average_std[0] == pytest.approx([row.average.std for row in rows], abs=1e-8)


def test_resampled_deviations_are_the_measured_one_on_average():
    for values in (WIDE, (0.0, 0.0, 0.05), TEN):
        records = [*runs("sam", 0.5, values), *runs("lora", 0.5, TEN)]
        found = resampled(summary_of(*records).rows)
        assert found.std[1:].mean(axis=0) == pytest.approx(found.std[0])
    assert len(found.std) == RESAMPLES + 1


# What is left out.


def test_runs_without_a_value_are_said_to_be_left_out():
    records = [*runs("full_tuning", 0.6), *runs("random", 0.61)]
    assert "left out" not in verdict("3", *records).reason
    one = verdict("3", *records, failure("rte", "random", 3, "diverged"))
    assert one.reason.endswith("resamples; 1 run without a test value left out.")
    two = [failure("rte", "random", seed, "diverged") for seed in (3, 4)]
    assert "; 2 runs without a test value left out." in verdict("3", *records, *two).reason
    other = failure("rte", "sam", 3, "diverged")
    assert "left out" not in verdict("3", *records, *runs("sam", 0.5), other).reason
    # A method that is short of runs counts for nothing, and neither do its failures.
    short = [*nine(6), failure("rte", "sam", 3, "diverged")]
    short = [r for r in short if r.cell.method != "sam" or r.cell.task != "cb"]
    assert "1 of the paper's 9" in verdict("1", *short).reason
    assert "left out" not in verdict("1", *short).reason


def test_what_resamples_leave_open_is_not_blamed_on_parts():
    records = [*runs("full_tuning", 0.6, TEN), *runs("random", 0.602, TEN)]
    found = verdict("3", *records)
    assert found.state == "not enough data" and 0.025 < found.share < 0.975
    assert found.reason.endswith(" % of the resamples.") and "parts" not in found.reason
