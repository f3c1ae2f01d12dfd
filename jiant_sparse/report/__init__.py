"""The report of a benchmark: records and published numbers in, tables, figures and a page out."""

from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.errors import InputError, suggest
from jiant_sparse.report import figures, oddities, output, tables
from jiant_sparse.report.claims import judge
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.page import render_page
from jiant_sparse.report.terminal import as_text

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
    frame = load(directory)
    chosen = _reference(frame, reference)
    judged = judge(frame)
    made = tables.make(frame, chosen, judged)
    drawn, absent = figures.draw(frame)
    page = render_page(
        frame,
        tables=made,
        figures=drawn,
        absent=absent,
        verdicts=judged,
        oddities=oddities.oddities(frame),
    )
    target = directory / "report" if output_dir is None else output_dir
    return Report(
        text=as_text(frame, made),
        page=output.write(target, made, drawn, page),
        ok=len(frame.ok),
        failed=frame.failed,
        missing=frame.missing,
        unusable=len(frame.skipped),
    )


def _reference(frame: Frame, label: str | None) -> str | None:
    if label is None:
        return frame.keyed(REFERENCE)
    labels = frame.methods["method"].tolist()
    if label not in labels:
        raise InputError(
            f"--reference is {label!r}, which is no method here; {suggest(label, labels)}"
        )
    return label
