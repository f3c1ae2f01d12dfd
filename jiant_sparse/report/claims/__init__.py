"""The papers' claims, judged by the records: a verdict, its numbers and what is missing for one.

A claim is supported if it holds in the data and in at least SURE of the resamples (bootstrap.py),
not supported if it fails in both, and everything else is not enough data. A claim of several
statements ("most methods", "first this, then that") also takes enough of them that are each sure.
Nothing is imputed: a method counts if it has MINIMUM_RUNS values or more on every task of the
benchmark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jiant_sparse.report.claims import outcomes
from jiant_sparse.report.claims.bootstrap import Scores, interval, observed, resampled
from jiant_sparse.report.claims.outcomes import OURS, Outcome
from jiant_sparse.report.claims.questions import Claim, Question, questions
from jiant_sparse.report.densities import density_curves
from jiant_sparse.report.numbers import percent
from jiant_sparse.report.statistics import MINIMUM_RUNS
from jiant_sparse.report.summary import Group, Row, Summary

State = Literal["supported", "not supported", "not enough data"]
SURE = 0.975


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim.

    reason: sentences with the numbers. statistic: what `estimate` is.
    interval: 95 % percentile interval of the estimate; share: of the resamples in which the claim
    holds, in [0, 1]; both None where nothing was resampled.
    runs: the test values behind it. published: what the published tables say themselves.
    """

    claim: Claim
    state: State
    reason: str
    statistic: str
    estimate: float | None
    interval: tuple[float, float] | None
    share: float | None
    runs: int
    published: str


def judge(summary: Summary) -> tuple[Verdict, ...]:
    """A verdict on every claim about a task of this benchmark, in the order of the papers."""
    titles = {task.published_title for task in summary.tasks}
    asked = [question for question in questions() if titles & {*question.tasks}]
    casts = [_cast(question, summary) for question in asked]
    named = {row.label for cast in casts for row in cast.values() if _has(row, MINIMUM_RUNS)}
    rows = [row for row in summary.rows if row.label in named]
    drawn = resampled(rows) if rows else None
    return tuple(
        _verdict(question, cast, drawn, _other_tasks(question, cast, summary))
        for question, cast in zip(asked, casts, strict=True)
    )


def _cast(question: Question, summary: Summary) -> dict[str, Row]:
    """The rows that a claim is about: by method key, or by density."""
    if not question.by_method:
        curves = {curve.key: curve.points for curve in density_curves(summary)}
        return {str(density): row for density, row in curves.get(OURS, ())}
    # A method with several settings and none of its own name stands for nothing.
    rows = {key: summary.keyed(key) for key in question.keys}
    return {key: row for key, row in rows.items() if row is not None}


def _other_tasks(question: Question, cast: Mapping[str, Row], summary: Summary) -> list[str]:
    """Tasks that the paper of a claim has not, where the methods of the claim are there."""
    if not cast or any(key not in cast for key in question.needs):
        return []
    titles = [task.published_title or task.title for task in summary.tasks]
    others = [title for title in titles if title not in question.tasks]
    verb = "is" if len(others) == 1 else "are"
    return (
        [f"{', '.join(others)} {verb} not among the tasks of {question.claim.paper}"]
        if others
        else []
    )


def _has(row: Row, values: int) -> bool:
    return all(group.score.n >= values for group in row.groups)


def _enough(question: Question, cast: Mapping[str, Row], values: int, least: int) -> dict:
    """The rows with so many values on every task; none if they are not enough for the claim."""
    ready = {name: row for name, row in cast.items() if _has(row, values)}
    whole = len(ready) >= least and all(name in ready for name in question.needs)
    return ready if whole else {}


def _verdict(
    question: Question, cast: Mapping[str, Row], drawn: Scores | None, caveat: Sequence[str]
) -> Verdict:
    ready = _enough(question, cast, MINIMUM_RUNS, question.least)
    if not ready or drawn is None:
        return _without(question, cast, caveat)
    found = question.outcome(drawn.subset({name: row.label for name, row in ready.items()}))
    share = float(found.holds[1:].mean())
    state = _state(found, share)
    reason = [f"holds in {percent(100 * share)} % of the resamples"]
    if state == "not enough data":
        reason = [f"undecided: {reason[0]}", *([found.open] if found.open else [])]
        if not found.open and _is_one_sided(found, share):
            reason.append("but too few of its parts are sure, each for itself")
    lost = sum(len(g.failed) + len(g.undefined) for row in ready.values() for g in row.groups)
    if lost:
        reason.append(f"{lost} run{'s' if lost > 1 else ''} without a test value left out")
    return Verdict(
        question.claim,
        state,
        _sentence(found.told, *reason, *caveat),
        question.statistic,
        _number(found.estimate[0]),
        interval(found.estimate),
        share,
        _runs(ready),
        question.printed(),
    )


def _state(found: Outcome, share: float) -> State:
    if not _is_one_sided(found, share):
        return "not enough data"
    if found.holds[0]:
        sure = not found.open and (found.pro is None or found.pro.sure(1 - SURE))
        return "supported" if sure else "not enough data"
    sure = found.contra is None or found.contra.sure(1 - SURE)
    return "not supported" if sure else "not enough data"


def _is_one_sided(found: Outcome, share: float) -> bool:
    """Whether the data and nearly all resamples say the same."""
    if found.holds[0]:
        return share >= SURE
    return bool(found.fails[0] and found.fails[1:].mean() >= SURE)


def _without(question: Question, cast: Mapping[str, Row], caveat: Sequence[str]) -> Verdict:
    """No verdict: what is missing, and what the values at hand say."""
    reason, estimate = _sentence(*_missing(question, cast), *caveat), None
    ready = _enough(question, cast, question.values, question.speaks)
    if ready:
        scores = observed(tuple(ready.values()))
        labels = {name: row.label for name, row in ready.items()}
        found = question.outcome(scores.subset(labels))
        reason += f" With {_each(ready)}: {found.told}."
        estimate = _number(found.estimate[0])
    runs = _runs(ready or cast)
    said = question.printed()
    return Verdict(
        question.claim,
        "not enough data",
        reason,
        question.statistic,
        estimate,
        None,
        None,
        runs,
        said,
    )


def _missing(question: Question, cast: Mapping[str, Row]) -> list[str]:
    absent = [outcomes.title(key) for key in question.needs if key not in cast]
    found = [f"no row stands for {', '.join(absent)}"] if absent else []
    if len(cast) < question.least and not absent:
        what = f"{question.least} densities of {outcomes.title(OURS)}"
        what = f"{question.least} methods of {question.claim.paper}" if question.by_method else what
        found.append(f"{what} are needed, the benchmark has {len(cast)}")
    short = [(name, group) for name, row in cast.items() for group in row.groups if _short(group)]
    if short:
        name, group = short[0]
        others = len(short) - 1
        are = "result is" if others == 1 else "results are"
        more = f" ({others} more {are} short of runs)" if others else ""
        found.append(
            f"{MINIMUM_RUNS} runs on every task are needed, {_called(question, name)} has "
            f"{group.score.n} on {group.task.title}{more}"
        )
    return found


def _called(question: Question, name: str) -> str:
    return outcomes.title(name) if question.by_method else f"density {name}"


def _short(group: Group) -> bool:
    return group.score.n < MINIMUM_RUNS


def _each(rows: Mapping[str, Row]) -> str:
    """How many runs there are of a method on a task, in words."""
    counts = sorted({group.score.n for row in rows.values() for group in row.groups})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} runs each"
    return f"{counts[0]} run each" if counts[0] == 1 else f"{counts[0]} runs each"


def _runs(rows: Mapping[str, Row]) -> int:
    return sum(group.score.n for row in rows.values() for group in row.groups)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _sentence(*parts: str) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
