"""The report's page: one HTML file that loads nothing."""

import base64
import hashlib
import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from jiant_sparse.report import caveats, numbers, summary, words
from jiant_sparse.report.claims import Verdict
from jiant_sparse.report.figures import Figure
from jiant_sparse.report.figures.inline import dark_variables, inline
from jiant_sparse.report.oddities import Oddity
from jiant_sparse.report.page import origins, views
from jiant_sparse.report.summary import Summary
from jiant_sparse.report.table import DASH, Cell, Table
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


@dataclass(frozen=True)
class Parts:
    """What the page shows beside the summary; anything may be absent.

    tables: by name. absent_figures: (name, why it is not drawn).
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    absent_figures: Sequence[tuple[str, str]] = ()
    verdicts: Sequence[Verdict] = ()
    oddities: Sequence[Oddity] = ()


@dataclass(frozen=True)
class Slots:
    """What any cell of a column has: a mark, a spread (its width in characters), its mark."""

    mark: bool
    spread: int
    spread_mark: bool


def render(report: Summary, parts: Parts | None = None) -> str:
    """The page. Every string of a record is escaped; its script is pinned by its hash."""
    shown = parts or Parts()
    comparable, verdict = words.comparability(report)
    caveat = caveats.chosen_on_test(report)
    said = {text.casefold() for text in (sentence(verdict), words.not_counted(report), caveat)}
    return render_template(
        "index.html",
        report=report,
        parts=shown,
        sections={
            key: [_unless_said(shown.tables[n], said) for n in names if n in shown.tables]
            for key, names in SECTIONS.items()
        },
        notes_on=_notes_on(shown),
        words=words,
        comparable=comparable,
        verdict=verdict,
        caveat=caveat,
        usual=words.seeds(report),
        tasks=views.tasks(report),
        histories=len(report.records) <= views.MOST_HISTORIES,
        most_histories=views.MOST_HISTORIES,
        most_open=MOST_OPEN,
        head=origins.brief(report),
        facts=origins.facts(report.records),
        readings=origins.readings(report.rows),
        share=summary.share_percent,
        by_step=summary.by_step,
        mean_count=summary.mean_count,
        mean_cost=views.mean_cost,
        phase_percent=views.phase_percent,
        place=views.place,
        digits_of=digits_of,
    )


def render_template(name: str, **context: Any) -> str:
    """A page from a template that extends base.html; style and script are put in here."""
    style = (TEMPLATES / "style.css").read_text("utf-8")
    # Paper is light.
    dark = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark_variables()} }} }}"
    script = (TEMPLATES / "page.js").read_text("utf-8")
    return (
        _environment()
        .get_template(name)
        .render(
            style=Markup(f"{style}{dark}"),
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
    environment.filters.update(
        fixed=numbers.fixed,
        signed=numbers.signed,
        percent=numbers.percent,
        count=numbers.count,
        seconds=numbers.seconds,
        size=numbers.size,
        slots=slots,
        classes=classes,
        sentence=sentence,
        unbroken=unbroken,
        inlined=lambda figure: Markup(inline(figure.svg, figure.title)),
    )
    return environment


def slots(table: Table) -> list[Slots]:
    """For each column of a table, what its cells must leave room for."""
    columns = zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns)
    return [
        Slots(
            any(cell.mark is not None for cell in column),
            # With its sign.
            max((len(cell.spread) + 1 for cell in column if cell.spread), default=0),
            any(cell.spread_mark is not None for cell in column),
        )
        for column in columns
    ]


def classes(cell: Cell) -> str:
    """The classes of a table's cell."""
    names = [cell.tone] if cell.tone else []
    if cell.value is None and cell.text in ("", DASH):
        names.append("none")
    if len(cell.text) > LONG:
        names.append("long")
    elif len(cell.note) > LONG:
        names.append("wordy")
    return " ".join(names)


def unbroken(note: str) -> str:
    """A note whose lines do not end between a statistic's name and its value, as in "p 0.05"."""
    return re.sub(r"\b(paper t|paper|Holm|p|g|n =) (?=[<\d\N{MINUS SIGN}])", _joined, note)


def _joined(found: re.Match[str]) -> str:
    return f"{found[1]} ".replace(" ", "\N{NO-BREAK SPACE}")


def sentence(text: str) -> str:
    """A title, closed by a full stop if it is not closed already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _unless_said(table: Table, said: Container[str]) -> Table:
    """A table without the notes that the page says elsewhere, and more fully."""
    return replace(table, notes=tuple(n for n in table.notes if n.casefold() not in said))


def _notes_on(parts: Parts) -> dict[str, list[int]]:
    """Name of a table or figure -> the numbers of the oddities that concern what it shows of the
    published values."""
    places = {figure.name: figure.beside for figure in parts.figures}
    for name, (field_name, sources) in BESIDE.items():
        if name in parts.tables and parts.tables[name].holds(field_name):
            places[name] = sources
    found = {
        name: [i for i, odd in enumerate(parts.oddities, 1) if {*sources} & {*odd.places}]
        for name, sources in places.items()
    }
    return {name: numbers for name, numbers in found.items() if numbers}
