"""The report's page: one HTML file that loads nothing."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jiant_sparse.report import notes, numbers
from jiant_sparse.report.claims import Verdict
from jiant_sparse.report.figures import Figure
from jiant_sparse.report.frame import Frame
from jiant_sparse.report.oddities import Oddity
from jiant_sparse.report.page import plots, views
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.report.tables.verdicts import digits_of

TEMPLATES = Path(__file__).parent / "templates"
# Longer texts than this are broken into lines inside a table.
LONG = 36
# Tables that show published values: the field that holds them, and where they are from.
BESIDE = {
    "published": ("published_mean", ("Table 1", "Table 2")),
    "significance_pooled": ("published_t", ("Table 5", "Table 6")),
    "time_to_stop": ("published_hours", ("Table 3",)),
    "parameters": ("published_percent", ("Table 4",)),
}
# More errors than this are shown closed.
MOST_OPEN = 10
# The histories of more cells than this would make the page too heavy to open.
MOST_HISTORIES = 2000


def render_page(
    frame: Frame,
    *,
    tables: Sequence[Table] = (),
    figures: Sequence[Figure] = (),
    absent: Mapping[str, str] | None = None,
    verdicts: Sequence[Verdict] = (),
    oddities: Sequence[Oddity] = (),
) -> str:
    """The page. Every string of a record is escaped; its script is pinned by its hash.

    absent: name of a figure that is not drawn -> why. oddities: of the published values.
    """
    return render_template(
        "index.html",
        report=frame,
        tables={table.name: table for table in tables},
        figures=figures,
        absent=absent or {},
        verdicts=verdicts,
        oddities=oddities,
        notes_on=_notes_on(tables, figures, oddities),
        histories=len(frame.cells) <= MOST_HISTORIES,
        most_histories=MOST_HISTORIES,
        most_open=MOST_OPEN,
    )


def render_template(name: str, **context: Any) -> str:
    """A page from a template that extends base.html; style and script are put in here."""
    style, script = ((TEMPLATES / part).read_text("utf-8") for part in ("style.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    given = {"style": Markup(style), "script": Markup(script), "digest": digest, **context}
    return _environment().get_template(name).render(given)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = ("fixed", "percent", "count", "seconds", "size", "sentence")
    environment.filters.update(
        {name: getattr(numbers, name) for name in formats},
        classes=classes,
        digits_of=digits_of,
        inline=inline,
        slots=slots,
        tidy="{:.6g}".format,
        unbroken=unbroken,
    )
    environment.tests["known"] = pd.notna
    environment.globals.update(notes=notes, plots=plots, views=views)
    return environment


def inline(figure: Figure) -> Markup:
    """A figure's SVG as a part of the page: without its prolog and without matplotlib's names of
    groups, which other figures have too."""
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", figure.svg[figure.svg.index("<svg") :])
    return Markup(svg.replace("<svg", '<svg class="figure" role="img"', 1))


def slots(table: Table) -> list[dict[str, Any]]:
    """For each column of a table, what its cells must leave room for: a mark, a spread (its width
    in characters, with its sign) and the mark of the spread."""
    columns = [[row[i] for row in table.rows] for i in range(len(table.columns))]
    return [
        {
            "mark": any(cell.mark is not None for cell in column),
            "spread": max((len(cell.spread) + 1 for cell in column if cell.spread), default=0),
            "spread_mark": any(cell.spread_mark is not None for cell in column),
        }
        for column in columns
    ]


def classes(cell: Cell) -> str:
    """The classes of a table's cell."""
    names: list[str] = [cell.tone] if cell.tone else []
    if pd.isna(cell.value) and cell.text in ("", numbers.DASH):
        names.append("none")
    if len(cell.text) > LONG:
        names.append("long")
    elif len(cell.note) > LONG:
        names.append("wordy")
    return " ".join(names)


def unbroken(note: str) -> str:
    """A note whose lines do not end between a statistic's name and its value, as in "p 0.05"."""
    names = r"\b(paper t|paper|Holm|p|g|n =) (?=[<\d\N{MINUS SIGN}])"
    return re.sub(names, lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), note)


def _notes_on(
    tables: Sequence[Table], figures: Sequence[Figure], oddities: Sequence[Oddity]
) -> dict[str, list[int]]:
    """Name of a table or figure -> the numbers of the oddities that concern what it shows of the
    published values."""
    places = {figure.name: figure.beside for figure in figures}
    for table in tables:
        field, sources = BESIDE.get(table.name, ("", ()))
        if table.holds(field):
            places[table.name] = sources
    return {
        name: [i for i, odd in enumerate(oddities, 1) if {*sources} & {*odd.places}]
        for name, sources in places.items()
    }
