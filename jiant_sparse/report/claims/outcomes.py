"""The papers' claims as figures: does each hold in these scores, line by line?

Every function takes `Scores` whose names are method keys (densities for the shape of a curve), so
that the same code judges the records, their resamples and the published tables.
"""

from dataclasses import dataclass

import numpy as np

from jiant_sparse.report import stochastic
from jiant_sparse.report.claims.bootstrap import DECIMALS, Scores
from jiant_sparse.report.numbers import fixed, signed
from jiant_sparse.report.published import METHODS
from jiant_sparse.report.statistics import Correlation, rank_correlation, spearman

BASE = "full_tuning"
OURS = "sam"
# The paper's methods besides full fine-tuning: nine, of which most are five.
OTHERS = tuple(key for key in METHODS if key != BASE)
MOST = len(OTHERS) // 2 + 1
TOP = 3
STOCHASTIC, TOP_TUNING, BITFIT = "stochastic_tuning", "top_tuning", "bitfit"
MARGIN = 2.0
TITLES = {**stochastic.METHODS, **METHODS}


@dataclass(frozen=True, eq=False)
class Parts:
    """Statements of which `needed` settle a claim. lines: (lines, statements) bool."""

    lines: np.ndarray
    needed: int

    def sure(self, chance: float) -> bool:
        """Whether so many are each true in all resamples but a share of `chance`, divided by the
        statements that may be wrong (Benjamini and Heller 2008): of five doubtful statements one
        is nearly always true in a resample, and that is no evidence for any."""
        count = self.lines.shape[1]
        allowed = chance / max(1, count - self.needed + 1)
        # Counted, not averaged: a share at the border must not hang on a rounding.
        wrong = (~self.lines[1:]).sum(axis=0)
        return (wrong <= allowed * (len(self.lines) - 1) + 1e-9).sum() >= self.needed


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a claim, line by line of the scores (line 0 as measured).

    holds, fails: (lines,) bool; both are False where the methods at hand do not settle it.
    pro, contra: what it takes to hold or to fail, where that is several statements.
    estimate: (lines,), the figure that decides; NaN where it is not defined.
    brief: line 0 in a few words; told: in a sentence without a full stop.
    open: what keeps it from being supported, whatever the numbers; empty if nothing.
    """

    holds: np.ndarray
    fails: np.ndarray
    estimate: np.ndarray
    brief: str
    told: str
    open: str = ""
    pro: Parts | None = None
    contra: Parts | None = None


def title(key: str) -> str:
    """A method's name as its paper writes it."""
    return TITLES.get(key, key)


def most_beat(scores: Scores) -> Outcome:
    """Claim 1: at least five of the nine other methods have a larger AVG than full tuning."""
    base = scores.average(BASE)[:, None]
    others = scores.without(BASE)
    beat = scores.average_mean[:, others] > base
    return _majority(scores, others, beat, "a higher AVG")


def most_steadier(scores: Scores) -> Outcome:
    """Claim 2: at least five of the nine have a smaller AVG of standard deviations."""
    others = scores.without(BASE)
    base = scores.average_std[:, [scores.names.index(BASE)]]
    beat = scores.average_std[:, others] < base
    return _majority(scores, others, beat, "a smaller AVG std")


def _majority(scores: Scores, others: list[int], beat: np.ndarray, what: str) -> Outcome:
    count = beat.sum(axis=1)
    names = [title(scores.names[place]) for place, one in zip(others, beat[0], strict=True) if one]
    listed = f" ({', '.join(names)})" if names else ""
    brief = f"{count[0]} of {len(others)}"
    told = f"{brief} methods have {what} than {title(BASE)}{listed}"
    absent = len(OTHERS) - len(others)
    if absent:
        told += f"; {absent} of the paper's {len(OTHERS)} count for neither side"
    return Outcome(
        *(count >= MOST, len(others) - count >= MOST, count.astype(float)),
        *(f"{brief}{listed}", told),
        pro=Parts(beat, MOST),
        contra=Parts(~beat, MOST),
    )


def random_beats(scores: Scores) -> Outcome:
    """Claim 3: a random mask has a larger AVG than full tuning."""
    apart = _apart(scores, "random", BASE)
    told = _against(scores, "random", BASE, apart)
    return Outcome(apart > 0, apart <= 0, apart, f"{signed(apart[0], 2)} points", told)


def in_the_top(scores: Scores) -> Outcome:
    """Claim 4: SAM is among the best three of the paper's methods in more than half of the tasks.

    A rank can only fall with more methods, so that without all ten it may fail but not hold. A tie
    across the third place is neither: methods that all give one answer are not the best three.
    """
    ours = scores.mean[:, [scores.names.index(OURS)]]
    ranks = 1 + (scores.mean > ours).sum(axis=1)
    high, low = (scores.mean >= ours).sum(axis=1) <= TOP, ranks > TOP
    count, tasks = (ranks <= TOP).sum(axis=1), ranks.shape[1]
    most = tasks // 2 + 1
    brief = f"top {TOP} in {count[0]} of {tasks} tasks"
    told = f"{title(OURS)} is in the {brief} (ranks {', '.join(map(str, ranks[0]))})"
    shared = int((~high[0] & ~low[0]).sum())
    if shared:
        told += f", {shared} of them in a tie that goes beyond place {TOP},"
    few = len(scores.names) < len(METHODS)
    told += f" among {len(scores.names)} methods"
    lacking = f"all {len(METHODS)} of the paper's methods are needed to support it" if few else ""
    return Outcome(
        *(high.sum(axis=1) >= most, low.sum(axis=1) > tasks - most, count.astype(float)),
        *(brief, told, lacking),
        pro=Parts(high, most),
        contra=Parts(low, tasks - most + 1),
    )


def go_together(scores: Scores) -> Outcome:
    """Claim 5: Spearman's rho of stability and performance ranks is above 0.

    As in Fig. 4: a pair for each method and column, ranked in its column, AVG being a column.
    """
    pairs = rank_pairs(scores)
    rho = np.round(rank_correlation(*pairs), DECIMALS)
    whole = spearman(pairs[0][0], pairs[1][0])
    tasks = scores.mean.shape[2]
    alone = [ranks[0].reshape(-1, tasks + 1)[:, :tasks].ravel() for ranks in pairs]
    told = f"over {len(scores.names)} methods, {correlation(whole)}"
    told += f"; without the AVG column {correlation(spearman(*alone))}"
    return Outcome(rho > 0, rho <= 0, rho, correlation(whole), told)


def rank_pairs(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Stability and performance ranks, 1 = smallest deviation or highest mean, ties the smaller.

    Each (lines, methods * (tasks + 1)): method by method, its tasks and then AVG.
    """
    deviation = np.concatenate([scores.std, scores.average_std[:, :, None]], axis=2)
    mean = np.concatenate([scores.mean, scores.average_mean[:, :, None]], axis=2)
    return _ranks(deviation), _ranks(-mean)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along axis 1 of (lines, methods, columns), 1 = smallest, flat in each line."""
    ranks = np.ones(values.shape)
    for place in range(values.shape[1]):
        ranks += values[:, [place]] < values
    return ranks.reshape(len(values), -1)


def correlation(found: Correlation | None) -> str:
    """rho and p in words; p is of pairs taken for independent."""
    if found is None:
        return "rho is not defined"
    return f"rho = {fixed(found.rho, 3)} (p = {found.p:.2g}, {found.n} pairs)"


def deviation_dips(scores: Scores) -> Outcome:
    """Claim 6, stability: as the density falls, the standard deviation falls and then rises."""
    return _bend(scores, scores.average_std, "standard deviation", 1)


def mean_peaks(scores: Scores) -> Outcome:
    """Claim 6, performance: as the density falls, the score rises (the error falls), then falls."""
    return _bend(scores, scores.average_mean, "score", -1)


def _bend(scores: Scores, curve: np.ndarray, what: str, sign: int) -> Outcome:
    """A parabola in log10(density): curvature of `sign`, vertex between the end points; and an
    inner density that is beyond both ends, since a parabola may also turn where a curve only bends.

    curve: (lines, densities), AVG by density; the names of the scores are the densities.
    """
    place = np.log10([float(name) for name in scores.names])
    middle = place.mean()
    constant, slope, curvature = np.linalg.pinv(np.vander(place - middle, 3, True)) @ curve.T
    slope, curvature = np.round(slope, DECIMALS), np.round(curvature, DECIMALS)
    vertex = np.full(len(curve), np.nan)
    np.divide(-slope, 2 * curvature, out=vertex, where=curvature != 0)
    inside = (vertex > place.min() - middle) & (vertex < place.max() - middle)
    ends, inner = sign * curve[:, [0, -1]], sign * curve[:, 1:-1]
    turns = inner.min(axis=1) < ends.min(axis=1)
    parts = np.column_stack([inside, turns, sign * curvature > 0])
    brief = f"curvature {signed(curvature[0], 2)}"
    if not np.isnan(vertex[0]):
        kind = "lowest" if curvature[0] > 0 else "highest"
        # Far outside the grid, 10 to the power of the vertex would say nothing.
        where = f"at {10 ** (vertex[0] + middle):.2g}" if inside[0] else "beyond the grid"
        brief += f", {kind} {where}"
    best = scores.names[int((sign * curve[0]).argmin())]
    told = (
        f"a parabola through the AVG {what} at {len(place)} densities from {scores.names[0]} to "
        f"{scores.names[-1]} has {brief}; the {'smallest' if sign > 0 else 'largest'} value itself "
        f"is at {best}"
    )
    return _all_of(parts, curvature, brief, told)


def _all_of(parts: np.ndarray, estimate: np.ndarray, brief: str, told: str) -> Outcome:
    """A claim of several statements. parts: (lines, statements)."""
    holds, width = parts.all(axis=1), parts.shape[1]
    return Outcome(
        *(holds, ~holds, estimate, brief, told), pro=Parts(parts, width), contra=Parts(~parts, 1)
    )


def stochastic_order(scores: Scores) -> Outcome:
    """Claim 7: AVG of Stochastic Tuning >= Top Tuning > full tuning."""
    first, second = _apart(scores, STOCHASTIC, TOP_TUNING), _apart(scores, TOP_TUNING, BASE)
    told = (
        f"{_against(scores, STOCHASTIC, TOP_TUNING, first)}; "
        f"{_against(scores, TOP_TUNING, BASE, second)}"
    )
    brief = f"{signed(first[0], 2)} and {signed(second[0], 2)} points"
    parts = np.column_stack([first >= 0, second > 0])
    return _all_of(parts, np.minimum(first, second), brief, told)


def stochastic_margin(scores: Scores) -> Outcome:
    """Claim 8: Stochastic Tuning is more than two points of AVG above BitFit."""
    apart = _apart(scores, STOCHASTIC, BITFIT)
    told = _against(scores, STOCHASTIC, BITFIT, apart)
    return Outcome(apart > MARGIN, apart <= MARGIN, apart, f"{signed(apart[0], 2)} points", told)


def _apart(scores: Scores, one: str, other: str) -> np.ndarray:
    return np.round(scores.average(one) - scores.average(other), DECIMALS)


def _against(scores: Scores, one: str, other: str, apart: np.ndarray) -> str:
    means = [fixed(scores.average(key)[0], 2) for key in (one, other)]
    how = "as good as" if apart[0] == 0 else "above" if apart[0] > 0 else "below"
    points = f"{fixed(abs(apart[0]), 2)} points " if apart[0] else ""
    return f"{title(one)} is {points}{how} {title(other)} on AVG ({means[0]} against {means[1]})"
