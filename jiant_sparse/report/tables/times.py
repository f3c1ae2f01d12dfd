"""What training cost in time: until it stopped, per step, and until the best step (Table 3)."""

import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from jiant_sparse.report import notes, published
from jiant_sparse.report.frame import Frame, spread
from jiant_sparse.report.numbers import fixed, printable
from jiant_sparse.report.published import AVERAGE
from jiant_sparse.report.table import Cell, Column, Table, crossed
from jiant_sparse.schema.record import Machine
from jiant_sparse.units import counted

DIGITS = 2
HOURS = "The paper's hours are of a TITAN RTX, and only times of one compare with them"
# Units of time from the largest, each with its length in seconds.
UNITS = {"h": 3600, "min": 60, "s": 1, "ms": 0.001}
# The units in which times are stored, in the names of the CSV's columns.
STORED = {"s": "seconds", "ms": "milliseconds"}


def times(frame: Frame) -> list[Table]:
    """The three tables of times."""
    to_stop = _table(
        frame,
        "stop_seconds",
        name="time_to_stop",
        title="Time to stop",
        caption="From the choice of the weights to the last training step, without evaluations. "
        "Fu et al. 2023 (Table 3) do not say what their hours hold; they are of a TITAN RTX with "
        "24 GB.",
        with_hours=True,
    )
    per_step = _table(
        frame,
        "step_milliseconds_median",
        name="step_time",
        title="Time per step",
        caption="The median of a run's training steps: loading of the batch, forward and backward "
        "pass, update. Choosing weights before the first step is not in it.",
        units=("s", "ms"),
    )
    to_best = _table(
        frame,
        "best_seconds",
        name="time_to_best",
        title="Time to best score",
        caption="Until the step whose weights were tested: the time of the choice and, of that of "
        "the steps, the share best step / last step. An estimate: it takes all steps for equally "
        "long.",
    )
    return [to_stop, per_step, to_best]


def _table(
    frame: Frame,
    column: str,
    *,
    name: str,
    title: str,
    caption: str,
    units: Sequence[str] = ("h", "min", "s"),
    with_hours: bool = False,
) -> Table:
    """A table of a column of the cells.

    units: those in which the table can stand, from the largest; the last is that of the column and
    of the CSV. with_hours: whether the paper prints such times.
    """
    stored = UNITS[units[-1]]
    found = _times(frame, column, stored, with_hours)
    measured = found.loc[~found["is_average"], "mean"].dropna()
    # One unit for the whole table: the largest in which at least half of the times reach 1.
    middle = statistics.median(measured) if len(measured) else 0
    unit = next((unit for unit in units if middle >= UNITS[unit]), units[-1])
    cells = crossed(found, lambda row: _cell(row, UNITS[unit]))
    moments = [f"{part}_{STORED[units[-1]]}" for part in ("mean", "std")]
    found[moments] = found[["mean", "std"]] / stored
    fields = ["benchmark", "task", "method", "n", *moments]
    return Table(
        name=name,
        title=f"{title} ({unit})",
        caption=caption,
        columns=(
            Column("method"),
            *(Column(title, unit) for title in (*frame.tasks["title"], AVERAGE)),
        ),
        rows=tuple((Cell(method), *its) for method, its in cells.items()),
        data=found[[*fields, "published_hours"] if with_hours else fields],
        notes=tuple(_notes(frame, found)),
    )


def _times(frame: Frame, column: str, stored: float, with_hours: bool) -> pd.DataFrame:
    """n, mean and std in seconds of each method on each task, then of its AVG, which has no n."""
    ok = frame.ok.dropna(subset=column)
    seconds = ok[column] * stored
    groups = {pair: spread([*its]) for pair, its in seconds.groupby([ok["task"], ok["method"]])}
    pairs = zip(frame.results["task"], frame.results["method"], strict=True)
    spreads = [groups.get(pair, (0, None, None)) for pair in pairs]
    found = pd.DataFrame(spreads, columns=["n", "mean", "std"], index=frame.results.index)
    found = found.astype({"n": "Int64", "mean": "float64", "std": "float64"})
    by_method = found[["mean", "std"]].groupby(frame.results["method"])
    averages = by_method.agg(lambda its: statistics.fmean(its)).reindex(frame.averages["method"])
    stacked = pd.concat([found, averages], ignore_index=True)
    where = frame.scores[["task", "method", "key", "published_title", "is_average"]]
    hours = [_hours(frame, row) if with_hours else None for row in where.itertuples()]
    hours = pd.Series(hours, dtype="float64")
    found = pd.concat([where, stacked], axis=1).assign(
        benchmark=frame.benchmark, published_hours=hours
    )
    return found.loc[frame.by_method.index]


def _hours(frame: Frame, row: Any) -> float | None:
    """The paper's hours, beside the one label that stands for the method: not beside variants."""
    if frame.keyed(row.key or "") != row.method:
        return None
    return published.hours(row.key, row.published_title)


def _cell(row: Any, length: float) -> Cell:
    note = "" if pd.isna(row.published_hours) else f"paper {fixed(row.published_hours, DIGITS)} h"
    if pd.isna(row.mean):
        return Cell(note=note)
    deviation = "" if pd.isna(row.std) else _amount(row.std / length)
    return Cell(_amount(row.mean / length), row.mean, spread=deviation, note=note)


def _amount(time: float) -> str:
    """Two decimals; what is there but rounds to nothing is said to be small."""
    text = fixed(time, DIGITS)
    return f"<{10**-DIGITS}" if time > 0 and float(text) == 0 else text


def _notes(frame: Frame, found: pd.DataFrame) -> list[str]:
    """What the times were taken on; times of different machines are not one experiment."""
    origins = [record.provenance for record in frame.ok["record"]]
    machines = {_machine(part) for origin in origins for part in (origin, *origin.earlier)}
    if not machines:
        return []
    said = [f"Taken on {'; '.join(sorted(machines))}."]
    if len(machines) > 1:
        said.append("The machines differ: the times are not of one experiment.")
    said.append("Cells that ran side by side on one machine slowed each other.")
    if found.loc[~found["is_average"], "published_hours"].notna().any():
        said.append(f"{HOURS}; the settings are {notes.comparability_briefly(frame)}.")
    return said


def _machine(part: Machine) -> str:
    device = printable(part.device) if part.device else "an unknown device"
    threads = "" if part.threads is None else f", {counted(part.threads, 'thread')}"
    return f"{device}{threads}"
