"""The papers' claims and what the records say about each."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from jiant_sparse.report.cells import in_percent
from jiant_sparse.report.claims import SURE, State, Verdict
from jiant_sparse.report.claims.bootstrap import CONFIDENCE, RESAMPLES
from jiant_sparse.report.numbers import DASH, count, fixed, percent
from jiant_sparse.report.statistics import MINIMUM_RUNS
from jiant_sparse.report.table import Cell, Column, Table, Tone

TONES: dict[State, Tone] = {"supported": "good", "not supported": "", "not enough data": "quiet"}
COLUMNS = (
    Column("claim"),
    Column("verdict"),
    Column("what the runs say"),
    Column("estimate", f"{CONFIDENCE:.0%} interval"),
    Column("holds in", "of resamples"),
    Column("runs"),
    Column("the published tables"),
)
# The claims whose estimate is a number of methods or tasks.
COUNTS = ("1", "2", "4")
NOTES = (
    f"Supported: holds in the data and in at least {SURE:.1%} of {count(RESAMPLES)} resamples; not "
    "supported: fails in as many; all else is not enough data. A claim of several parts (methods, "
    "tasks, steps) also takes enough of them that are each sure, corrected for their number.",
    "A resample draws the seeds of each method on each task with replacement; the spread that this "
    "takes away is given back. The methods share their seeds, but are resampled independently. "
    "Deviations of unequal n are brought to the largest n.",
    "Claim 5: to resample ranks is to scatter them. The interval of rho is drawn towards zero by "
    "that and may not contain the estimate. It is over seeds only, not over methods and tasks; p "
    "takes all pairs for independent, which ranks of one column and AVG are not.",
    f"A method counts if it has {MINIMUM_RUNS} runs or more on every task of this benchmark; "
    "nothing is filled in. Where several rows are of one method, the row of its plain name stands "
    "for it.",
    "A verdict is about the model, data and settings of these runs, whatever those of the paper.",
)


def verdicts(verdicts: Sequence[Verdict]) -> Table:
    """A row for each claim, in the order given."""
    return Table(
        name="verdicts",
        title="The papers' claims",
        caption="Each claim as these runs bear it out, and as the published tables do.",
        columns=COLUMNS,
        rows=tuple(_row(verdict) for verdict in verdicts),
        data=pd.DataFrame([*map(_line, verdicts)]),
        notes=NOTES,
    )


def _row(verdict: Verdict) -> tuple[Cell, ...]:
    claim, share, digits = verdict.claim, in_percent(verdict.share), digits_of(verdict)
    estimate = fixed(verdict.estimate, digits)
    if verdict.interval:
        estimate += f" [{', '.join(fixed(end, digits) for end in verdict.interval)}]"
    return (
        Cell(f"({claim.number}) {claim.text}", note=claim.source),
        Cell(verdict.state, tone=TONES[verdict.state]),
        Cell(verdict.reason),
        Cell(estimate, verdict.estimate, note=verdict.statistic),
        Cell(DASH if share is None else f"{percent(share)} %", share),
        Cell(str(verdict.runs), float(verdict.runs)),
        Cell(verdict.published),
    )


def digits_of(verdict: Verdict) -> int:
    """The decimals of a verdict's estimate: none if it is a count."""
    return 0 if verdict.claim.number in COUNTS else 2


def _line(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    low, high = verdict.interval or (None, None)
    where = {"claim": claim.number, "text": claim.text, "source": claim.source}
    said = {"verdict": verdict.state, "reason": verdict.reason, "statistic": verdict.statistic}
    numbers = {"estimate": verdict.estimate, "low": low, "high": high}
    numbers["share_percent"] = in_percent(verdict.share)
    return {**where, **said, **numbers, "runs": verdict.runs, "published": verdict.published}
