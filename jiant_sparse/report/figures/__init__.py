"""The figures of the papers and of what a score costs, as SVG and PNG."""

from collections.abc import Callable

from jiant_sparse.report.figures import density, discontinuity, learning_curves, ranks, tradeoff
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame

# Name -> what draws the figure, or says why it cannot.
ALL: dict[str, Callable[[Frame], Figure | str]] = {
    ranks.NAME: ranks.draw,
    density.NAME: density.draw,
    discontinuity.NAME: discontinuity.draw,
    learning_curves.NAME: learning_curves.draw,
    tradeoff.TUNED: tradeoff.draw_tuned,
    tradeoff.COST: tradeoff.draw_cost,
}


def draw(frame: Frame) -> tuple[list[Figure], dict[str, str]]:
    """Draw all figures; returns those the records have data for, and of each other one by its name
    why it is not drawn. The same records give the same bytes."""
    made = {name: make(frame) for name, make in ALL.items()}
    absent = {name: why for name, why in made.items() if isinstance(why, str)}
    return [figure for figure in made.values() if not isinstance(figure, str)], absent
