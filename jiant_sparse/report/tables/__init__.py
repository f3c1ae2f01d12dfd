"""One file for each table of the report; here, all tables of one summary in their order."""

from collections.abc import Sequence
from dataclasses import replace

from jiant_sparse.report.claims import Verdict
from jiant_sparse.report.summary import Row, Summary
from jiant_sparse.report.table import Table
from jiant_sparse.report.tables import beside, parameters, results, significance, times, verdicts


def make(summary: Summary, reference: Row | None, judged: Sequence[Verdict]) -> list[Table]:
    """The tables that the records have data for.

    reference: the method that is tested against each other one; None makes no tests.
    """
    compared = beside.published(summary)
    tests = significance.significance(summary, reference) if reference else ()
    first = results.results(summary)
    return [
        replace(first, notes=(*first.notes, *_untested(summary, reference))),
        *([compared] if compared else []),
        *([verdicts.verdicts(judged)] if judged else []),
        *tests,
        times.time_to_stop(summary),
        times.step_time(summary),
        times.time_to_best(summary),
        parameters.parameters(summary),
    ]


def _untested(summary: Summary, reference: Row | None) -> list[str]:
    """That several methods could have been the reference, and none was taken."""
    key = significance.PUBLISHED_REFERENCE
    labels = [row.label for row in summary.rows if row.key == key]
    if reference or len(labels) < 2:
        return []
    return [
        f"No tests between methods: {', '.join(labels)} are all {key} and none is labelled so; "
        "--reference names the one to test."
    ]
