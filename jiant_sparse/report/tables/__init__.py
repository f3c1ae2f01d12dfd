"""One file for each table of the report; here, all tables of one benchmark in their order."""

from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report.claims import Verdict
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.table import Table
from jiant_sparse.report.tables import beside, parameters, results, significance, times, verdicts


def make(frame: Frame, reference: str | None, judged: Sequence[Verdict]) -> list[Table]:
    """The tables that the records have data for.

    reference: label of the method that is tested against each other one; None makes no tests.
    """
    first, compared = results.results(frame), beside.published(frame)
    made = [replace(first, notes=(*first.notes, *_untested(frame, reference)))]
    made += [compared] if compared else []
    made += [verdicts.verdicts(judged)] if judged else []
    made += significance.significance(frame, reference) if reference else []
    return [*made, *times.times(frame), parameters.parameters(frame)]


def _untested(frame: Frame, reference: str | None) -> list[str]:
    """That several methods could have been the reference, and none was taken."""
    key = significance.PUBLISHED_REFERENCE
    labels = frame.methods.loc[frame.methods["key"] == key, "method"]
    if reference or len(labels) < 2:
        return []
    return [
        f"No tests between methods: {', '.join(labels)} are all {key} and none is labelled so; "
        "--reference names the one to test."
    ]
