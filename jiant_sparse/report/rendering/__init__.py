"""A table as Markdown, LaTeX, CSV and text for a terminal. Every renderer escapes for itself."""

from jiant_sparse.report.rendering.latex import latex
from jiant_sparse.report.rendering.markdown import markdown
from jiant_sparse.report.rendering.plain_csv import plain_csv
from jiant_sparse.report.rendering.terminal import TERMINAL, as_text
from jiant_sparse.report.rendering.text import text

__all__ = ["TERMINAL", "as_text", "latex", "markdown", "plain_csv", "text"]
