"""The page's text: self-contained, escaped, and made of the numbers."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.pages import content_of, hostile_page, ordinary_content, page_of, table_of
from support.records import failure, record, write

from jiant_sparse.report import page, published, tables
from jiant_sparse.report.frame import load
from jiant_sparse.report.oddities import Oddity
from jiant_sparse.report.page import render_page
from jiant_sparse.report.table import Cell, Column, Table

# Names of the two languages of a figure; nothing is loaded from there.
NAMESPACES = r' xmlns(:xlink)?="http://www.w3.org/(2000/svg|1999/xlink)"'


class Tags(HTMLParser):
    """Collects every tag, its attributes and the text inside scripts; notes unbalanced tags."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        # `p` and `li` are closed by hand in our templates, so nothing may be left open.
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def values(self, *names: str) -> list[str]:
        return [value for _, attrs in self.seen for name, value in attrs.items() if name in names]


def test_records_cannot_write_into_the_page() -> None:
    text = hostile_page()
    tags = Tags(text)
    assert len(tags.scripts) == 1 and "alert" not in tags.scripts[0]
    assert not tags.open
    assert not {"img", "iframe", "link", "object"} & {tag for tag, _ in tags.seen}
    assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "{{ 7 * 7 }}" in text
    assert not re.search(r"<script>alert|<img", text)


def test_page_loads_nothing_and_pins_its_script() -> None:
    frame, content = ordinary_content()
    text = render_page(frame, **content)
    tags = Tags(text)
    assert not tags.open and not tags.values("src")
    outside = {a for a in tags.values("href") if not a.startswith("#")}
    assert outside and all(re.fullmatch(r"(tables|figures)/\w+\.\w+", a) for a in outside)
    assert not re.search(r"https?://|@import|url\((?!#)", re.sub(NAMESPACES, "", text))
    (script,) = tags.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_links_and_ids() -> None:
    frame, content = ordinary_content()
    for text in (render_page(frame, **content), hostile_page()):
        tags = Tags(text)
        ids = tags.values("id")
        assert len(ids) == len(set(ids))
        inside = {a[1:] for a in tags.values("href") if a.startswith("#")}
        assert inside <= set(ids) and len(inside) > 10


def test_size_of_700_records(tmp_path: Path) -> None:
    history = [(500 * i, 0.5 + (i * 7919 % 97) / 1000) for i in range(60)]
    records = [
        record(task, method, seed, 0.6 + (seed * 31 + len(method) * 17) % 10 / 50, history=history)
        for task in ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")
        for method in published.METHODS
        for seed in range(10)
    ]
    assert len(records) == 700
    frame = load(write(tmp_path, *records))
    content = content_of(frame)
    assert all(len(figure.svg.encode()) < 150_000 for figure in content["figures"])
    assert len(render_page(frame, **content).encode()) < 5_000_000


def test_many_errors_are_shown_closed(tmp_path: Path) -> None:
    few = [failure("rte", "sam", k, f"boom {k}") for k in range(page.MOST_OPEN)]
    assert page_of(tmp_path / "a", *few).count('class="failed" open') == len(few)
    more = [*few, failure("rte", "sam", 99, "boom")]
    text = page_of(tmp_path / "b", *more)
    assert 'class="failed" open' not in text and text.count('class="failed"') == len(more)


def test_majority(tmp_path: Path) -> None:
    cells = [record("wsc", m, k, 0.6 + k / 20) for m in ("sam", "lora") for k in range(3)]
    text = page_of(tmp_path / "a", *cells)
    assert "always the most frequent answer: 63.46" in text
    assert text.count('class="usual"') == 2 and "The dashed line is what always" in text
    other = [record("stsb", "sam", k, 0.9 + k / 100) for k in range(3)]
    text = page_of(tmp_path / "b", *other)
    assert "most frequent" not in text and 'class="usual"' not in text


def test_oddities_are_linked_beside_published_values_only() -> None:
    frame, content = ordinary_content()
    odd = [Oddity((f"Table {number}",), f"<b>{number}.") for number in (1, 3, 4, 5)]
    figure = replace(content["figures"][0], name="time_memory", beside=("Table 3", "Table 1"))

    def links(reference: str) -> dict[str, list[str]]:
        """The numbers of the notes that the page names below each table and figure."""
        made = tables.make(frame, reference, ())
        text = render_page(frame, tables=made, oddities=odd, figures=[figure])
        assert '<li id="note-2"><b>Table 3.</b> &lt;b&gt;3.</li>' in text
        assert '<a href="#notes">' in text
        found: dict[str, list[str]] = {}
        at = ""
        named = r'(?:id="caption-|href="figures/)(\w+)|<a href="#note-\d">note (\d)</a>'
        for name, number in re.findall(named, text):
            at = name or at
            found.setdefault(at, []).extend(number)
        return {name: numbers for name, numbers in found.items() if numbers}

    plain = {"published": ["1"], "time_to_stop": ["2"], "parameters": ["3"]}
    plain["time_memory"] = ["1", "2"]
    assert links("sam") == {**plain, "significance_pooled": ["4"]}
    assert links("lora") == plain
    assert '<a href="#notes">' not in render_page(frame)


def test_verdicts_show_their_numbers() -> None:
    frame, content = ordinary_content()
    counted = replace(content["verdicts"][0], estimate=5.0, interval=(4.0, 6.0))
    assert counted.claim.number == "1"
    known = replace(
        content["verdicts"][2],
        state="not supported",
        reason="Because.",
        statistic="points",
        estimate=-1.234,
        interval=(-2.0, -0.5),
        share=0.013,
        runs=1200,
        published="5 of 9",
    )
    unknown = replace(known, estimate=None, interval=None, share=None, state="not enough data")
    text = render_page(frame, verdicts=[known, unknown, counted])
    one, two, three = re.findall(r"<li>\n<p class=\"claim\">.*?</li>", text, re.S)
    assert '<p class="state not-supported">not supported</p>' in one and "Because." in one
    assert "<dt>points</dt><dd>−1.23 <span" in one and "[−2.00, −0.50]" in one
    assert "1.30 % of resamples" in one and "1\u202f200" in one and "5 of 9" in one
    # A number of methods has no decimals.
    assert "<dd>5 <span" in three and "[4, 6]" in three
    assert "resamples" not in two and "points" not in two and "state not-enough-data" in two


def test_figures_and_absent_figures() -> None:
    frame, content = ordinary_content()
    figures = content["figures"]
    text = render_page(frame, figures=figures, absent={"learning_curves": "no history"})
    assert text.count("<figure>") == text.count('class="figure"') == len(figures) > 0
    assert '<b class="calm">learning curves</b> no history' in text and "<?xml" not in text
    assert all(f"<title>{figure.title}</title>" in text for figure in figures)
    assert "<figure>" not in render_page(frame)


def test_every_table_has_a_section() -> None:
    row = (Cell("x"), Cell("1", value=1.0))
    # The table of several sets has a page of its own.
    names = [name for name in Table.NAMES if name != "comparison"]
    frame, _ = ordinary_content()
    text = render_page(frame, tables=[table_of(row, name=name) for name in names])
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)\n</section>', text, re.S))
    assert "caption-time_to_best" in sections["cost"] and "caption-parameters" in sections["cost"]
    assert "caption-significance_welch" in sections["significance"]
    for name in names:
        assert (f'id="caption-{name}"' in text) == (name != "verdicts"), name


def test_no_note_is_said_twice(tmp_path: Path) -> None:
    frame = load(write(tmp_path, record("rte", "sam", 0, setting={"model": "other-model"})))
    text = render_page(frame, tables=tables.make(frame, None, ()))
    section = re.search(r'<section id="published">(.*?)\n</section>', text, re.S)[1].lower()
    assert section.count("not comparable: model is other-model") == 1
    assert "caption-published" in section


# any table, as a part of a page

LONG = "a text that is much too long for one line of a table"


def drawn(table: Table, call: str = "table(item)") -> str:
    """The table as the macro for any table writes it."""
    source = f'{{% from "macros.html" import table %}}{{{{ {call} }}}}'
    return page._environment().from_string(source).render(item=table)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        # What has no mark keeps its room, so that digits stand below digits.
        (
            [
                Cell("9", value=9.0, rank=1, spread="1.25", spread_rank=2),
                Cell("8", value=8.0, rank=4, spread="12.50", spread_rank=4),
            ],
            [
                '<td data-v="9.0">9<sup><span class="hear"> rank </span>1</sup>'
                '<i class="std" style="min-width:6ch">±1.25</i>'
                '<sup><span class="hear"> rank of the deviation </span>2</sup></td>',
                '<td data-v="8.0">8<sup></sup>'
                '<i class="std" style="min-width:6ch">±12.50</i><sup></sup></td>',
            ],
        ),
        # There is no room for what a column never has.
        ([Cell("9", value=9.0)], ['<td data-v="9.0">9</td>']),
        ([Cell()], ['<td class="none">–</td>']),
        ([Cell("low", tone="alarm")], ['<td class="alarm">low</td>']),
        ([Cell(LONG)], [f'<td class="long">{LONG}</td>']),
        (
            [Cell("1", value=1.0, note=LONG)],
            [f'<td class="wordy" data-v="1.0">1<small>{LONG}</small></td>'],
        ),
    ],
)
def test_cells(column: list[Cell], expected: list[str]) -> None:
    text = drawn(table_of(*((Cell("head"), cell) for cell in column)))
    assert re.findall(r"<td.*?</td>", text, re.S) == expected


def test_caption_notes_files_and_heads() -> None:
    long = "a (0123456789) minus b"
    columns = (Column("c0", "unit"), Column(long), Column("t", long), Column("x" * 20, "y" * 20))
    row = (Cell("x <y>", note="n"), Cell(), Cell(), Cell())
    table = table_of(row, columns=columns, notes=("Note & note.",), title="Done?")
    text = drawn(table)
    assert "<b>Done?</b> Caption.</p>" in text and "<li>Note &amp; note.</li>" in text
    assert '<th scope="row">x &lt;y&gt;<small>n</small></th>' in text
    assert '<th scope="col">c0<small>unit</small></th>' in text
    # A long head is broken into lines.
    heads = re.findall(r'<th scope="col"([^>]*)>', text)
    assert heads == ["", ' class="broad"', ' class="broad"', ""]
    for ending in ("csv", "md", "tex"):
        assert f'<a href="tables/results.{ending}">' in text
    assert "<b>" not in drawn(table, "table(item, titled=false)")
    assert "<b>Title.</b>" in drawn(replace(table, title="Title"))
    assert "<tbody>" in drawn(replace(table, rows=()))


def test_a_note_is_not_broken_between_a_name_and_its_value() -> None:
    space = "\N{NO-BREAK SPACE}"
    note = "p 0.350, Holm 1.000, g \N{MINUS SIGN}0.69; paper t 3.81, p <0.005"
    said = f"p{space}0.350, Holm{space}1.000, g{space}\N{MINUS SIGN}0.69; "
    assert page.unbroken(note) == f"{said}paper{space}t{space}3.81, p{space}<0.005"
    assert page.unbroken("3 missing, sleep 5") == "3 missing, sleep 5"
