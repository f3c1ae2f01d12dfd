"""Means and deviations of methods on tasks: as measured, and in bootstrap resamples.

A resample draws the seeds of each method on each task with replacement, independently of all
other methods and tasks (Efron and Tibshirani 1993, chapter 6). One generator with a fixed seed
makes all draws, so that the same records give the same bytes.

A plain bootstrap of few values is too sure: the variance of resampled means is (n - 1) / n of the
squared standard error, and deviations shrink with n. Both are corrected. Where the size of the
correction depends on the distribution, that of normal values is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
# The confidence of two-sided percentile intervals.
CONFIDENCE = 0.95
SEED = 0
# Values drawn at once: as many as stay in the cache. The draws are the same for any number.
DRAWS = 50_000
# Two sums of equal real value may differ in their last bit; a tie must stay a tie.
DECIMALS = 9


@dataclass(frozen=True, eq=False)
class Replicates:
    """The scores that claims are tested on, in percent: line 0 as measured, then the resamples.

    mean, std: (lines, methods, tasks + 1), the last column being the paper's AVG over the tasks.
    NaN where a group has no value; `std` also where it has one. std is of the population if all
    groups have the same n; otherwise each std is scaled to what is expected of the largest n, so
    that fewer runs do not make a method look steadier. Resampled means spread by the standard
    error; resampled deviations have the measured deviation as their mean.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray

    def subset(self, labels: Mapping[str, str]) -> "Replicates":
        """Select methods in the order of `labels`, which maps a new name to a name of self."""
        places = [self.names.index(name) for name in labels.values()]
        return Replicates(tuple(labels), self.mean[:, places], self.std[:, places])

    def average(self, name: str) -> np.ndarray:
        """The AVG of one method's means. Returns (lines,)."""
        return self.mean[:, self.names.index(name), -1]


def with_average(values: np.ndarray) -> np.ndarray:
    """Append the mean over the tasks as the last column. values: (lines, methods, tasks)."""
    average = np.round(values, DECIMALS).mean(axis=2, keepdims=True)
    return np.round(np.concatenate([values, average], axis=2), DECIMALS)


def replicate(
    values: Mapping[str, Sequence[Sequence[float]]], resamples: int = RESAMPLES
) -> Replicates:
    """The measured line and `resamples` resampled ones. values: method -> test values by task."""
    generator = np.random.default_rng(SEED)
    groups = [[np.array(group, float) for group in tasks] for tasks in values.values()]
    largest = max(len(group) for tasks in groups for group in tasks)
    mean = np.full((1 + resamples, len(groups), len(groups[0])), np.nan)
    std = mean.copy()
    for m, tasks in enumerate(groups):
        for t, group in enumerate(tasks):
            if len(group):
                mean[0, m, t] = group.mean()
                mean[1:, m, t], drawn = _resample(group, resamples, generator)
            if len(group) > 1:
                # Exactly 1 where all n are equal.
                scale = expected_deviation(largest) / expected_deviation(len(group))
                std[0, m, t] = group.std() * scale
                middle = drawn.mean() if resamples else 0.0
                std[1:, m, t] = drawn * (std[0, m, t] / middle) if middle > 0 else drawn
    return Replicates(tuple(values), with_average(mean), with_average(std))


def expected_deviation(n: int) -> float:
    """The expected population deviation of n >= 2 standard normal values: below 1, and rising."""
    return math.sqrt(2 / n) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def _resample(
    values: np.ndarray, resamples: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of each resample of n >= 1 values; of one value, 0."""
    n = len(values)
    mean, std = np.empty(resamples), np.empty(resamples)
    # Measured from the first value, so that equal values deviate by exactly 0.
    apart = values - values[0]
    centre = apart.mean()
    # Scaled so that the population variance is the estimate with n - 1.
    apart = (apart - centre) * math.sqrt(n / max(n - 1, 1))
    chunk = max(1, DRAWS // n)
    for start in range(0, resamples, chunk):
        lines = slice(start, min(start + chunk, resamples))
        drawn = apart[generator.integers(0, n, (lines.stop - start, n), dtype=np.int32)]
        mean[lines] = values[0] + centre + drawn.mean(axis=1)
        std[lines] = drawn.std(axis=1)
    return mean, std


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The percentile interval of a figure's resamples. values: (lines,), line 0 as measured.

    None without resamples, or if the figure is NaN in all of them.
    """
    known = values[1:][~np.isnan(values[1:])]
    if not len(known):
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)
