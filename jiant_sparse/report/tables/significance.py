"""Whether one method differs from each other one, task by task: Tables 5 and 6, and Welch."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from jiant_sparse.report import notes, published
from jiant_sparse.report.cells import table
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.numbers import fixed, probability
from jiant_sparse.report.statistics import (
    LEVEL,
    MINIMUM_RUNS,
    Sample,
    Test,
    hedges_g,
    holm,
    pooled,
    welch,
)
from jiant_sparse.report.table import Cell, Column, Table, Tone, crossed
from jiant_sparse.units import counted

# The method whose tests the paper prints.
PUBLISHED_REFERENCE = "sam"
FIELDS = ["benchmark", "task", "reference", "method", "n_reference", "n"]
FIELDS += ["t", "df", "p", "holm_p", "hedges_g"]
PUBLISHED_FIELDS = ["published_t", "published_p"]
TwoSampleTest = Callable[[Sample | None, Sample | None], Test | None]
# (task, method) -> its sample: the exact variances of many runs take long.
Samples = Mapping[tuple[str, str], Sample | None]


def significance(frame: Frame, reference: str) -> list[Table]:
    """t and p of the method labelled `reference` against each other method: pooled and Welch.

    Positive t: the reference is better. Holm's correction is over all tests of a table. No table
    if there is no other method.
    """
    if len(frame.methods) < 2:
        return []
    samples = {(row.task, row.method): Sample.of(row.values) for row in frame.results.itertuples()}
    pooled_table = _table(
        frame,
        reference,
        samples,
        name="significance_pooled",
        title="t-test, pooled variance",
        about="Student's two-sample t-test as the paper has it: the two variances are taken for "
        "equal.",
        test=pooled,
        with_paper=frame.of(reference)["key"].iloc[0] == PUBLISHED_REFERENCE,
    )
    welch_table = _table(
        frame,
        reference,
        samples,
        name="significance_welch",
        title="t-test, Welch",
        about="Welch's two-sample t-test: the two variances may differ, as they do between these "
        "methods.",
        test=welch,
        with_paper=False,
    )
    return [pooled_table, welch_table]


def _table(
    frame: Frame,
    reference: str,
    samples: Samples,
    *,
    name: str,
    title: str,
    about: str,
    test: TwoSampleTest,
    with_paper: bool,
) -> Table:
    """A table of one test; with_paper: beside the paper's tests."""
    found = _compared(frame, reference, samples, test, with_paper)
    found["why"] = [_why(row) for row in found.itertuples()]
    # Why none of all comparisons has a test, if all have one reason: a note then says it once.
    alike = found["why"].iloc[0] if found["why"].nunique() == 1 else ""
    cells = crossed(found, lambda row: _cell(row, alike))
    return Table(
        name=name,
        title=f"{reference} against each method: {title}",
        caption=f"{about} {reference} minus each other method, on the test scores of the seeds; "
        f"positive t: {reference} is better. p is two-sided.",
        columns=(Column("method"), *(Column(title, "t") for title in frame.tasks["title"])),
        rows=tuple((Cell(method), *its) for method, its in cells.items()),
        data=found[FIELDS + (PUBLISHED_FIELDS if with_paper else [])],
        notes=tuple(_notes(frame, found, alike)),
    )


def _compared(
    frame: Frame, reference: str, samples: Samples, test: TwoSampleTest, with_paper: bool
) -> pd.DataFrame:
    """A row for each other method on each task, as FIELDS; method by method."""
    rows = []
    for label in frame.methods.loc[frame.methods["method"] != reference, "method"]:
        both = zip(frame.of(reference).itertuples(), frame.of(label).itertuples(), strict=True)
        for ours, theirs in both:
            a, b = samples[ours.task, reference], samples[theirs.task, label]
            where = {"benchmark": frame.benchmark, "task": theirs.task, "reference": reference}
            where |= {"method": label, "n_reference": ours.n, "n": theirs.n}
            tested = Test.fields(test(a, b))
            paper = _published(ours, theirs) if with_paper else (None, None)
            beside = dict(zip(PUBLISHED_FIELDS, paper, strict=True))
            rows.append({**where, **tested, "hedges_g": hedges_g(a, b), **beside})
    for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["holm_p"] = p
    return table(rows, ["t", "p", "holm_p", "hedges_g", *PUBLISHED_FIELDS])


def _published(ours: Any, theirs: Any) -> tuple[float | None, float | None]:
    """t and p of Table 5 or 6, if both results stand beside the same table of scores."""
    tables = {ours.published_table, theirs.published_table}
    if len(tables) > 1 or pd.isna(table := tables.pop()):
        return None, None
    number = published.TESTS_OF[table]
    return published.t_test(theirs.key, theirs.published_title, number) or (None, None)


def _cell(row: Any, alike: str) -> Cell:
    paper = ""
    if not pd.isna(row.published_t):
        p = probability(row.published_p, 2)
        paper = f"paper t {fixed(row.published_t, 2)}, p {p}"
    if pd.isna(row.t):
        why = "" if alike else row.why
        return Cell(note="; ".join(filter(None, (why, paper))), tone="quiet")
    holm_p, effect = probability(row.holm_p), fixed(row.hedges_g, 2)
    said = f"p {probability(row.p)}, Holm {holm_p}, g {effect}"
    tone: Tone = ""
    if row.holm_p < LEVEL:
        word, tone = ("better", "good") if row.t > 0 else ("worse", "alarm")
        said = f"{word}: {said}"
    note = "; ".join(filter(None, (said, paper)))
    return Cell(fixed(row.t, 2), row.t, note=note, tone=tone)


def _why(row: Any) -> str:
    """Why there is no test; empty if there is one."""
    if not pd.isna(row.t):
        return ""
    if min(row.n_reference, row.n) >= MINIMUM_RUNS:
        return "neither varies"
    if row.n_reference == row.n:
        return f"{counted(row.n, 'run')} each"
    return f"{row.n_reference} against {row.n} runs"


def _notes(frame: Frame, found: pd.DataFrame, alike: str) -> list[str]:
    tested, said = found["t"].count(), []
    if tested:
        said += [
            f"Holm: p corrected for all {tested} tests of this table; better and worse are said of "
            f"a p below {LEVEL} after it. g: Hedges' g, the difference in pooled standard "
            "deviations.",
            "Runs of one seed share their data and its order between methods; the tests take them "
            "for independent, as the paper's do.",
        ]
    if tested < len(found):
        said.append(
            f"{len(found) - tested} of {len(found)} comparisons have no test"
            f"{f', {alike}' if alike else ''}: it needs {MINIMUM_RUNS} runs on each side, and one "
            "side that varies."
        )
    if found["published_t"].notna().any():
        said.append("paper: Tables 5 and 6, pooled, 10 runs each, p to two decimals.")
        said.append(f"The paper's t and these are {notes.comparability_briefly(frame)}.")
    return said
