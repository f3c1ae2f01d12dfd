"""What the renderers share: which columns hold numbers."""

from jiant_sparse.report.table import Table


def numeric(table: Table, index: int) -> bool:
    """Whether a column holds any number: it then stands to the right, words to the left."""
    return index > 0 and any(row[index].value is not None for row in table.rows)
