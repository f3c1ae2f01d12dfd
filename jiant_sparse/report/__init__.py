"""The report of a benchmark: records and published numbers in, tables and one page out."""

from dataclasses import dataclass
from pathlib import Path

from jiant_sparse.files import write_text
from jiant_sparse.report import tables
from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import collect
from jiant_sparse.report.page import render


@dataclass(frozen=True)
class Report:
    """What was written, the text for a terminal, and the counts behind an exit code.

    missing: None if no manifest says what was planned.
    unusable: records that were skipped because they are broken or belong elsewhere.
    """

    text: str
    page: Path
    csv: Path
    markdown: Path
    ok: int
    failed: int
    missing: int | None
    unusable: int


def build(benchmark_dir: Path, output_dir: Path | None = None) -> Report:
    """Write index.html, table.csv and table.md into `output_dir`, `<benchmark_dir>/report` if None.

    Raises InputError if `benchmark_dir` is missing or holds no usable record.
    """
    summary = summarise(collect(benchmark_dir))
    target = benchmark_dir / "report" if output_dir is None else output_dir
    written = {
        "index.html": render(summary),
        "table.csv": tables.as_csv(summary),
        "table.md": tables.as_markdown(summary),
    }
    for name, text in written.items():
        write_text(target / name, text)
    return Report(
        text=tables.as_text(summary),
        page=target / "index.html",
        csv=target / "table.csv",
        markdown=target / "table.md",
        ok=len(summary.records) - summary.failed,
        failed=summary.failed,
        missing=summary.missing,
        unusable=len(summary.skipped),
    )
