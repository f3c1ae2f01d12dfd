"""What `estimate` and `status` both reckon with. Needs no torch."""

from collections.abc import Sequence

from jiant_sparse.schema.record import Cost


def counted(cost: Cost) -> float | None:
    """Seconds of training, evaluating and selecting; None if training was not measured."""
    if cost.train_seconds is None:
        return None
    return cost.train_seconds + (cost.eval_seconds or 0.0) + (cost.select_seconds or 0.0)


def together(cells: Sequence[float], at_a_time: int) -> float:
    """Seconds that cells of so many seconds take; no cell is shared by two workers."""
    return max(sum(cells) / at_a_time, max(cells))
