"""Two-sample tests, multiplicity, effect size and rank correlation, from values or from moments.

A test is two-sided and is refused, not guessed, where there are too few values or none vary.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

import numpy as np

# scipy.stats would cost more than half a second to import, and uses this function itself.
from scipy.special import stdtr

# A test needs at least so many values on each side.
MINIMUM_RUNS = 3
# Two-sided; what lies below it is called different.
LEVEL = 0.05
# A correlation needs at least so many pairs.
MINIMUM_PAIRS = 3
# Up to so many pairs, the p of a correlation is counted over all orders: 40,320 take 30 ms.
MOST_COUNTED = 8


@dataclass(frozen=True)
class Sample:
    """n values by their mean and their variance with n - 1 degrees of freedom."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample | None":
        """The sample of `values`; None below two, which have no variance."""
        return cls(len(values), fmean(values), variance(values)) if len(values) > 1 else None

    @classmethod
    def published(cls, mean: float, std: float, n: int = 10) -> "Sample":
        """The sample behind a printed mean and population standard deviation of n >= 2 values."""
        return cls(n, mean, std**2 * n / (n - 1))

    @property
    def uncertainty(self) -> float:
        """The squared standard error of the mean."""
        return self.variance / self.n


@dataclass(frozen=True)
class Test:
    """A t statistic, its two-sided p in [0, 1] and its degrees of freedom."""

    # So that pytest does not take it for a class of tests.
    __test__ = False

    t: float
    p: float
    df: float

    @classmethod
    def of(cls, t: float, df: float) -> "Test":
        """The test with this statistic."""
        return cls(t, two_sided(t, df), df)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho in [-1, 1] over n pairs, and the two-sided p of H0: no association.

    p takes the pairs for independent of each other.
    """

    rho: float
    p: float
    n: int


def two_sided(t: float, df: float) -> float:
    """The probability that |T| >= |t| for Student's T with df > 0 degrees of freedom."""
    return min(1.0, 2 * float(stdtr(df, -abs(t))))


def pooled(a: Sample | None, b: Sample | None) -> Test | None:
    """Student's t-test of mean a minus mean b, equal variances supposed: the published one.

    None if either is None or has fewer than MINIMUM_RUNS values, or if neither varies.
    """
    if not _testable(a, b):
        return None
    df = a.n + b.n - 2
    error = _pooled_variance(a, b) * (1 / a.n + 1 / b.n)
    return Test.of((a.mean - b.mean) / math.sqrt(error), df)


def welch(a: Sample | None, b: Sample | None) -> Test | None:
    """Welch's t-test of mean a minus mean b, which lets the variances differ.

    None if either is None or has fewer than MINIMUM_RUNS values, or if neither varies.
    """
    return welch_contrast(((1.0, a), (-1.0, b)))


def welch_contrast(parts: Sequence[tuple[float, Sample | None]]) -> Test | None:
    """The test of H0: the sum of coefficient * mean is 0, for (coefficient, sample) pairs.

    Variances may differ; degrees of freedom by Satterthwaite 1946. With k tasks on each side and
    coefficients 1/k and -1/k it compares two AVGs. None as for `welch`, over all samples.
    """
    if not parts or not _testable(*(sample for _, sample in parts)):
        return None
    errors = [coefficient**2 * sample.uncertainty for coefficient, sample in parts]
    error = math.fsum(errors)
    if error == 0:
        return None
    # Each is divided first: the square of a tiny error would underflow.
    freedom = math.fsum(
        (part / error) ** 2 / (sample.n - 1)
        for part, (_, sample) in zip(errors, parts, strict=True)
    )
    contrast = math.fsum(coefficient * sample.mean for coefficient, sample in parts)
    return Test.of(contrast / math.sqrt(error), 1 / freedom)


def hedges_g(a: Sample | None, b: Sample | None) -> float | None:
    """Mean a minus mean b in pooled standard deviations, corrected for small n.

    The correction is 1 - 3 / (4 df - 1) (Hedges 1981). None as for `pooled`.
    """
    if not _testable(a, b):
        return None
    df = a.n + b.n - 2
    return (1 - 3 / (4 * df - 1)) * (a.mean - b.mean) / math.sqrt(_pooled_variance(a, b))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) corrected p, in the order given; None stays None and is not of the family."""
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for step, (p, place) in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - step) * p))
        corrected[place] = floor
    return corrected


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's rank correlation of the pairs; equal values share their mean rank.

    p is exact up to MOST_COUNTED pairs and where |rho| is 1: the share of all orders of y with at
    least this |rho|. Else it is by Student's t with n - 2 degrees of freedom. None below
    MINIMUM_PAIRS pairs, or if x or y is constant. Raises ValueError if x and y differ in length.
    """
    if len(x) != len(y):
        raise ValueError(f"spearman: {len(x)} and {len(y)} values; x and y must be of equal length")
    if len(x) < MINIMUM_PAIRS:
        return None
    rho = float(rank_correlation(np.asarray(x, float)[None], np.asarray(y, float)[None])[0])
    if math.isnan(rho):
        return None
    n = len(x)
    if n <= MOST_COUNTED:
        p = _counted(x, y, rho)
    elif abs(rho) == 1:
        p = _perfect(y)
    else:
        p = two_sided(rho * math.sqrt((n - 2) / (1 - rho**2)), n - 2)
    return Correlation(rho, p, n)


def _counted(x: Sequence[float], y: Sequence[float], rho: float) -> float:
    """The share of all orders of y whose |rho| is at least this one's."""
    orders = np.array([*itertools.permutations(y)], float)
    found = rank_correlation(np.broadcast_to(np.asarray(x, float), orders.shape), orders)
    return float(np.mean(np.abs(found) >= abs(rho) - 1e-9))


def _perfect(y: Sequence[float]) -> float:
    """The share of all orders of y that agree wholly with one of them, rising or falling."""
    ties = [count for _, count in sorted(Counter(y).items())]
    # Turned round, it is an order of the same ranks only if the ties lie alike from both ends.
    directions = 2 if ties == ties[::-1] else 1
    return directions * math.prod(map(math.factorial, ties)) / math.factorial(len(y))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of each line. x, y: (lines, pairs). Returns (lines,); NaN if constant."""
    a, b = (_mean_ranks(values) - (values.shape[1] + 1) / 2 for values in (x, y))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    rho = np.full(len(x), np.nan)
    np.divide((a * b).sum(axis=1), scale, out=rho, where=scale > 0)
    # The last bit may lie outside; ranks that agree wholly must give exactly 1.
    rho[np.abs(rho) > 1 - 1e-12] = np.sign(rho[np.abs(rho) > 1 - 1e-12])
    return rho


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 along each line; equal values share the mean of theirs."""
    lines, width = values.shape
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    new = np.ones((lines, width), dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    # Runs of equal values, numbered through all lines: no run crosses from one to the next.
    run = np.cumsum(new.ravel()) - 1
    places = np.tile(np.arange(1.0, width + 1), lines)
    shared = (np.bincount(run, weights=places) / np.bincount(run))[run].reshape(lines, width)
    ranks = np.empty_like(shared)
    np.put_along_axis(ranks, order, shared, axis=1)
    return ranks


def _testable(*samples: Sample | None) -> bool:
    known = [sample for sample in samples if sample is not None and sample.n >= MINIMUM_RUNS]
    return len(known) == len(samples) and any(sample.variance > 0 for sample in known)


def _pooled_variance(a: Sample, b: Sample) -> float:
    return ((a.n - 1) * a.variance + (b.n - 1) * b.variance) / (a.n + b.n - 2)
