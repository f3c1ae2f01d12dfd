"""The papers' claims, judged by the records: a verdict, its numbers and what is missing for one.

A claim is supported if it holds in the data and in at least SURE of the resamples (bootstrap.py),
not supported if it fails in both, and otherwise there is not enough data. A claim of several
statements ("most methods", "first this, then that") also takes enough statements that are each
sure. Nothing is imputed: a method counts if it has MINIMUM_RUNS values on every task of the
benchmark.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from jiant_sparse.report.claims.bootstrap import Replicates, interval, replicate
from jiant_sparse.report.claims.findings import OURS, SURE, Finding, title
from jiant_sparse.report.claims.papers import CLAIMS, PaperClaim
from jiant_sparse.report.densities import curves
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import percent
from jiant_sparse.report.statistics import MINIMUM_RUNS
from jiant_sparse.units import counted

__all__ = ["SURE", "PaperClaim", "State", "Verdict", "judge"]

State = Literal["supported", "not supported", "not enough data"]
# What a claim calls a method (its key, or a density of SAM) -> the label that stands for it.
Labels = Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim.

    reason: sentences with the numbers. statistic: what `estimate` is. interval: its 95 %
    percentile interval. share: of the resamples in which the claim holds, in [0, 1]. Interval and
    share are None where nothing was resampled. runs: the number of test values behind the verdict.
    published: what the published tables say.
    """

    claim: PaperClaim
    state: State
    reason: str
    statistic: str
    estimate: float | None
    interval: tuple[float, float] | None
    share: float | None
    runs: int
    published: str


def judge(frame: Frame) -> tuple[Verdict, ...]:
    """A verdict on every claim about a task of this benchmark, in the order of the papers."""
    titles = {*frame.tasks["published_title"]}
    asked = [(claim, _labels(claim, frame)) for claim in CLAIMS if titles & {*claim.tasks}]
    named = {label for _, labels in asked for label in labels.values()}
    ready = {
        label: [*frame.of(label)["values"]]
        for label in frame.methods["method"]
        if label in named and _has(frame, label, MINIMUM_RUNS)
    }
    drawn = replicate(ready) if ready else None
    return tuple(_verdict(claim, labels, drawn, frame) for claim, labels in asked)


def _labels(claim: PaperClaim, frame: Frame) -> Labels:
    if claim.keys is None:
        points = curves(frame).get(OURS, {})
        return {str(density): label for density, label in points.items()}
    # A method with several settings and none of its own name stands for nothing.
    labels = {key: frame.keyed(key) for key in claim.keys}
    return {key: label for key, label in labels.items() if label is not None}


def _has(frame: Frame, label: str, values: int) -> bool:
    return bool((frame.of(label)["n"] >= values).all())


def _enough(claim: PaperClaim, labels: Labels, frame: Frame, values: int, least: int) -> Labels:
    """The labels with this many values on every task; none if they are too few for the claim."""
    found = {name: label for name, label in labels.items() if _has(frame, label, values)}
    return found if len(found) >= least and all(key in found for key in claim.needs) else {}


def _verdict(claim: PaperClaim, labels: Labels, drawn: Replicates | None, frame: Frame) -> Verdict:
    state: State = "not enough data"
    finding = share = None
    foreign = _foreign_tasks(claim, labels, frame)
    used = _enough(claim, labels, frame, MINIMUM_RUNS, claim.least)
    if used and drawn:
        finding = claim.finding(drawn.subset(used))
        share = float(finding.supports.hold[1:].mean())
        state, reasons = _decide(finding, share)
        reason = _sentence(finding.told, *reasons, *_left_out(_results(frame, used)), *foreign)
    else:
        reason = _sentence(*_missing(claim, labels, frame), *foreign)
        used = _enough(claim, labels, frame, claim.values, claim.speaks)
        if used:
            measured = {name: [*frame.of(label)["values"]] for name, label in used.items()}
            finding = claim.finding(replicate(measured, 0))
            reason += f" With {_each(_results(frame, used))}: {finding.told}."
    estimate = float(finding.estimate[0]) if finding else np.nan
    return Verdict(
        claim,
        state,
        reason,
        claim.statistic,
        estimate=None if np.isnan(estimate) else estimate,
        interval=interval(finding.estimate) if finding else None,
        share=share,
        runs=int(_results(frame, used or labels)["n"].sum()),
        published=claim.published,
    )


def _results(frame: Frame, labels: Labels) -> pd.DataFrame:
    return frame.results[frame.results["method"].isin([*labels.values()])]


def _decide(finding: Finding, share: float) -> tuple[State, list[str]]:
    """The state, and in words: in how many resamples the claim holds, and what keeps it open."""
    holds = f"holds in {percent(100 * share)} % of the resamples"
    pro, contra = finding.supports, finding.refutes
    if pro.usual and pro.sure and not finding.open:
        return "supported", [holds]
    if contra.usual and contra.sure:
        return "not supported", [holds]
    reasons = [f"undecided: {holds}"]
    if finding.open:
        reasons.append(finding.open)
    elif pro.usual or contra.usual:
        reasons.append("but too few of its parts are sure, each for itself")
    return "not enough data", reasons


def _left_out(results: pd.DataFrame) -> list[str]:
    lost = int((results["failed"] + results["undefined"]).sum())
    return [f"{counted(lost, 'run')} without a test value left out"] if lost else []


def _foreign_tasks(claim: PaperClaim, labels: Labels, frame: Frame) -> list[str]:
    """Tasks that the paper does not have, if the methods that the claim needs are there."""
    titles = frame.tasks["published_title"].fillna(frame.tasks["title"])
    foreign = [name for name in titles if name not in claim.tasks]
    if not foreign or not labels or any(key not in labels for key in claim.needs):
        return []
    verb = "is" if len(foreign) == 1 else "are"
    return [f"{', '.join(foreign)} {verb} not among the tasks of {claim.paper}"]


def _missing(claim: PaperClaim, labels: Labels, frame: Frame) -> list[str]:
    """What keeps the claim from a verdict."""
    found = []
    if absent := [title(key) for key in claim.needs if key not in labels]:
        found.append(f"no row stands for {', '.join(absent)}")
    elif len(labels) < claim.least:
        what = f"methods of {claim.paper}" if claim.keys else f"densities of {title(OURS)}"
        found.append(f"{claim.least} {what} are needed, the benchmark has {len(labels)}")
    short = [
        f"{title(name) if claim.keys else f'density {name}'} has {n} on {task}"
        for name, label in labels.items()
        for n, task in frame.of(label)[["n", "title"]].itertuples(index=False)
        if n < MINIMUM_RUNS
    ]
    if short:
        others = len(short) - 1
        are = "result is" if others == 1 else "results are"
        more = f" ({others} more {are} short of runs)" if others else ""
        found.append(f"{MINIMUM_RUNS} runs on every task are needed, {short[0]}{more}")
    return found


def _each(results: pd.DataFrame) -> str:
    """How many runs there are of a method on a task, in words."""
    low, high = results["n"].min(), results["n"].max()
    return f"{'' if low == high else f'{low} to '}{counted(high, 'run')} each"


def _sentence(*parts: str) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
