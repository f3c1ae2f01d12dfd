"""One file for each table of the report; here, all tables of one summary in their order."""

from collections.abc import Sequence

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
    return [
        results.results(summary),
        *([compared] if compared else []),
        verdicts.verdicts(judged),
        *tests,
        times.time_to_stop(summary),
        times.step_time(summary),
        times.time_to_best(summary),
        parameters.parameters(summary),
    ]
