"""The papers' claims: their words, how each is tested, and what their own tables say."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import ge, gt

import numpy as np

from jiant_sparse.report import published
from jiant_sparse.report.claims import findings
from jiant_sparse.report.claims.bootstrap import Replicates, with_average
from jiant_sparse.report.claims.findings import (
    BASE,
    BITFIT,
    MOST,
    OURS,
    STOCHASTIC,
    TOP,
    TOP_TUNING,
    Finding,
)
from jiant_sparse.report.published import METHODS, TASKS, TESTS_OF
from jiant_sparse.report.statistics import MINIMUM_PAIRS, spearman

# A parabola has three free numbers; a fourth density can contradict it.
MINIMUM_GRID = 4
# The margin of claim 8, in points of AVG.
MARGIN = 2.0
RESULTS = "Fu et al. 2023, section 5.2"
SPARSITY = f"{RESULTS}, Effectiveness of Sparsity, Fig. 5"
# Stochastic Tuning's table of scores could not be had.
UNAVAILABLE = "its table is not available"
# Printed in section 5.2 beside Fig. 4; the paper's own tables give other numbers.
PRINTED = "rho = 0.4356 (p = 0.000014)"


@dataclass(frozen=True)
class PaperClaim:
    """What a paper says, in our words; where it says it; and how it is tested.

    statistic: what the finding's estimate is. keys: the methods that count; None for the densities
    of SAM. needs: the methods without which nothing can be said. least: methods that must have
    MINIMUM_RUNS values on every task for a verdict. speaks: methods that must have `values` values
    for a remark without a verdict; `values` is 2 if the finding is about deviations.
    tasks: the titles of the paper's tasks. printed: what its tables say; None if we do not have
    them.
    """

    number: str
    text: str
    source: str
    statistic: str
    finding: Callable[[Replicates], Finding]
    printed: "Callable[[PaperClaim], str] | None" = None
    keys: tuple[str, ...] | None = tuple(METHODS)
    needs: tuple[str, ...] = ()
    least: int = 2
    speaks: int = 2
    values: int = 1
    tasks: tuple[str, ...] = TASKS

    @property
    def paper(self) -> str:
        """The paper of the source, without the place in it."""
        return self.source.split(",")[0]

    @property
    def published(self) -> str:
        """What the published tables themselves say about the claim, in a few words."""
        return self.printed(self) if self.printed else UNAVAILABLE


def table(number: int) -> Replicates:
    """Table 1 or 2 as one line of scores, with the AVG that it prints."""
    columns = (*TASKS, published.AVERAGE)
    cells = [[published.value(key, task, number) for task in columns] for key in METHODS]
    mean, std = (
        np.array([[[getattr(cell, part) for cell in row] for row in cells]])
        for part in ("mean", "std")
    )
    return Replicates(tuple(METHODS), mean, std)


def figure5() -> Replicates:
    """Fig. 5's test panels as one line of scores; the names are SAM's densities."""
    panels = published.figure5()
    mean, std = (
        np.array([[value for _, value in panels[part, task]] for task in TASKS]).T[None]
        for part in ("test_mean", "test_std")
    )
    names = tuple(str(density) for density, _ in panels["test_mean", TASKS[0]])
    return Replicates(names, with_average(mean), with_average(std))


def _by_tables(claim: PaperClaim) -> str:
    chosen = {key: key for key in claim.keys or ()}
    briefs = {number: claim.finding(table(number).subset(chosen)).brief for number in TESTS_OF}
    return "; ".join(f"Table {number}: {brief}" for number, brief in briefs.items())


def _by_figure4(_: PaperClaim) -> str:
    """The printed correlation, and that of the points of Fig. 4: Tables 1 and 2 together."""
    pairs = [findings.rank_pairs(table(number)) for number in TESTS_OF]
    stability, performance = np.concatenate(pairs, axis=2)[:, 0]
    found = findings.correlation(spearman(stability, performance))
    return f"printed: {PRINTED}; its Tables 1 and 2 give {found}"


def _by_figure5(claim: PaperClaim) -> str:
    return f"Fig. 5: {claim.finding(figure5()).brief}"


# In the order of the papers.
CLAIMS = (
    PaperClaim(
        "1",
        "Most methods that tune few weights perform better than FullTuning",
        f"{RESULTS}, conclusion (1)",
        "methods of the nine with a higher AVG",
        partial(findings.majority, of="mean"),
        _by_tables,
        needs=(BASE,),
        least=MOST + 1,
    ),
    PaperClaim(
        "2",
        "Most methods that tune few weights are more stable than FullTuning",
        f"{RESULTS}, conclusion (2)",
        "methods of the nine with a smaller AVG std",
        partial(findings.majority, of="std"),
        _by_tables,
        needs=(BASE,),
        least=MOST + 1,
        values=2,
    ),
    PaperClaim(
        "3",
        "Even Random outperforms FullTuning",
        f"{RESULTS}, conclusion (3)",
        "points of AVG above FullTuning",
        partial(findings.ahead, steps=[("random", gt, BASE, 0)]),
        _by_tables,
        keys=("random", BASE),
        needs=("random", BASE),
    ),
    PaperClaim(
        "4",
        f"SAM ranks in the top {TOP} of most tasks",
        f"{RESULTS}, conclusion (4)",
        f"tasks with SAM in the top {TOP}",
        findings.in_the_top,
        _by_tables,
        needs=(OURS,),
        least=TOP + 1,
    ),
    PaperClaim(
        "5",
        "Stabler methods perform better",
        f"{RESULTS}, Fig. 4",
        "Spearman's rho of the ranks, AVG being a column",
        findings.go_together,
        _by_figure4,
        least=MINIMUM_PAIRS,
        speaks=MINIMUM_PAIRS,
        values=2,
    ),
    PaperClaim(
        "6a",
        "SAM's std falls and then rises as its density falls",
        SPARSITY,
        "curvature of the AVG std over log10 of the density",
        partial(findings.bend, of="std"),
        _by_figure5,
        keys=None,
        least=MINIMUM_GRID,
        speaks=MINIMUM_GRID,
        values=2,
    ),
    PaperClaim(
        "6b",
        "SAM's error falls and then rises as its density falls (tested: its mean score rises and "
        "then falls)",
        f"{SPARSITY}; section 3.3",
        "curvature of the AVG mean over log10 of the density",
        partial(findings.bend, of="mean"),
        _by_figure5,
        keys=None,
        least=MINIMUM_GRID,
        speaks=MINIMUM_GRID,
    ),
    PaperClaim(
        "7",
        "Stochastic Tuning >= Top Tuning > FullTuning",
        f"{published.STOCHASTIC_SOURCE}, section 3.2",
        "the smaller of the two steps, points of AVG",
        partial(
            findings.ahead,
            steps=[(STOCHASTIC, ge, TOP_TUNING, 0), (TOP_TUNING, gt, BASE, 0)],
        ),
        keys=(STOCHASTIC, TOP_TUNING, BASE),
        needs=(STOCHASTIC, TOP_TUNING, BASE),
        tasks=published.STOCHASTIC_TASKS,
    ),
    PaperClaim(
        "8",
        f"Stochastic Tuning is over {MARGIN:g} points better than BitFit",
        f"{published.STOCHASTIC_SOURCE}, section 3.2",
        "points of AVG above BitFit",
        partial(findings.ahead, steps=[(STOCHASTIC, gt, BITFIT, MARGIN)]),
        keys=(STOCHASTIC, BITFIT),
        needs=(STOCHASTIC, BITFIT),
        tasks=published.STOCHASTIC_TASKS,
    ),
)
