"""Means and deviations of methods on tasks: as measured, and as other seeds might have had them.

The bootstrap draws the seeds of each method on each task with replacement, each group for itself
(Efron and Tibshirani 1993, chapter 6). One generator with a fixed seed makes all draws, so that
the same records give the same bytes.

Few values make a plain bootstrap too sure: resampled means spread by (n - 1) / n of the squared
standard error, and deviations shrink, the more the fewer. Both are taken back. Normal deviates
serve where the size of that depends on the distribution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jiant_sparse.report.summary import Row

RESAMPLES = 10_000
# Of the two-sided percentile interval.
CONFIDENCE = 0.95
SEED = 0
# Drawn at once; more would only cost memory.
DRAWS = 2_000_000
# Two sums of equal real value may differ in their last bit; a tie must stay a tie.
DECIMALS = 9


@dataclass(frozen=True, eq=False)
class Scores:
    """What claims are tested on, in percent: line 0 as measured, then a line for each resample.

    mean, std: (lines, methods, tasks); average_mean, average_std: (lines, methods), the paper's
    AVG. NaN where a group has no value, for `std` also where it has one. std is of the
    population where all groups have the same n; else each is brought to what the largest n would
    be expected to give, so that fewer runs do not make a method look steadier. Resampled means
    spread by the standard error; resampled deviations are the measured one on average.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    average_mean: np.ndarray
    average_std: np.ndarray

    def subset(self, labels: Mapping[str, str]) -> "Scores":
        """The methods that `labels` names, new name -> name here, in that order."""
        places = [self.names.index(name) for name in labels.values()]
        return Scores(
            tuple(labels),
            self.mean[:, places],
            self.std[:, places],
            self.average_mean[:, places],
            self.average_std[:, places],
        )

    def average(self, name: str) -> np.ndarray:
        """(lines,): the AVG of one method."""
        return self.average_mean[:, self.names.index(name)]

    def without(self, name: str) -> list[int]:
        """The places of all methods but one."""
        return [place for place, other in enumerate(self.names) if other != name]


def scores(names: Sequence[str], mean: np.ndarray, std: np.ndarray) -> Scores:
    """Scores whose AVG is the mean over the tasks. mean, std: (lines, methods, tasks)."""
    mean, std = np.round(mean, DECIMALS), np.round(std, DECIMALS)
    averages = [np.round(part.mean(axis=2), DECIMALS) for part in (mean, std)]
    return Scores(tuple(names), mean, std, *averages)


def observed(rows: Sequence[Row]) -> Scores:
    """The measured line alone, for rows of equal tasks."""
    return _fill(rows, 0)


def resampled(rows: Sequence[Row]) -> Scores:
    """The measured line and RESAMPLES others, for rows of equal tasks."""
    return _fill(rows, RESAMPLES)


def interval(values: np.ndarray) -> tuple[float, float] | None:
    """The percentile interval of the resamples of a figure. values: (lines,), line 0 as measured.

    None without resamples, or if the figure is NaN in all of them.
    """
    known = values[1:][~np.isnan(values[1:])]
    if not len(known):
        return None
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def expected_deviation(n: int) -> float:
    """The mean population deviation of n >= 2 standard normal values: below 1, and rising."""
    return math.sqrt(2 / n) * math.exp(math.lgamma(n / 2) - math.lgamma((n - 1) / 2))


def _fill(rows: Sequence[Row], resamples: int) -> Scores:
    generator = np.random.default_rng(SEED)
    shape = (1 + resamples, len(rows), len(rows[0].groups) if rows else 0)
    mean, std = np.full(shape, np.nan), np.full(shape, np.nan)
    largest = max((group.score.n for row in rows for group in row.groups), default=0)
    for m, row in enumerate(rows):
        for t, group in enumerate(row.groups):
            if group.score.mean is None:
                continue
            values = np.asarray(group.values, float)
            mean[0, m, t] = group.score.mean
            mean[1:, m, t], drawn = _resample(values, resamples, generator)
            if group.score.std is not None:
                n = group.score.n
                # Exactly the deviation itself where all n are equal.
                scale = 1.0 if n == largest else expected_deviation(largest) / expected_deviation(n)
                std[0, m, t] = group.score.std * scale
                std[1:, m, t] = _centred(drawn, std[0, m, t])
    return scores([row.label for row in rows], mean, std)


def _centred(deviations: np.ndarray, measured: float) -> np.ndarray:
    """The deviations scaled so that their mean is the measured one."""
    middle = deviations.mean() if len(deviations) else 0.0
    return deviations * (measured / middle) if middle > 0 else deviations


def _resample(
    values: np.ndarray, resamples: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population deviation of each resample of n >= 1 values; of one, 0."""
    n = len(values)
    mean, std = np.empty(resamples), np.empty(resamples)
    # From the first value, so that equal values deviate by exactly nothing.
    apart = values - values[0]
    centre = apart.mean()
    # Their population variance is then the n - 1 estimate.
    apart = (apart - centre) * math.sqrt(n / max(n - 1, 1))
    chunk = max(1, DRAWS // n)
    for start in range(0, resamples, chunk):
        lines = slice(start, min(start + chunk, resamples))
        drawn = apart[generator.integers(0, n, (lines.stop - start, n), dtype=np.int32)]
        mean[lines] = values[0] + centre + drawn.mean(axis=1)
        std[lines] = drawn.std(axis=1)
    return mean, std
