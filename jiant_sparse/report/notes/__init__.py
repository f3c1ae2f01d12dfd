"""Every sentence of the report: what its frames say in words."""

from jiant_sparse.report.notes.caveats import (
    SHORT,
    below_majority,
    chosen_on_test,
    footnotes,
    left_out,
    metric,
    per_step,
)
from jiant_sparse.report.notes.comparable import (
    SETTING,
    SOURCE,
    apart_briefly,
    comparability,
    comparability_briefly,
    is_partly,
    reasons,
    tables,
    word,
)
from jiant_sparse.report.notes.missing import (
    gaps,
    not_counted,
    remarks,
    seeds_of,
    status,
    usual_n,
    warnings,
)

__all__ = [
    "SETTING",
    "SHORT",
    "SOURCE",
    "apart_briefly",
    "below_majority",
    "chosen_on_test",
    "comparability",
    "comparability_briefly",
    "footnotes",
    "gaps",
    "is_partly",
    "left_out",
    "metric",
    "not_counted",
    "per_step",
    "reasons",
    "remarks",
    "seeds_of",
    "status",
    "tables",
    "usual_n",
    "warnings",
    "word",
]
