"""Whether each of the papers' claims holds in given scores, line by line, and in which numbers.

All functions take `Replicates` whose names are keys of methods (densities for claim 6), so that
the same code judges the records, their resamples and the published tables.
"""

from collections.abc import Callable, Sequence
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
    """Statements; `needed` of them must be true. true: (lines, statements) bool."""

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


def majority(scores: Replicates, of: str) -> Finding:
    """Claims 1 and 2: at least five of the nine other methods are better than full tuning.

    of: "mean", a higher AVG, or "std", a smaller AVG of standard deviations.
    """
    average = scores.mean[..., -1] if of == "mean" else -scores.std[..., -1]
    what = "a higher AVG" if of == "mean" else "a smaller AVG std"
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
    methods = len(scores.names)
    tasks = [ranks[0].reshape(methods, -1)[:, :-1].ravel() for ranks in (x, y)]
    whole, without = correlation(spearman(x[0], y[0])), correlation(spearman(*tasks))
    told = f"over {methods} methods, {whole}; without the AVG column {without}"
    supports, refutes = Statements((rho > 0)[:, None]), Statements((rho <= 0)[:, None])
    return Finding(supports, refutes, rho, whole, told)


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


def bend(scores: Replicates, of: str) -> Finding:
    """Claim 6: as SAM's density falls, its deviation falls and then rises, its score the reverse.

    Fits a parabola in log10(density) to AVG; densities ascend. of: "std" or "mean". The claim holds
    if the parabola opens upwards (std) or downwards (mean), its vertex lies between the end points,
    and an inner density is beyond both ends, since a parabola may turn where a curve only bends.
    """
    densities = scores.names
    sign, curve = (1, scores.std[..., -1]) if of == "std" else (-1, scores.mean[..., -1])
    what = "standard deviation" if of == "std" else "score"
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
    true = np.column_stack([inside, turns, sign * curvature > 0])
    return Finding(Statements(true, 3), Statements(~true), curvature, brief, told)


# One method, how its AVG must compare, another method, and by how many points.
Step = tuple[str, Callable[[np.ndarray, float], np.ndarray], str, float]


def ahead(scores: Replicates, steps: Sequence[Step]) -> Finding:
    """Claims 3, 7 and 8: the AVG of one method is above that of another, in every step."""
    true, apart, told = [], [], []
    for one, holds, other, margin in steps:
        points = np.round(scores.average(one) - scores.average(other), DECIMALS)
        true.append(holds(points, margin))
        apart.append(points)
        means = " against ".join(fixed(scores.average(key)[0], 2) for key in (one, other))
        how = "above" if points[0] > 0 else "below"
        how = f"{fixed(abs(points[0]), 2)} points {how}" if points[0] else "as good as"
        told.append(f"{title(one)} is {how} {title(other)} on AVG ({means})")
    parts = np.column_stack(true)
    return Finding(
        Statements(parts, len(steps)),
        Statements(~parts),
        np.min(apart, axis=0),
        f"{' and '.join(signed(points[0], 2) for points in apart)} points",
        "; ".join(told),
    )
