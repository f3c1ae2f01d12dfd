"""What the published tables themselves say about the paper's claims: a few words for each."""

from collections.abc import Callable

import numpy as np

from jiant_sparse.report import published
from jiant_sparse.report.claims.bootstrap import Scores, scores
from jiant_sparse.report.claims.outcomes import Outcome, correlation, rank_pairs
from jiant_sparse.report.statistics import spearman

# Section 5.2 of Fu et al. 2023: they are not what its own tables give.
PRINTED_RHO, PRINTED_P = "0.4356", "0.000014"


def table(number: int) -> Scores:
    """Table 1 or 2 as scores of one line, with the AVG that it prints."""
    columns = (*published.TASKS, published.AVERAGE)
    cells = [[published.value(key, task, number) for task in columns] for key in published.METHODS]
    mean = np.array([[[cell.mean for cell in line] for line in cells]])
    std = np.array([[[cell.std for cell in line] for line in cells]])
    keys = tuple(published.METHODS)
    return Scores(keys, mean[..., :-1], std[..., :-1], mean[..., -1], std[..., -1])


def figure5() -> Scores:
    """Fig. 5's test panels as scores of one line; the densities are the names."""
    lines = published.figure5()
    parts = [
        np.array([[value for _, value in lines[part, task]] for task in published.TASKS])
        for part in ("test_mean", "test_std")
    ]
    names = [str(density) for density, _ in lines["test_mean", published.TASKS[0]]]
    return scores(names, *(part.T[None] for part in parts))


def by_tables(outcome: Callable[[Scores], Outcome], keys: tuple[str, ...]) -> str:
    """The outcome in Table 1 and in Table 2, for the methods of these keys."""
    chosen = {key: key for key in keys}
    said = [f"Table {n}: {outcome(table(n).subset(chosen)).brief}" for n in published.TESTS_OF]
    return "; ".join(said)


def by_figure4() -> str:
    """The printed correlation, and the one of the points that Fig. 4 shows."""
    pairs = [rank_pairs(table(number)) for number in published.TESTS_OF]
    stability, performance = (np.concatenate([pair[i][0] for pair in pairs]) for i in (0, 1))
    found = correlation(spearman(stability, performance))
    return f"printed: rho = {PRINTED_RHO} (p = {PRINTED_P}); its Tables 1 and 2 give {found}"


def by_figure5(outcome: Callable[[Scores], Outcome]) -> str:
    """The outcome in the values of Fig. 5."""
    return f"Fig. 5: {outcome(figure5()).brief}"


def unavailable() -> str:
    """Stochastic Tuning's Table 1 could not be had."""
    return "its table is not available"
