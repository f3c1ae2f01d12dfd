"""What training cost in time: until it stopped, per step, and until the best step (Table 3)."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class _Kind:
    """A table of times.

    column: of the cells, in the unit `stored`. units: in which the table can stand, from the
    largest; the last is that of the CSV. with_hours: whether the paper prints such times.
    """

    name: str
    title: str
    caption: str
    column: str
    stored: str = "s"
    units: tuple[str, ...] = ("h", "min", "s")
    with_hours: bool = False


KINDS = (
    _Kind(
        name="time_to_stop",
        title="Time to stop",
        caption="From the choice of the weights to the last training step, without evaluations. "
        "Fu et al. 2023 (Table 3) do not say what their hours hold; they are of a TITAN RTX with "
        "24 GB.",
        column="stop_seconds",
        with_hours=True,
    ),
    _Kind(
        name="step_time",
        title="Time per step",
        caption="The median of a run's training steps: loading of the batch, forward and backward "
        "pass, update. Choosing weights before the first step is not in it.",
        column="step_milliseconds_median",
        stored="ms",
        units=("s", "ms"),
    ),
    _Kind(
        name="time_to_best",
        title="Time to best score",
        caption="Until the step whose weights were tested: the time of the choice and, of that of "
        "the steps, the share best step / last step. An estimate: it takes all steps for equally "
        "long.",
        column="best_seconds",
    ),
)


def times(frame: Frame) -> list[Table]:
    """The tables of KINDS."""
    return [_table(frame, kind) for kind in KINDS]


def _table(frame: Frame, kind: _Kind) -> Table:
    found = _times(frame, kind)
    unit = _unit(found.loc[~found["is_average"], "mean"].dropna().tolist(), kind)
    cells = crossed(found, lambda row: _cell(row, UNITS[unit]))
    titles = [*frame.tasks["title"], AVERAGE]
    smallest = kind.units[-1]
    name = {"s": "seconds", "ms": "milliseconds"}[smallest]
    found[f"mean_{name}"] = found["mean"] / UNITS[smallest]
    found[f"std_{name}"] = found["std"] / UNITS[smallest]
    fields = ["benchmark", "task", "method", "n", f"mean_{name}", f"std_{name}"]
    return Table(
        name=kind.name,
        title=f"{kind.title} ({unit})",
        caption=kind.caption,
        columns=(Column("method"), *(Column(title, unit) for title in titles)),
        rows=tuple((Cell(method), *its) for method, its in cells.items()),
        data=found[[*fields, "published_hours"] if kind.with_hours else fields],
        notes=tuple(_notes(frame, found)),
    )


def _times(frame: Frame, kind: _Kind) -> pd.DataFrame:
    """n, mean and std in seconds of each method on each task, then of its AVG, which has no n."""
    ok = frame.ok.dropna(subset=kind.column)
    seconds = ok[kind.column] * UNITS[kind.stored]
    groups = {pair: spread([*its]) for pair, its in seconds.groupby([ok["task"], ok["method"]])}
    pairs = zip(frame.results["task"], frame.results["method"], strict=True)
    spreads = [groups.get(pair, (0, None, None)) for pair in pairs]
    found = pd.DataFrame(spreads, columns=["n", "mean", "std"], index=frame.results.index)
    found = found.astype({"n": "Int64", "mean": "float64", "std": "float64"})
    by_method = found[["mean", "std"]].groupby(frame.results["method"])
    averages = by_method.agg(lambda its: statistics.fmean(its)).reindex(frame.averages["method"])
    stacked = pd.concat([found, averages], ignore_index=True)
    where = frame.scores[["task", "method", "key", "published_title", "is_average"]]
    hours = [_hours(frame, row) if kind.with_hours else None for row in where.itertuples()]
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


def _unit(times: Sequence[float], kind: _Kind) -> str:
    """One for the whole table: the largest in which at least half of the times reach 1."""
    middle = statistics.median(times) if times else 0
    return next((unit for unit in kind.units if middle >= UNITS[unit]), kind.units[-1])


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
    if part.threads is None:
        return device
    return f"{device}, {counted(part.threads, 'thread')}"
