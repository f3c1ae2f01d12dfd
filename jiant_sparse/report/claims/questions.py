"""The papers' claims as questions to the records: the words, the test and what it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jiant_sparse.report import stochastic
from jiant_sparse.report.claims import outcomes, printed
from jiant_sparse.report.claims.bootstrap import Scores
from jiant_sparse.report.claims.outcomes import (
    BASE,
    BITFIT,
    MARGIN,
    MOST,
    OURS,
    STOCHASTIC,
    TOP,
    TOP_TUNING,
    Outcome,
)
from jiant_sparse.report.published import METHODS, TASKS
from jiant_sparse.report.statistics import MINIMUM_PAIRS

# A parabola has three free numbers; a fourth density can contradict it.
MINIMUM_GRID = 4
RESULTS = "Fu et al. 2023, section 5.2"
STOCHASTIC_RESULTS = f"{stochastic.SOURCE}, section 3.2"


@dataclass(frozen=True)
class Claim:
    """What a paper says, in our words, and where it says it."""

    number: str
    text: str
    source: str

    @property
    def paper(self) -> str:
        """The paper of the source, without the place in it."""
        return self.source.split(",")[0]


@dataclass(frozen=True)
class Question:
    """How a claim is tested.

    keys: the methods that count, empty for SAM's densities.
    needs: those without which nothing can be said. least: how many must have their runs for a
    verdict, speaks: how many must have a value to be mentioned without one.
    values: how many values of a group the figure takes: 2 if it is about deviations.
    tasks: the titles of the tasks that its paper has.
    """

    claim: Claim
    statistic: str
    outcome: Callable[[Scores], Outcome]
    printed: Callable[[], str]
    keys: tuple[str, ...]
    needs: tuple[str, ...]
    least: int
    speaks: int
    values: int = 1
    tasks: tuple[str, ...] = TASKS

    @property
    def by_method(self) -> bool:
        """Whether it compares methods; else it compares the densities of one."""
        return bool(self.keys)


def questions() -> tuple[Question, ...]:
    """Every claim that a report judges, in the order of the papers."""
    return (*_main(), *_shape(), *_stochastic())


def _main() -> tuple[Question, ...]:
    """The numbered conclusions of the main experiment, and that of Fig. 4."""
    most = "Most methods that tune few weights"
    all_ten, two = tuple(METHODS), ("random", BASE)
    return (
        Question(
            Claim("1", f"{most} perform better than FullTuning", f"{RESULTS}, conclusion (1)"),
            "methods of the nine with a higher AVG",
            outcomes.most_beat,
            partial(printed.by_tables, outcomes.most_beat, all_ten),
            *(all_ten, (BASE,), MOST + 1, 2),
        ),
        Question(
            Claim("2", f"{most} are more stable than FullTuning", f"{RESULTS}, conclusion (2)"),
            "methods of the nine with a smaller AVG std",
            outcomes.most_steadier,
            partial(printed.by_tables, outcomes.most_steadier, all_ten),
            *(all_ten, (BASE,), MOST + 1, 2, 2),
        ),
        Question(
            Claim("3", "Even Random outperforms FullTuning", f"{RESULTS}, conclusion (3)"),
            "points of AVG above FullTuning",
            outcomes.random_beats,
            partial(printed.by_tables, outcomes.random_beats, two),
            *(two, two, 2, 2),
        ),
        Question(
            Claim("4", f"SAM ranks in the top {TOP} of most tasks", f"{RESULTS}, conclusion (4)"),
            f"tasks with SAM in the top {TOP}",
            outcomes.in_the_top,
            partial(printed.by_tables, outcomes.in_the_top, all_ten),
            *(all_ten, (OURS,), TOP + 1, 2),
        ),
        Question(
            Claim("5", "Stabler methods perform better", f"{RESULTS}, Fig. 4"),
            "Spearman's rho of the ranks, AVG being a column",
            outcomes.go_together,
            printed.by_figure4,
            *(all_ten, (), MINIMUM_PAIRS, MINIMUM_PAIRS, 2),
        ),
    )


def _shape() -> tuple[Question, ...]:
    """What is said about the density p of SAM."""
    source = f"{RESULTS}, Effectiveness of Sparsity, Fig. 5"
    figure = "curvature of the AVG {} over log10 of the density"
    return (
        Question(
            Claim("6a", "SAM's std falls and then rises as its density falls", source),
            figure.format("std"),
            outcomes.deviation_dips,
            partial(printed.by_figure5, outcomes.deviation_dips),
            *((), (), MINIMUM_GRID, MINIMUM_GRID, 2),
        ),
        Question(
            Claim(
                "6b",
                "SAM's error falls and then rises as its density falls (tested: its mean score "
                "rises and then falls)",
                f"{source}; section 3.3",
            ),
            figure.format("mean"),
            outcomes.mean_peaks,
            partial(printed.by_figure5, outcomes.mean_peaks),
            *((), (), MINIMUM_GRID, MINIMUM_GRID),
        ),
    )


def _stochastic() -> tuple[Question, ...]:
    three, two = (STOCHASTIC, TOP_TUNING, BASE), (STOCHASTIC, BITFIT)
    return (
        Question(
            Claim("7", "Stochastic Tuning >= Top Tuning > FullTuning", STOCHASTIC_RESULTS),
            "the smaller of the two steps, points of AVG",
            outcomes.stochastic_order,
            printed.unavailable,
            *(three, three, 3, 3),
            tasks=stochastic.TASKS,
        ),
        Question(
            Claim(
                "8",
                f"Stochastic Tuning is over {MARGIN:g} points better than BitFit",
                STOCHASTIC_RESULTS,
            ),
            "points of AVG above BitFit",
            outcomes.stochastic_margin,
            printed.unavailable,
            *(two, two, 2, 2),
            tasks=stochastic.TASKS,
        ),
    )
