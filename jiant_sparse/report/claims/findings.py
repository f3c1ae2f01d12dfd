"""Whether each of the papers' claims holds in given scores, line by line, and in which numbers.

All functions take `Replicates` whose names are keys of methods (densities for claim 6), so that
the same code judges the records, their resamples and the published tables.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from jiant_sparse.report import published
from jiant_sparse.report.claims.bootstrap import DECIMALS, Replicates
from jiant_sparse.report.numbers import fixed, signed
from jiant_sparse.report.published import METHODS
from jiant_sparse.report.statistics import Correlation, rank_correlation, spearman

# The share of the resamples that is nearly all of them.
SURE = 0.975
BASE, OURS = "full_tuning", "sam"
# The nine methods of the paper besides full fine-tuning; five of them are most.
OTHERS = tuple(key for key in METHODS if key != BASE)
MOST = len(OTHERS) // 2 + 1
TOP = 3
STOCHASTIC, TOP_TUNING, BITFIT = "stochastic_tuning", "top_tuning", "bitfit"
TITLES = {**published.STOCHASTIC_METHODS, **METHODS}


@dataclass(frozen=True, eq=False)
class Statements:
    """Statements of which `needed` must be true. true: (lines, statements) bool."""

    true: np.ndarray
    needed: int = 1

    @property
    def hold(self) -> np.ndarray:
        """Whether enough statements are true. Returns (lines,) bool."""
        return self.true.sum(axis=1) >= self.needed

    @property
    def usual(self) -> bool:
        """Whether enough statements are true in the data and in nearly all resamples."""
        return bool(self.hold[0] and self.hold[1:].mean() >= SURE)

    @property
    def sure(self) -> bool:
        """Whether `needed` statements are each true in nearly all resamples.

        A statement may be false in a share of 1 - SURE, divided by the number of statements that
        may be wrong plus one (Benjamini and Heller 2008): of five doubtful statements one is true
        in nearly every resample, which is no evidence for any of them.
        """
        allowed = (1 - SURE) / max(1, self.true.shape[1] - self.needed + 1)
        # Counted, not averaged: a share at the border must not depend on a rounding.
        false = (~self.true[1:]).sum(axis=0)
        return bool((false <= allowed * (len(self.true) - 1) + 1e-9).sum() >= self.needed)


@dataclass(frozen=True, eq=False)
class Finding:
    """What scores say about a claim, line by line.

    supports, refutes: what must be true for the claim to hold, and to fail. A line may do neither.
    estimate: (lines,), the number that decides; NaN where it is undefined.
    brief: line 0 in a few words. told: line 0 as a sentence without a full stop.
    open: what keeps the claim from being supported, whatever the numbers; empty if nothing does.
    """

    supports: Statements
    refutes: Statements
    estimate: np.ndarray
    brief: str
    told: str
    open: str = ""


def title(key: str) -> str:
    """A method's name as its paper writes it."""
    return TITLES.get(key, key)


def most_beat(scores: Replicates) -> Finding:
    """Claim 1: at least five of the nine other methods have a higher AVG than full tuning."""
    return _majority(scores, scores.mean[..., -1], "a higher AVG")


def most_steadier(scores: Replicates) -> Finding:
    """Claim 2: at least five of the nine have a smaller AVG of standard deviations."""
    return _majority(scores, -scores.std[..., -1], "a smaller AVG std")


def _majority(scores: Replicates, average: np.ndarray, what: str) -> Finding:
    """Count the methods with a larger `average`, (lines, methods), than full tuning."""
    base = scores.names.index(BASE)
    others = [name for name in scores.names if name != BASE]
    beat = np.delete(average > average[:, [base]], base, axis=1)
    count = beat.sum(axis=1)
    names = ", ".join(title(name) for name, one in zip(others, beat[0], strict=True) if one)
    listed = f" ({names})" if names else ""
    brief = f"{count[0]} of {len(others)}"
    told = f"{brief} methods have {what} than {title(BASE)}{listed}"
    if absent := len(OTHERS) - len(others):
        told += f"; {absent} of the paper's {len(OTHERS)} count for neither side"
    supports, refutes = Statements(beat, MOST), Statements(~beat, MOST)
    return Finding(supports, refutes, count.astype(float), f"{brief}{listed}", told)


def in_the_top(scores: Replicates) -> Finding:
    """Claim 4: SAM is among the best three of the paper's methods in more than half of the tasks.

    More methods can only lower a rank: without all ten methods the claim may fail but not hold. A
    tie across the third place is neither: methods with equal scores are not the best three.
    """
    means = scores.mean[..., :-1]
    ours = means[:, [scores.names.index(OURS)]]
    ranks = 1 + (means > ours).sum(axis=1)
    high, low = (means >= ours).sum(axis=1) <= TOP, ranks > TOP
    count, tasks = (ranks <= TOP).sum(axis=1), ranks.shape[1]
    brief = f"top {TOP} in {count[0]} of {tasks} tasks"
    told = f"{title(OURS)} is in the {brief} (ranks {', '.join(map(str, ranks[0]))})"
    if tied := int((~high[0] & ~low[0]).sum()):
        told += f", {tied} of them in a tie that goes beyond place {TOP},"
    told += f" among {len(scores.names)} methods"
    whole = len(scores.names) == len(METHODS)
    lacking = "" if whole else f"all {len(METHODS)} of the paper's methods are needed to support it"
    most = tasks // 2 + 1
    supports, refutes = Statements(high, most), Statements(low, tasks - most + 1)
    return Finding(supports, refutes, count.astype(float), brief, told, lacking)


def go_together(scores: Replicates) -> Finding:
    """Claim 5: Spearman's rho of stability and performance ranks is above 0.

    As in Fig. 4: a pair for each method and column, ranked in its column; AVG is a column.
    """
    x, y = rank_pairs(scores)
    rho = np.round(rank_correlation(x, y), DECIMALS)
    task = np.tile(np.arange(scores.mean.shape[2]) < scores.mean.shape[2] - 1, len(scores.names))
    whole = correlation(spearman(x[0], y[0]))
    told = f"over {len(scores.names)} methods, {whole}"
    told += f"; without the AVG column {correlation(spearman(x[0, task], y[0, task]))}"
    return Finding(_one(rho > 0), _one(rho <= 0), rho, whole, told)


def rank_pairs(scores: Replicates) -> tuple[np.ndarray, np.ndarray]:
    """Ranks in each column, 1 = smallest deviation and 1 = highest mean; ties share the smaller.

    Returns two arrays (lines, methods * (tasks + 1)): method by method, its tasks and then AVG.
    """
    ranks = (rankdata(values, "min", axis=1) for values in (scores.std, -scores.mean))
    stability, performance = (values.reshape(len(values), -1) for values in ranks)
    return stability, performance


def correlation(found: Correlation | None) -> str:
    """rho and p in words."""
    if found is None:
        return "rho is not defined"
    return f"rho = {fixed(found.rho, 3)} (p = {found.p:.2g}, {found.n} pairs)"


def deviation_dips(scores: Replicates) -> Finding:
    """Claim 6, stability: as the density falls, the standard deviation falls and then rises."""
    return _bend(scores.names, scores.std[..., -1], "standard deviation", 1)


def mean_peaks(scores: Replicates) -> Finding:
    """Claim 6, performance: as the density falls, the score rises (the error falls), then falls."""
    return _bend(scores.names, scores.mean[..., -1], "score", -1)


def _bend(densities: tuple[str, ...], curve: np.ndarray, what: str, sign: int) -> Finding:
    """Fit a parabola in log10(density) to AVG. curve: (lines, densities), densities ascending.

    The claim: its curvature has `sign`, its vertex lies between the end points, and an inner
    density is beyond both ends, since a parabola may also turn where a curve only bends.
    """
    place = np.log10([float(density) for density in densities])
    middle = place.mean()
    fit = np.polynomial.polynomial.polyfit(place - middle, curve.T, 2)
    _, slope, curvature = np.round(fit, DECIMALS)
    vertex = np.full(len(curve), np.nan)
    np.divide(-slope, 2 * curvature, out=vertex, where=curvature != 0)
    inside = (vertex > place[0] - middle) & (vertex < place[-1] - middle)
    ends, inner = sign * curve[:, [0, -1]], sign * curve[:, 1:-1]
    turns = inner.min(axis=1) < ends.min(axis=1)
    brief = f"curvature {signed(curvature[0], 2)}"
    if not np.isnan(vertex[0]):
        kind = "lowest" if curvature[0] > 0 else "highest"
        # Far outside the grid, 10 to the power of the vertex would say nothing.
        where = f"at {10 ** (vertex[0] + middle):.2g}" if inside[0] else "beyond the grid"
        brief += f", {kind} {where}"
    told = (
        f"a parabola through the AVG {what} at {len(place)} densities from {densities[0]} to "
        f"{densities[-1]} has {brief}; the {'smallest' if sign > 0 else 'largest'} value itself "
        f"is at {densities[(sign * curve[0]).argmin()]}"
    )
    return _all_of([inside, turns, sign * curvature > 0], curvature, brief, told)


def above(scores: Replicates, one: str, other: str, margin: float = 0.0) -> Finding:
    """Claims 3 and 8: one method's AVG is more than `margin` points above another's."""
    apart, told = _apart(scores, one, other)
    brief = f"{signed(apart[0], 2)} points"
    return Finding(_one(apart > margin), _one(apart <= margin), apart, brief, told)


def stochastic_order(scores: Replicates) -> Finding:
    """Claim 7: AVG of Stochastic Tuning >= Top Tuning > full tuning."""
    first, told = _apart(scores, STOCHASTIC, TOP_TUNING)
    second, also_told = _apart(scores, TOP_TUNING, BASE)
    brief = f"{signed(first[0], 2)} and {signed(second[0], 2)} points"
    steps = [first >= 0, second > 0]
    return _all_of(steps, np.minimum(first, second), brief, f"{told}; {also_told}")


def _one(true: np.ndarray) -> Statements:
    return Statements(true[:, None])


def _all_of(parts: list[np.ndarray], estimate: np.ndarray, brief: str, told: str) -> Finding:
    """A claim whose parts, (lines,) bool each, must all be true."""
    true = np.column_stack(parts)
    return Finding(Statements(true, len(parts)), Statements(~true), estimate, brief, told)


def _apart(scores: Replicates, one: str, other: str) -> tuple[np.ndarray, str]:
    """How many points of AVG one method is above another, (lines,), and line 0 in words."""
    apart = np.round(scores.average(one) - scores.average(other), DECIMALS)
    means = " against ".join(fixed(scores.average(key)[0], 2) for key in (one, other))
    how = "as good as" if apart[0] == 0 else "above" if apart[0] > 0 else "below"
    points = f"{fixed(abs(apart[0]), 2)} points " if apart[0] else ""
    return apart, f"{title(one)} is {points}{how} {title(other)} on AVG ({means})"
