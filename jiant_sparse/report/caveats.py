"""What a reader must know of scores and shares that are not what such numbers usually are."""

from collections import Counter
from collections.abc import Iterable, Sequence

from jiant_sparse.report import stochastic
from jiant_sparse.report.numbers import percent
from jiant_sparse.report.summary import Row, Summary, by_step, share_percent, test_percent
from jiant_sparse.schema.record import Record, unscored

# How many rows or places a note names.
MOST_NAMED = 6


def is_chosen_on(record: Record) -> bool:
    """Whether the set that is reported also chose the best step."""
    return record.settings.get("split") == stochastic.SPLIT


def chosen_on_test(summary: Summary) -> str:
    """That scores are of the set that also chose, and which, if not all are; empty if none is."""
    scored = [r for r in summary.records if test_percent(r) is not None]
    number = sum(map(is_chosen_on, scored))
    if not number:
        return ""
    chose = (
        "the set that also chose each run's best step, and its learning rate where that was "
        f"selected (split {stochastic.SPLIT}, as in {stochastic.SOURCE})"
    )
    if number == len(scored):
        return (
            f"The scores are of {chose}: they are optimistic, and not comparable with those of a "
            "test set that chose nothing, as in Fu et al. 2023."
        )
    return (
        f"{number} of the {len(scored)} scores are of {chose}: {_named(_places(summary))}. They "
        "are optimistic, and not comparable with the others here, nor with Fu et al. 2023."
    )


def _places(summary: Summary) -> list[str]:
    """The methods; with the tasks where not all of a method's scores are such ones."""
    found = []
    for row in summary.rows:
        chosen = {group.task.title: _number(group.ok, chosen=True) for group in row.groups}
        scored = {group.task.title: _number(group.ok, chosen=False) for group in row.groups}
        if not any(chosen.values()):
            continue
        tasks = ", ".join(task for task, number in chosen.items() if number)
        found.append(row.label if chosen == scored else f"{row.label} ({tasks})")
    return found


def _number(records: Iterable[Record], *, chosen: bool) -> int:
    return sum(
        test_percent(record) is not None and (not chosen or is_chosen_on(record))
        for record in records
    )


def left_out(summary: Summary) -> list[str]:
    """For each task, which rows of dev and test were not scored, and in how many cells if not all;
    none where all were."""
    notes = []
    for task in summary.tasks:
        records = [r for group in summary.groups if group.task is task for r in group.ok]
        told = Counter(filter(None, map(unscored, records)))
        notes += [
            f"{task.title}: {rows} rows do not fit max_seq_length and were not scored"
            + (f" ({number} of {len(records)} cells)." if number < len(records) else ".")
            for rows, number in told.items()
        ]
    return notes


def per_step(rows: Sequence[Row]) -> str:
    """Which of the rows tune other weights at each step, and how many in all; empty if none."""
    moving = [row for row in rows if by_step(row.ok)]
    if not moving:
        return ""
    shares = [f"{row.label} {percent(share_percent(row.ok, 'drawn'))}" for row in moving]
    return (
        "Per step: the weights differ from step to step, and tuned is the share of one step; "
        f"in percent, chosen at least once in a run: {_named(shares)}."
    )


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
