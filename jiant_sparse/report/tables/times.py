"""What training cost in time: until it stopped, per step, and until the best step (Table 3)."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jiant_sparse.report import published
from jiant_sparse.report.numbers import fixed, printable
from jiant_sparse.report.summary import Group, Row, Spread, Summary
from jiant_sparse.report.table import Cell, Column, Table
from jiant_sparse.report.words import comparability_briefly
from jiant_sparse.schema.record import Machine, Record

DIGITS = 2
HOURS = "The paper's hours are of a TITAN RTX, and only times of one compare with them"
# Units of time from the largest, each with its length in seconds.
UNITS = (("h", 3600), ("min", 60), ("s", 1), ("ms", 0.001))


@dataclass(frozen=True)
class _Kind:
    """A table of times: what is measured in a record, and in which of UNITS it can stand.

    seconds: of a record, None = not measured. with_hours: whether the paper prints such times.
    """

    name: str
    title: str
    caption: str
    seconds: Callable[[Record], float | None]
    units: tuple[str, ...] = ("h", "min", "s")
    with_hours: bool = False

    @property
    def unit_of_csv(self) -> str:
        """The smallest unit of the kind."""
        return self.units[-1]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the CSV that hold numbers."""
        unit = {"s": "seconds", "ms": "milliseconds"}[self.unit_of_csv]
        return (f"mean_{unit}", f"std_{unit}", *(("published_hours",) if self.with_hours else ()))


def time_to_stop(summary: Summary) -> Table:
    """Seconds of choosing and of all training steps, beside the paper's hours."""
    caption = (
        "From the choice of the weights to the last training step, without evaluations. Fu et al. "
        "2023 (Table 3) do not say what their hours hold; they are of a TITAN RTX with 24 GB."
    )
    kind = _Kind("time_to_stop", "Time to stop", caption, to_stop, with_hours=True)
    return _table(summary, kind)


def step_time(summary: Summary) -> Table:
    """The median time of a training step."""
    caption = (
        "The median of a run's training steps: loading of the batch, forward and backward pass, "
        "update. Choosing weights before the first step is not in it."
    )
    kind = _Kind("step_time", "Time per step", caption, _per_step, ("s", "ms"))
    return _table(summary, kind)


def time_to_best(summary: Summary) -> Table:
    """An estimate of the time to the step whose weights were tested."""
    caption = (
        "Until the step whose weights were tested: the time of the choice and, of that of the "
        "steps, the share best step / last step. An estimate: it takes all steps for equally long."
    )
    return _table(summary, _Kind("time_to_best", "Time to best score", caption, to_best))


def to_stop(record: Record) -> float | None:
    """Seconds of choosing and of all training steps; None if one of the two is unknown.

    A method that chooses nothing has a choice of about 0 s recorded, not none.
    """
    cost = record.cost
    if cost.train_seconds is None or cost.select_seconds is None:
        return None
    return cost.select_seconds + cost.train_seconds


def to_best(record: Record) -> float | None:
    """Seconds until the best step, in proportion to the steps; None if anything is unknown."""
    cost, best, steps = record.cost, record.best_step, record.steps
    if cost.train_seconds is None or cost.select_seconds is None or best is None or not steps:
        return None
    return cost.select_seconds + cost.train_seconds * best / steps


def _per_step(record: Record) -> float | None:
    median = record.cost.step_milliseconds_median
    return None if median is None else median / 1000


def _table(summary: Summary, kind: _Kind) -> Table:
    spreads = [[_spread(group, kind) for group in row.groups] for row in summary.rows]
    unit, length = _unit([s.mean for line in spreads for s in line if s.mean is not None], kind)
    hours = _hours if kind.with_hours else _no_hours
    rows = []
    for row, line in zip(summary.rows, spreads, strict=True):
        cells = [
            _cell(spread, length, hours(summary, row, group.task.published_title))
            for group, spread in zip(row.groups, line, strict=True)
        ]
        average = _cell(_average(line), length, hours(summary, row, _average_of(summary)))
        rows.append((Cell(row.label), *cells, average))
    titles = [*(task.title for task in summary.tasks), published.AVERAGE]
    columns = (Column("method"), *(Column(title, unit) for title in titles))
    fields, lines = _long(summary, kind, spreads)
    return Table(
        name=kind.name,
        title=f"{kind.title} ({unit})",
        caption=kind.caption,
        columns=columns,
        rows=tuple(rows),
        fields=fields,
        lines=lines,
        notes=_notes(summary, kind),
    )


def _spread(group: Group, kind: _Kind) -> Spread:
    times = [kind.seconds(record) for record in group.ok]
    return Spread.of([time for time in times if time is not None])


def _average(line: Sequence[Spread]) -> Spread:
    """The mean of the tasks' means and deviations, where every task has one."""
    means, stds = ([getattr(s, part) for s in line] for part in ("mean", "std"))
    mean = None if None in means else statistics.fmean(means)
    return Spread(0, mean, None if mean is None or None in stds else statistics.fmean(stds))


def _unit(times: Sequence[float], kind: _Kind) -> tuple[str, float]:
    """One for the whole table: the largest in which at least half of the times reach 1."""
    lengths = dict(UNITS)
    middle = statistics.median(times) if times else 0
    unit = next((u for u in kind.units if middle >= lengths[u]), kind.units[-1])
    return unit, lengths[unit]


def _cell(spread: Spread, length: float, note: str) -> Cell:
    if spread.mean is None:
        return Cell(note=note)
    deviation = "" if spread.std is None else _amount(spread.std / length)
    return Cell(_amount(spread.mean / length), spread.mean, spread=deviation, note=note)


def _amount(time: float) -> str:
    """Two decimals; what is there but rounds to nothing is said to be small."""
    text = fixed(time, DIGITS)
    return f"<{10**-DIGITS}" if time > 0 and float(text) == 0 else text


def _published(summary: Summary, row: Row, title: str | None) -> float | None:
    """The paper's hours, beside the one row that stands for the method: not beside variants."""
    return published.hours(row.key, title) if summary.keyed(row.key or "") is row else None


def _hours(summary: Summary, row: Row, title: str | None) -> str:
    hours = _published(summary, row, title)
    return "" if hours is None else f"paper {fixed(hours, DIGITS)} h"


def _no_hours(summary: Summary, row: Row, title: str | None) -> str:
    return ""


def _average_of(summary: Summary) -> str | None:
    whole = published.are_all_tasks(task.published_title for task in summary.tasks)
    return published.AVERAGE if whole else None


def _long(
    summary: Summary, kind: _Kind, spreads: Sequence[Sequence[Spread]]
) -> tuple[tuple[str, ...], tuple[tuple[object, ...], ...]]:
    length = dict(UNITS)[kind.unit_of_csv]
    fields = ("benchmark", "task", "method", "n", *kind.fields)
    lines = []
    for row, line in zip(summary.rows, spreads, strict=True):
        parts = [
            (group.task.label, spread.n, spread, group.task.published_title)
            for group, spread in zip(row.groups, line, strict=True)
        ]
        # AVG is over tasks and has no n.
        parts.append((published.AVERAGE, None, _average(line), _average_of(summary)))
        for task, n, spread, title in parts:
            numbers = [None if v is None else v / length for v in (spread.mean, spread.std)]
            if kind.with_hours:
                numbers.append(_published(summary, row, title))
            lines.append((summary.benchmark, task, row.label, n, *numbers))
    return fields, tuple(lines)


def _notes(summary: Summary, kind: _Kind) -> tuple[str, ...]:
    """What the times were taken on; times of different machines are not one experiment."""
    machines = {
        _machine(part)
        for record in summary.records
        if record.status == "ok"
        for part in (record.provenance, *record.provenance.earlier)
    }
    if not machines:
        return ()
    shown = kind.with_hours and any(
        _published(summary, row, group.task.published_title) is not None
        for row in summary.rows
        for group in row.groups
    )
    paper = (f"{HOURS}; the settings are {comparability_briefly(summary)}.",) if shown else ()
    taken = f"Taken on {'; '.join(sorted(machines))}."
    several = ("The machines differ: the times are not of one experiment.",)
    load = "Cells that ran side by side on one machine slowed each other."
    return (taken, *(several if len(machines) > 1 else ()), load, *paper)


def _machine(part: Machine) -> str:
    device = printable(part.device) if part.device else "an unknown device"
    if part.threads is None:
        return device
    return f"{device}, {part.threads} thread{'' if part.threads == 1 else 's'}"
