"""The report's page: one HTML file that loads nothing."""

import base64
import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
# Sections that hold tables: id -> the tables' names.
SECTIONS = {
    "results": ("results",),
    "published": ("published",),
    "significance": ("significance_pooled", "significance_welch"),
    "cost": ("time_to_stop", "step_time", "time_to_best", "parameters"),
}
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


@dataclass(frozen=True)
class Content:
    """What the page shows beside the frames; anything may be absent.

    tables: by name. absent_figures: (name, why it is not drawn).
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    absent_figures: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Verdict] = ()
    oddities: Sequence[Oddity] = ()


def render_page(frame: Frame, content: Content | None = None) -> str:
    """The page. Every string of a record is escaped; its script is pinned by its hash."""
    shown = content or Content()
    comparable, verdict = notes.comparability(frame)
    caveat = notes.chosen_on_test(frame)
    said = {text.casefold() for text in (sentence(verdict), notes.not_counted(frame), caveat)}
    return render_template(
        "index.html",
        report=frame,
        shown=shown,
        sections={
            key: [_unless_said(shown.tables[n], said) for n in names if n in shown.tables]
            for key, names in SECTIONS.items()
        },
        notes_on=_notes_on(shown),
        notes=notes,
        comparable=comparable,
        verdict=verdict,
        caveat=caveat,
        warnings=notes.warnings(frame),
        usual=notes.usual_n(frame),
        tasks=views.tasks(frame),
        histories=len(frame.cells) <= MOST_HISTORIES,
        most_histories=MOST_HISTORIES,
        most_open=MOST_OPEN,
        head=views.head(frame),
        facts=views.origins(frame),
        readings=views.readings(frame),
    )


def render_template(name: str, **context: Any) -> str:
    """A page from a template that extends base.html; style and script are put in here."""
    script = (TEMPLATES / "page.js").read_text("utf-8")
    return (
        _environment()
        .get_template(name)
        .render(
            style=Markup((TEMPLATES / "style.css").read_text("utf-8")),
            script=Markup(script),
            digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **context,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats = ("fixed", "signed", "percent", "count", "seconds", "size")
    environment.filters.update(
        {name: getattr(numbers, name) for name in formats},
        classes=classes,
        digits_of=digits_of,
        inline=inline,
        sentence=sentence,
        slots=slots,
        tidy="{:.6g}".format,
        unbroken=unbroken,
    )
    environment.tests["known"] = pd.notna
    environment.globals.update(vars(plots) | vars(views))
    return environment


def inline(figure: Figure) -> Markup:
    """A figure's SVG as a part of the page: without its prolog and without matplotlib's names of
    groups, which other figures have too."""
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", figure.svg[figure.svg.index("<svg") :])
    return Markup(svg.replace("<svg", '<svg class="figure" role="img"', 1))


def slots(table: Table) -> list[dict[str, Any]]:
    """For each column of a table, what its cells must leave room for: a mark, a spread (its width
    in characters, with its sign) and the mark of the spread."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
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


def sentence(text: str) -> str:
    """A title, closed by a full stop if it is not closed already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _unless_said(table: Table, said: Container[str]) -> Table:
    """A table without the notes that the page says elsewhere, and more fully."""
    return replace(table, notes=tuple(n for n in table.notes if n.casefold() not in said))


def _notes_on(shown: Content) -> dict[str, list[int]]:
    """Name of a table or figure -> the numbers of the oddities that concern what it shows of the
    published values."""
    places = {figure.name: figure.beside for figure in shown.figures}
    for name, (field_name, sources) in BESIDE.items():
        if name in shown.tables and shown.tables[name].holds(field_name):
            places[name] = sources
    found = {
        name: [i for i, odd in enumerate(shown.oddities, 1) if {*sources} & {*odd.places}]
        for name, sources in places.items()
    }
    return {name: its for name, its in found.items() if its}
