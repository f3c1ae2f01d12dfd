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


def duration(seconds: float) -> str:
    """In words: `90 s`, `50 min`, `10.0 h`, `10.0 days`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
