"""Two-sample tests, effect size, Holm's correction and rank correlation, by SciPy.

Tests are two-sided. The test of too few values, or of values that do not vary, is None.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, variance
from typing import NamedTuple

import numpy as np
from scipy import stats

# The least number of values on each side of a test.
MINIMUM_RUNS = 3
# The significance level of a two-sided test.
LEVEL = 0.05
# The least number of pairs of a correlation.
MINIMUM_PAIRS = 3
# Up to this number of pairs, p is exact: 8! = 40,320 orders take 30 ms.
MOST_COUNTED = 8


class Sample(NamedTuple):
    """The size, the mean and the variance (with n - 1 degrees of freedom) of n values."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Sample | None":
        """Summarise `values`; None for fewer than two values, which have no variance."""
        return cls(len(values), fmean(values), variance(values)) if len(values) > 1 else None

    @classmethod
    def published(cls, mean: float, std: float, n: int = 10) -> "Sample":
        """Recover the sample behind a printed mean and population deviation of n >= 2 values."""
        return cls(n, mean, std**2 * n / (n - 1))


class Test(NamedTuple):
    """A t statistic, its degrees of freedom and its two-sided p in [0, 1]."""

    t: float
    df: float
    p: float

    @staticmethod
    def fields(test: "Test | None") -> dict[str, float | None]:
        """Its numbers by name; None for each if there is no test."""
        return dict(zip(("t", "df", "p"), test or (None, None, None), strict=True))


class Correlation(NamedTuple):
    """Spearman's rho in [-1, 1] of n pairs, and its two-sided p if the pairs are independent."""

    rho: float
    p: float
    n: int


def pooled(a: Sample | None, b: Sample | None) -> Test | None:
    """Student's t-test of mean a minus mean b with the pooled variance, as the paper has it.

    None if a sample is None or smaller than MINIMUM_RUNS, or if neither sample varies.
    """
    if a is None or b is None or not _testable(a, b):
        return None
    std_a, std_b = math.sqrt(a.variance), math.sqrt(b.variance)
    found = stats.ttest_ind_from_stats(a.mean, std_a, a.n, b.mean, std_b, b.n)
    return Test(float(found.statistic), a.n + b.n - 2, float(found.pvalue))


def welch(a: Sample | None, b: Sample | None) -> Test | None:
    """Welch's t-test of mean a minus mean b, whose variances may differ. None as for `pooled`."""
    return welch_contrast([(1.0, a), (-1.0, b)])


def welch_contrast(parts: Sequence[tuple[float, Sample | None]]) -> Test | None:
    """Test whether the sum of coefficient * mean over (coefficient, sample) pairs is 0.

    Variances may differ; degrees of freedom by Satterthwaite 1946. With k tasks on each side and
    the coefficients 1/k and -1/k it compares two AVGs. None as for `pooled`, over all samples.

    >>> one, other = Sample(4, 71.0, 2.0), Sample(4, 69.0, 2.0)
    >>> welch_contrast([(1.0, one), (-1.0, other)])
    Test(t=2.0, df=6.0, p=0.09242631153167512)
    """
    known = [(coefficient, sample) for coefficient, sample in parts if sample is not None]
    if len(known) < len(parts) or not _testable(*(sample for _, sample in known)):
        return None
    errors = [coefficient**2 * sample.variance / sample.n for coefficient, sample in known]
    error = math.fsum(errors)
    if error == 0:
        return None
    # Each error is divided first: the square of a tiny error would underflow.
    shares = [part / error for part in errors]
    freedom = [share**2 / (sample.n - 1) for share, (_, sample) in zip(shares, known, strict=True)]
    df = 1 / math.fsum(freedom)
    t = math.fsum(coefficient * sample.mean for coefficient, sample in known) / math.sqrt(error)
    return Test(t, df, 2 * float(stats.t.sf(abs(t), df)))


def hedges_g(a: Sample | None, b: Sample | None) -> float | None:
    """Mean a minus mean b in pooled standard deviations, corrected for small n (Hedges 1981).

    The correction is 1 - 3 / (4 df - 1). None as for `pooled`.
    """
    if a is None or b is None or not _testable(a, b):
        return None
    df = a.n + b.n - 2
    deviation = math.sqrt(((a.n - 1) * a.variance + (b.n - 1) * b.variance) / df)
    return (1 - 3 / (4 * df - 1)) * (a.mean - b.mean) / deviation


def _testable(*samples: Sample) -> bool:
    enough = all(sample.n >= MINIMUM_RUNS for sample in samples)
    return enough and any(sample.variance > 0 for sample in samples)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values by Holm 1979, in the order given. None stays None and counts for nothing.

    >>> holm([0.01, None, 0.04, 0.03])
    [0.03, None, 0.06, 0.06]
    """
    # statsmodels' multipletests collects all garbage at every call: 0.1 s each.
    order = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for step, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - step) * p))
        corrected[place] = largest
    return corrected


def spearman(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's rank correlation of pairs; equal values share their mean rank.

    p is exact for at most MOST_COUNTED pairs and for |rho| = 1: the share of all orders of y with
    at least this |rho|. Otherwise it is by Student's t with n - 2 degrees of freedom. None below
    MINIMUM_PAIRS pairs, or if x or y is constant. Raises ValueError if x and y differ in length.
    """
    if len(x) != len(y):
        raise ValueError(f"spearman: {len(x)} and {len(y)} values; x and y must be of equal length")
    n = len(x)
    if n < MINIMUM_PAIRS:
        return None
    a, b = _centred_ranks(np.array([x, y], float))
    rho = float(rank_correlation(a[None], b[None])[0])
    if math.isnan(rho):
        return None
    if n <= MOST_COUNTED:
        # Sums of products of half ranks are exact.
        sums = np.array([*itertools.permutations(b)]) @ a
        return Correlation(rho, float(np.mean(np.abs(sums) >= abs(a @ b))), n)
    if abs(rho) == 1:
        return Correlation(rho, _perfect(b), n)
    return Correlation(rho, float(stats.spearmanr(x, y).pvalue), n)


def _perfect(y: Sequence[float]) -> float:
    """The share of all orders of y that have the ranks of one sorted order, rising or falling."""
    ties = [count for _, count in sorted(Counter(y).items())]
    # The reversed order has the same |rho| only if the ties lie alike from both ends.
    directions = 2 if ties == ties[::-1] else 1
    return directions * math.prod(map(math.factorial, ties)) / math.factorial(len(y))


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of each line. x, y: (lines, pairs). Returns (lines,); NaN where constant."""
    a, b = _centred_ranks(x), _centred_ranks(y)
    with np.errstate(invalid="ignore"):
        rho = (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    # The last bit may be off; ranks that agree wholly must give exactly 1.
    return np.where(np.abs(rho) > 1 - 1e-12, np.sign(rho), rho)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along each line minus their mean; equal values share their mean rank."""
    return stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2
