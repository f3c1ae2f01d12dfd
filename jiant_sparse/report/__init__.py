"""The report of a benchmark: records and published numbers in, tables, figures and a page out."""

from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError, suggest
from jiant_sparse.report import figures, oddities, output, tables
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.claims import judge
from jiant_sparse.report.collect import collect
from jiant_sparse.report.frame import arrange
from jiant_sparse.report.page import Content, render_page
from jiant_sparse.report.rendering import as_text
from jiant_sparse.report.summary import Row, Summary

# The method that the paper tests against all others.
REFERENCE = "sam"


@dataclass(frozen=True)
class Report:
    """Where the page is, the text for a terminal, and the counts behind an exit code.

    missing: None if no manifest says what was planned.
    unusable: records that were skipped because they are broken or belong elsewhere.
    """

    text: str
    page: Path
    ok: int
    failed: int
    missing: int | None
    unusable: int


def build(
    directory: Path, output_dir: Path | None = None, *, reference: str | None = None
) -> Report:
    """Write index.html, tables/ and figures/ into `output_dir`, `<directory>/report` if None.

    reference: the label of the method that is tested against each other one, SAM's if None.

    Raises InputError if `directory` is missing or holds no usable record, or if no method is
    labelled `reference`.
    """
    collection = collect(directory)
    summary, frame = summarise(collection), arrange(collection)
    chosen = _reference(summary, reference)
    judged = judge(summary)
    made = tables.make(summary, chosen, judged)
    drawn = figures.draw(frame)
    content = Content(
        tables={table.name: table for table in made},
        figures=drawn.figures,
        absent_figures=drawn.absent,
        verdicts=judged,
        oddities=oddities.oddities(summary),
    )
    target = directory / "report" if output_dir is None else output_dir
    page = output.write(target, made, content.figures, render_page(frame, content))
    return Report(
        text=as_text(summary, made),
        page=page,
        ok=len(summary.records) - summary.failed,
        failed=summary.failed,
        missing=summary.missing,
        unusable=len(summary.skipped),
    )


def _reference(summary: Summary, label: str | None) -> Row | None:
    if label is None:
        return summary.keyed(REFERENCE)
    row = summary.row(label)
    if row is None:
        labels = [row.label for row in summary.rows]
        raise InputError(
            f"--reference is {label!r}, which is no method here; {suggest(label, labels)}"
        )
    return row
