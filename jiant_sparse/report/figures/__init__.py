"""The paper's figures, and those that it does not draw, from a summary, as SVG and PNG.

`draw` makes those that the records have data for; `absent` says what keeps the others away.
"""

from collections.abc import Callable

from jiant_sparse.report.figures import density, discontinuity, learning_curves, ranks, tradeoff
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.summary import Summary

__all__ = ["Figure", "absent", "draw"]

# Name -> what keeps it away (None: nothing), and how it is drawn.
_ALL: dict[str, tuple[Callable[[Summary], str | None], Callable[[Summary], Figure]]] = {
    ranks.NAME: (ranks.why_absent, ranks.draw),
    density.NAME: (density.why_absent, density.draw),
    discontinuity.NAME: (discontinuity.why_absent, discontinuity.draw),
    learning_curves.NAME: (learning_curves.why_absent, learning_curves.draw),
    tradeoff.TUNED: (tradeoff.why_no_tuned, tradeoff.draw_tuned),
    tradeoff.COST: (tradeoff.why_no_cost, tradeoff.draw_cost),
}


def draw(summary: Summary) -> tuple[Figure, ...]:
    """The figures that the records have data for. The same records give the same bytes."""
    return tuple(make(summary) for why, make in _ALL.values() if why(summary) is None)


def absent(summary: Summary) -> tuple[tuple[str, str], ...]:
    """(name, why) of each figure that `draw` leaves out."""
    reasons = ((name, why(summary)) for name, (why, _) in _ALL.items())
    return tuple((name, reason) for name, reason in reasons if reason is not None)
