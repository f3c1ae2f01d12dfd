"""The papers' claims: their figures, their rules at the borders, and the evidence they take."""

import numpy as np
import pytest
from support.claims import FLAT, LITTLE, OTHERS, frame_of, levels, nine, runs, verdicts
from support.records import failure, record

from jiant_sparse.report import claims
from jiant_sparse.report.claims import SURE, PaperClaim, judge
from jiant_sparse.report.claims.bootstrap import RESAMPLES, Replicates, with_average
from jiant_sparse.report.claims.findings import (
    Finding,
    Statements,
    bend,
    go_together,
    in_the_top,
    majority,
)
from jiant_sparse.report.claims.papers import CLAIMS, figure5, table
from jiant_sparse.report.published import METHODS

WIDE = (-0.02, 0.0, 0.02)
OPEN, YES, NO = "not enough data", "supported", "not supported"


def grid(points, spread=LITTLE):
    """SAM at several densities: density -> level, or density -> (level, spread)."""
    return [
        item
        for density, level in points.items()
        for item in levels(
            {f"sam-{density}": level},
            spread,
            setting={"method": {"name": "sam", "density": density}},
        )
    ]


def replicates(names, mean, std=None):
    std = np.ones_like(mean) if std is None else std
    return Replicates(tuple(names), with_average(mean), with_average(std))


def claim(number):
    (found,) = (claim for claim in CLAIMS if claim.number == number)
    return found


def averages(**means):
    """Scores of one line, equal on two tasks."""
    return replicates(
        means, np.repeat(np.array([*means.values()], float)[None, :, None], 2, axis=2)
    )


# The rules.


def statements(*false, needed=1, data=True):
    """Statements that are false in so many of the resamples."""
    true = np.ones((RESAMPLES + 1, len(false)), bool)
    true[0] = data
    for column, number in enumerate(false):
        true[1 : number + 1, column] = False
    return Statements(true, needed)


def asked(monkeypatch, supports, refutes, **changes):
    """The verdict on a claim whose finding is given."""
    finding = Finding(supports, refutes, np.full(RESAMPLES + 1, 2.0), "b", "told so", **changes)
    claim = PaperClaim("0", "text", "A", "figure", lambda _: finding, keys=("sam",), least=1)
    monkeypatch.setattr(claims, "CLAIMS", (claim,))
    (found,) = judge(frame_of(*runs("sam", 0.7)))
    return found


@pytest.mark.parametrize(
    ("false", "data", "state"),
    [
        (0, True, YES),
        (250, True, YES),
        (251, True, OPEN),
        (9750, False, NO),
        (9749, False, OPEN),
        # The data must agree with the resamples.
        (0, False, OPEN),
        (10_000, True, OPEN),
    ],
)
def test_a_verdict_takes_the_data_and_97_5_percent_of_the_resamples(
    monkeypatch, false, data, state
):
    assert SURE == 0.975 and RESAMPLES == 10_000
    holds = statements(false, data=data)
    found = asked(monkeypatch, holds, Statements(~holds.true))
    share = (RESAMPLES - false) / RESAMPLES
    assert (found.state, found.share, found.estimate) == (state, share, 2.0)
    undecided = "undecided: " if state == OPEN else ""
    said = f"{100 * share:.2f}".removesuffix(".00")
    assert found.reason == f"Told so; {undecided}holds in {said} % of the resamples."


def test_what_is_open_is_never_supported(monkeypatch):
    found = asked(monkeypatch, statements(0), statements(10_000, data=False), open="more is needed")
    assert (found.state, found.share) == (OPEN, 1.0)
    assert found.reason == "Told so; undecided: holds in 100 % of the resamples; more is needed."


@pytest.mark.parametrize(
    ("false", "needed", "sure"),
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
def test_enough_statements_must_each_be_sure(false, needed, sure):
    assert statements(*false, needed=needed).sure == sure
    assert statements(*false, needed=needed, data=False).sure == sure, "the data are no resample"


def test_five_methods_that_may_as_well_be_equal_are_no_fifth_that_is_better():
    """In nearly every resample one of five equal methods is better, each time another one."""
    others = {m: 0.7 if i < 4 else (0.601, WIDE) for i, m in enumerate(OTHERS)}
    found = verdicts(*levels({"full_tuning": (0.6, FLAT), **others}))["1"]
    assert found.share > SURE and found.estimate == 9 and found.state == OPEN
    assert found.reason.endswith("resamples; but too few of its parts are sure, each for itself.")
    sure = verdicts(*levels({"full_tuning": (0.6, FLAT), **others, OTHERS[4]: 0.7}))["1"]
    assert sure.state == YES and "too few" not in sure.reason


def test_an_order_is_refuted_only_if_one_of_its_steps_is():
    """Three equal methods are in any one order in few resamples; that refutes none."""
    names = {"stochastic_tuning": 0.6, "top_tuning": 0.614, "full_tuning": 0.628}
    spread = (-0.04, -0.02, 0.0, 0.02, 0.04)
    found = verdicts(*levels(names, spread))["7"]
    assert found.share < 1 - SURE and found.state == OPEN and "too few of its parts" in found.reason
    assert verdicts(*levels({**names, "full_tuning": 0.7}, spread))["7"].state == NO


def test_what_each_claim_consists_of():
    generator = np.random.default_rng(3)
    mean, std = generator.normal(50, 3, (50, 10, 7)), generator.uniform(1, 2, (50, 10, 7))
    names = ("stochastic_tuning", "top_tuning", "full_tuning")
    densities = ("0.001", "0.01", "0.1", "0.2")
    for found, parts, pro, contra in (
        (majority(replicates(METHODS, mean, std), "mean"), 9, 5, 5),
        (in_the_top(replicates(METHODS, mean, std)), 7, 4, 4),
        # Half of the tasks is not most.
        (in_the_top(replicates(METHODS, mean[..., :6], std[..., :6])), 6, 4, 3),
        (go_together(replicates(METHODS, mean, std)), 1, 1, 1),
        (claim("7").finding(replicates(names, mean[:, :3], std[:, :3])), 2, 2, 1),
        (bend(replicates(densities, mean[:, :4], std[:, :4]), "mean"), 3, 3, 1),
    ):
        assert found.supports.true.shape == found.refutes.true.shape == (50, parts)
        assert (found.supports.needed, found.refutes.needed) == (pro, contra)
        assert (found.supports.true == ~found.refutes.true).all()
        assert (found.supports.hold == ~found.refutes.hold).all()


# (1) and (2): most of nine.


@pytest.mark.parametrize(
    ("beating", "of", "state"),
    [
        (5, 9, YES),
        (4, 9, NO),
        (5, 6, YES),
        (4, 8, OPEN),
        (1, 6, NO),
    ],
)
def test_most_are_five_of_nine(beating, of, state):
    found = verdicts(*nine(beating, methods=OTHERS[:of]))["1"]
    assert (found.state, found.estimate, found.runs) == (state, beating, 9 * (of + 1))
    assert found.interval == (beating, beating)
    assert f"{beating} of {of} methods have a higher AVG than FullTuning (Random" in found.reason
    absent = f"{9 - of} of the paper's 9 count for neither side"
    assert (absent in found.reason) == (of < 9)


def test_a_method_short_of_runs_counts_for_neither_side():
    short = [r for r in nine(5) if (r.cell.method, r.cell.task, r.cell.seed) != ("random", "cb", 0)]
    found = verdicts(*short, failure("rte", "random", 3, "diverged"))["1"]
    assert (found.state, found.estimate, found.runs) == (OPEN, 4, 81)
    assert "4 of 8 methods" in found.reason and "1 of the paper's 9" in found.reason
    assert "left out" not in found.reason, "nor do its failures"


def test_a_tie_is_not_better_and_not_steadier():
    found = verdicts(*levels(dict.fromkeys(METHODS, 0.6), FLAT))
    assert found["1"].estimate == found["2"].estimate == 0
    assert found["1"].state == found["2"].state == NO


def test_steadier_is_a_smaller_deviation():
    steady = dict.fromkeys(OTHERS, (0.3, FLAT))
    found = verdicts(*levels({"full_tuning": (0.6, (-0.05, 0.05, 0.0)), **steady}))["2"]
    assert found.estimate == 9 and "9 of 9 methods have a smaller AVG std" in found.reason
    # One resample in nine draws one seed thrice on one task, not on all: 1 / 9 ** 3 on three.
    assert found.state == YES and found.share == pytest.approx(1 - 1 / 729, abs=1e-3)


def test_one_run_decides_nothing_and_has_no_deviation():
    one = verdicts(*nine(6, spread=(0.0,)), record("rte", "sam", 1, 0.6))
    assert one["1"].state == OPEN and one["1"].share is one["1"].interval is None
    assert (one["1"].estimate, one["1"].runs) == (6, 31)
    assert "With 1 to 2 runs each: 6 of 9 methods" in one["1"].reason
    assert one["2"].estimate is None and "With" not in one["2"].reason
    assert "With 2 runs each: 0 of 9" in verdicts(*nine(6, spread=(0.0, 0.01)))["2"].reason


# (3)


@pytest.mark.parametrize(
    ("level", "spread", "state", "words"),
    [
        (0.61, LITTLE, YES, "1.00 points above"),
        (0.60, FLAT, NO, "as good as"),
        (0.59, LITTLE, NO, "1.00 points below"),
        (0.61, (-0.2, 0.0, 0.2), OPEN, "1.00 points above"),
    ],
)
def test_random_against_full_tuning(level, spread, state, words):
    found = verdicts(*levels({"full_tuning": 0.6, "random": level}, spread))["3"]
    assert found.state == state and found.estimate == pytest.approx(100 * (level - 0.6), abs=1e-6)
    assert found.interval[0] <= found.estimate <= found.interval[1] and found.runs == 18
    assert f"Random is {words} FullTuning on AVG ({100 * level:.2f} against 60.00)" in found.reason
    assert "parts" not in found.reason and "left out" not in found.reason


@pytest.mark.parametrize(("seeds", "said"), [((3,), "1 run"), ((3, 4), "2 runs")])
def test_runs_without_a_value_are_said_to_be_left_out(seeds, said):
    records = levels({"full_tuning": 0.6, "random": 0.61, "sam": 0.5})
    records += [failure("rte", "random", seed, "diverged") for seed in seeds]
    found = verdicts(*records, failure("rte", "sam", 3, "diverged"))["3"]
    assert found.reason.endswith(f"resamples; {said} without a test value left out.")


# (4)


def ranked(below, methods=tuple(METHODS)[:-1]):
    """SAM with `below` methods above it on each of up to four tasks."""
    tasks = ("cb", "copa", "rte", "wsc")[: len(below)]
    records = runs("sam", 0.6, FLAT, tasks)
    for place, method in enumerate(methods):
        for task, above_it in zip(tasks, below, strict=True):
            records += runs(method, 0.7 if place < above_it else 0.5, FLAT, (task,))
    return records


@pytest.mark.parametrize(
    ("below", "top", "state"),
    [
        ((2, 2, 0, 9), 3, YES),
        ((2, 2, 3, 3), 2, NO),
        ((3, 3, 3), 0, NO),
        ((2, 2, 3), 2, YES),
    ],
)
def test_the_top_three_of_more_than_half_of_the_tasks(below, top, state):
    found = verdicts(*ranked(below))["4"]
    assert (found.state, found.estimate) == (state, top)
    titles = {"CB": 0, "COPA": 1, "RTE": 2, "WSC": 3}
    shown = [*frame_of(*ranked(below)).tasks["title"]]
    ranks = ", ".join(str(below[titles[title]] + 1) for title in shown)
    assert f"in {top} of {len(below)} tasks (ranks {ranks}) among 10 methods" in found.reason


def test_a_rank_needs_all_ten_methods_to_be_good_and_four_to_be_bad():
    four = tuple(METHODS)[:4]
    good, bad = verdicts(*ranked((0, 0, 0), four))["4"], verdicts(*ranked((3, 3, 0), four))["4"]
    assert (good.state, good.share, bad.state, bad.share) == (OPEN, 1, NO, 0)
    assert good.reason.endswith("all 10 of the paper's methods are needed to support it.")
    few = verdicts(*ranked((0, 0, 0), four[:2]))["4"]
    assert few.interval is None and few.reason.startswith("4 methods of Fu et al. 2023 are needed")


def test_methods_with_equal_scores_are_not_the_best_three():
    found = verdicts(*levels(dict.fromkeys(METHODS, 0.6), FLAT))["4"]
    assert (found.state, found.estimate) == (OPEN, 3)
    assert "(ranks 1, 1, 1), 3 of them in a tie that goes beyond place 3, among 10" in found.reason
    worse = dict.fromkeys(OTHERS[:7], 0.5)
    whole = verdicts(*levels({**dict.fromkeys(METHODS, 0.6), **worse}, FLAT))["4"]
    assert whole.state == YES and "tie" not in whole.reason, "full tuning, SAM, a third"


# (5)


@pytest.mark.parametrize(("step", "state", "rho"), [(-0.03, YES, 1), (0.03, NO, -1)])
def test_stability_and_performance_correlate_or_do_not(step, state, rho):
    records = []
    for place, method in enumerate(tuple(METHODS)[:8]):
        wide = 0.0001 * 3**place
        spread = (-wide, 0.0, wide, wide / 2, -wide / 2)
        records += runs(method, 0.5 + step * (place - 4), spread)
    found = verdicts(*records)["5"]
    sign = "" if rho > 0 else "−"
    assert (found.state, found.estimate, found.runs) == (state, rho, 120)
    assert f"Over 8 methods, rho = {sign}1.000 (p = 8.4e-25, 32 pairs)" in found.reason
    assert f"without the AVG column rho = {sign}1.000 (p = 5.4e-18, 24 pairs)" in found.reason


def test_no_correlation_without_spread():
    found = verdicts(*levels(dict.fromkeys(("sam", "lora", "random"), 0.5), FLAT))["5"]
    assert (found.state, found.estimate, found.interval) == (OPEN, None, None)
    assert "rho is not defined" in found.reason


@pytest.mark.parametrize(
    "others",
    [
        # Settings of one method, and methods of other papers, do not count.
        [*grid({0.001: 0.5, 0.01: 0.6, 0.1: 0.7}), *runs("random", 0.5)],
        levels({"sam": 0.6, "fish": 0.5, "frozen": 0.4}),
    ],
)
def test_a_correlation_takes_three_methods_of_the_paper(others):
    few = "3 methods of Fu et al. 2023 are needed, the benchmark has 2."
    assert verdicts(*runs("lora", 0.6), *others)["5"].reason == few


# (6)

PEAK = {0.001: 0.5, 0.005: 0.6, 0.01: 0.62, 0.05: 0.6, 0.1: 0.55}


@pytest.mark.parametrize(
    ("points", "state", "said"),
    [
        (PEAK, YES, "at 5 densities from 0.001 to 0.1 has curvature −"),
        ({d: 1 - level for d, level in PEAK.items()}, NO, ", lowest at 0.0"),
        ({d: 0.9 - 0.02 * (np.log10(d) + 5) ** 2 for d in PEAK}, NO, "highest beyond the grid"),
        ({d: 0.9 - 0.02 * np.log10(d) ** 2 for d in PEAK}, NO, "highest beyond the grid"),
        # A parabola may turn where the scores only bend.
        (
            dict(zip(PEAK, (0.5, 0.48, 0.42, 0.32, 0.18), strict=True)),
            NO,
            "the largest value itself is at 0.001;",
        ),
    ],
)
def test_a_score_that_rises_and_falls(points, state, said):
    found = verdicts(*grid(points))["6b"]
    assert (found.state, found.runs) == (state, 45) and said in found.reason
    assert (found.estimate < 0) == (", lowest" not in said)


def test_a_deviation_that_falls_and_rises():
    wide = {0.001: 0.06, 0.005: 0.02, 0.01: 0.01, 0.05: 0.02, 0.1: 0.06}
    shape = (-1, -0.8, -0.5, 0.5, 0.8, 1)
    found = verdicts(*grid({d: (0.6, tuple(w * x for x in shape)) for d, w in wide.items()}))["6a"]
    assert found.state == YES and found.estimate > 0 and "AVG std" not in found.reason
    assert "the AVG standard deviation at 5 densities" in found.reason


def test_a_curve_needs_four_densities_of_sam():
    three, four = (verdicts(*grid(dict([*PEAK.items()][:n])))["6b"] for n in (3, 4))
    assert three.reason == "4 densities of SAM are needed, the benchmark has 3."
    assert four.interval is not None
    lone = verdicts(*grid(PEAK, (0.0,)))["6b"]
    assert lone.reason.startswith("3 runs on every task are needed, density 0.001 has 1 on RTE (14")


@pytest.mark.parametrize("of", ["std", "mean"])
def test_the_fit_is_numpys(of):
    generator = np.random.default_rng(1)
    densities = ["0.0002", "0.001", "0.02", "0.05", "0.1"]
    mean, std = generator.uniform(40, 60, (40, 5, 2)), generator.uniform(1, 5, (40, 5, 2))
    found = bend(replicates(densities, mean, std), of)
    curve = (std if of == "std" else mean).mean(axis=2)
    sign = 1 if of == "std" else -1
    for line in range(40):
        fit = np.polyfit(np.log10([float(d) for d in densities]), curve[line], 2)
        assert found.estimate[line] == pytest.approx(fit[0], abs=1e-8)
        inside = np.log10(0.0002) < -fit[1] / 2 / fit[0] < -1
        turns = 0 < np.argmin(sign * curve[line]) < 4
        assert found.supports.hold[line] == (inside and sign * fit[0] > 0 and turns)


# (7) and (8)


@pytest.mark.parametrize(
    ("means", "holds"),
    [((80, 80, 79), True), ((80, 79, 79), False), ((79, 80, 78), False), ((81, 80, 79), True)],
)
def test_the_order_of_stochastic_tuning(means, holds):
    names = ("stochastic_tuning", "top_tuning", "full_tuning")
    found = claim("7").finding(averages(**dict(zip(names, means, strict=True))))
    assert (found.supports.hold[0], found.refutes.hold[0]) == (holds, not holds)
    assert found.estimate[0] == min(means[0] - means[1], means[1] - means[2])


@pytest.mark.parametrize(("mean", "holds"), [(82.0, False), (82.01, True), (70, False)])
def test_more_than_two_points_above_bitfit(mean, holds):
    found = claim("8").finding(averages(stochastic_tuning=mean, bitfit=80.0))
    assert (found.supports.hold[0], found.refutes.hold[0]) == (holds, not holds)


LEVELS = {
    **{"full_tuning": 0.7, "frozen": 0.5, "random_per_step": 0.6, "dps_mix": 0.71},
    **{"multi_head": 0.7, "bitfit": 0.69, "top_tuning": 0.72, "stochastic_tuning": 0.73},
}
SIX = ("cola", "sst", "mrpc", "stsb", "qnli", "rte")


@pytest.mark.parametrize(
    ("changes", "seven", "eight"),
    [
        ({}, YES, YES),
        ({"stochastic_tuning": 0.71}, NO, OPEN),
        ({"top_tuning": 0.69}, NO, YES),
        ({"bitfit": 0.72}, YES, NO),
    ],
)
def test_the_second_papers_benchmark_decides_its_own_claims(changes, seven, eight):
    found = verdicts(*levels({**LEVELS, **changes}, tasks=SIX))
    assert (found["7"].state, found["8"].state) == (seven, eight)
    assert found["7"].runs == 54 and "not among" not in found["7"].reason
    # Random per step is not the paper's Random.
    assert found["3"].reason == "No row stands for Random."


# The tasks of the papers.

LIKE = {"task": {"name": "my_rte", "like": "rte", "metric": "acc"}}
OWN = levels(LEVELS, tasks=("my_rte",), setting=LIKE)


def test_claims_of_a_paper_without_any_of_its_tasks_are_left_out():
    first, second = ["1", "2", "3", "4", "5", "6a", "6b"], ["7", "8"]
    assert [*verdicts(*OWN)] == []
    for tasks, numbers in (
        (("cb",), first),
        (("sst",), second),
        (("rte",), first + second),
        (("cb", "qnli"), first + second),
    ):
        assert [*verdicts(*OWN, *runs("sam", 0.6, tasks=tasks))] == numbers


# What the papers' own tables say.


def test_the_published_tables_on_the_claims():
    said = {claim.number: claim.published for claim in CLAIMS}
    assert [*said] == ["1", "2", "3", "4", "5", "6a", "6b", "7", "8"]
    assert said["1"] == (
        "Table 1: 5 of 9 (MixOut, Adapter, LoRA, ChildPruning, SAM); "
        "Table 2: 5 of 9 (Random, MixOut, Adapter, LoRA, SAM)"
    )
    assert said["2"].startswith("Table 1: 6 of 9 (Random, Bitfit, MagPruning, Adapter, LoRA, SAM)")
    assert said["3"] == "Table 1: −0.23 points; Table 2: +0.02 points"
    assert said["4"] == "Table 1: top 3 in 5 of 7 tasks; Table 2: top 3 in 5 of 7 tasks"
    assert said["5"] == (
        "printed: rho = 0.4356 (p = 0.000014); its Tables 1 and 2 give rho = 0.418 "
        "(p = 3.8e-08, 160 pairs)"
    )
    assert said["6a"] == "Fig. 5: curvature +0.24, lowest at 0.011"
    assert said["6b"] == "Fig. 5: curvature −0.71, highest at 0.0066"
    for found in (bend(figure5(), "std"), bend(figure5(), "mean"), go_together(table(1))):
        assert found.supports.hold[0]
    assert [majority(table(1), of).estimate[0] for of in ("mean", "std")] == [5, 6]
    assert in_the_top(table(1)).told == (
        "SAM is in the top 3 in 5 of 7 tasks (ranks 2, 1, 4, 4, 2, 1, 1) among 10 methods"
    )


# The table.
