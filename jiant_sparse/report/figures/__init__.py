"""The figures of the papers and of what a score costs, as SVG and PNG."""

from collections.abc import Callable
from dataclasses import dataclass

from jiant_sparse.report.figures import density, discontinuity, learning_curves, ranks, tradeoff
from jiant_sparse.report.figures.style import Figure
from jiant_sparse.report.frame import Frame

__all__ = ["Drawn", "Figure", "draw"]

# Name -> what draws the figure, or says why it cannot.
_ALL: dict[str, Callable[[Frame], Figure | str]] = {
    ranks.NAME: ranks.draw,
    density.NAME: density.draw,
    discontinuity.NAME: discontinuity.draw,
    learning_curves.NAME: learning_curves.draw,
    tradeoff.TUNED: tradeoff.draw_tuned,
    tradeoff.COST: tradeoff.draw_cost,
}


@dataclass(frozen=True)
class Drawn:
    """The figures that the records have data for, and (name, why not) of each other figure."""

    figures: tuple[Figure, ...]
    absent: tuple[tuple[str, str], ...]


def draw(frame: Frame) -> Drawn:
    """Draw all figures. The same records give the same bytes."""
    made = {name: make(frame) for name, make in _ALL.items()}
    return Drawn(
        tuple(one for one in made.values() if not isinstance(one, str)),
        tuple((name, one) for name, one in made.items() if isinstance(one, str)),
    )
