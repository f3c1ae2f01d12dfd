"""The page's text: self-contained, escaped, and made of the numbers."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.pages import ATTACK, content_of, hostile_page, ordinary, page_of, table_of
from support.records import failure, record, write

from jiant_sparse.report import page, tables
from jiant_sparse.report.figures import Figure
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.oddities import Oddity
from jiant_sparse.report.page import Content, render_page, render_template
from jiant_sparse.report.table import Cell, Table

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Frame, Content]:
    """An ordinary benchmark and all that stands beside it; figures take their time."""
    frame = load(ordinary(tmp_path_factory.mktemp("ordinary")))
    return frame, content_of(frame)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> str:
    """A page whose records, tables and verdicts are attacks."""
    return hostile_page(tmp_path_factory.mktemp("hostile"))


def bare(directory: Path) -> str:
    """The page of nothing but the frames."""
    return render_page(load(directory))


def test_records_cannot_write_into_the_page(attacked: str) -> None:
    text = attacked
    tags = Tags(text)
    assert len(tags.scripts) == 1 and "alert" not in tags.scripts[0]
    assert not tags.open
    assert not {"img", "iframe", "link", "object"} & {tag for tag, _ in tags.seen}
    assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "{{ 7 * 7 }}" in text
    assert not re.search(r"<script>alert|<img", text)


def test_page_loads_nothing_and_pins_its_script(whole) -> None:
    text = render_page(*whole)
    tags = Tags(text)
    assert not tags.open and not tags.values("src")
    outside = {a for a in tags.values("href") if not a.startswith("#")}
    assert outside and all(re.fullmatch(r"(tables|figures)/\w+\.\w+", a) for a in outside)
    assert not re.search(r"https?://|@import|url\((?!#)", re.sub(NAMESPACES, "", text))
    (script,) = tags.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text


def test_every_address_inside_the_page_leads_somewhere_and_ids_are_unique(
    whole, attacked: str
) -> None:
    for text in (render_page(*whole), attacked):
        tags = Tags(text)
        ids = [attrs["id"] for tag, attrs in tags.seen if "id" in attrs]
        assert len(ids) == len(set(ids))
        inside = {a[1:] for tag, a in _links(tags) if a.startswith("#")}
        assert inside <= set(ids) and len(inside) > 10


def _links(tags: Tags) -> list[tuple[str, str]]:
    return [(tag, attrs["href"]) for tag, attrs in tags.seen if tag == "a"]


def test_page_is_the_same_twice(tmp_path: Path, whole) -> None:
    assert page_of(ordinary(tmp_path)) == render_page(*whole)


def test_page_of_700_records_stays_below_its_limits(tmp_path: Path) -> None:
    long = [(500 * i, 0.5 + i / 200) for i in range(60)]
    cells = [record("rte", m, k, history=long) for m in ("sam", "lora") for k in range(10)]
    few = len(bare(write(tmp_path / "few", *cells[:1])))
    many = len(bare(write(tmp_path / "many", *cells)))
    assert (many - few) / (len(cells) - 1) * 700 < 4_000_000


def test_many_errors_are_shown_closed(tmp_path: Path) -> None:
    few = [failure("rte", "sam", k, f"boom {k}") for k in range(page.MOST_OPEN)]
    assert bare(write(tmp_path / "a", *few)).count('class="failed" open') == len(few)
    more = [*few, failure("rte", "sam", 99, "boom")]
    text = bare(write(tmp_path / "b", *more))
    assert 'class="failed" open' not in text and text.count('class="failed"') == len(more)


def test_the_most_frequent_answer_is_drawn_and_said(tmp_path: Path) -> None:
    cells = [record("wsc", m, k, 0.6 + k / 20) for m in ("sam", "lora") for k in range(3)]
    text = bare(write(tmp_path / "a", *cells))
    assert "always the most frequent answer: 63.46" in text
    assert text.count('class="usual"') == 2 and "The dashed line is what always" in text
    far = [record("wsc", "sam", k, 0.9 + k / 100) for k in range(3)]
    assert bare(write(tmp_path / "b", *far)).count('class="beyond"') == 1
    other = [record("stsb", "sam", k, 0.9 + k / 100) for k in range(3)]
    text = bare(write(tmp_path / "c", *other))
    assert "most frequent" not in text and 'class="usual"' not in text


def test_oddities_are_numbered_and_linked_from_what_they_concern(whole) -> None:
    frame, content = whole
    odd = [Oddity(("text",), "First."), Oddity(("Fig. 4", "Table 1"), "Second <b>.")]
    text = render_page(frame, replace(content, oddities=odd))
    assert '<li id="note-2"><b>Fig. 4, Table 1.</b> Second &lt;b&gt;.</li>' in text
    assert text.count('<a href="#note-2">note 2</a>') == 2 and '"#note-1"' not in text
    assert '<a href="#notes">' in text
    assert '<a href="#notes">' not in render_page(frame, Content())


def test_oddities_are_linked_only_from_what_shows_published_values(whole) -> None:
    frame, content = whole
    odd = [Oddity((f"Table {number}",), f"{number}.") for number in (1, 3, 4, 5)]

    def links(reference: str, figure: Figure | None = None) -> dict[str, list[str]]:
        made = tables.make(frame, reference, ())
        kept = {table.name: table for table in made}
        shown = Content(tables=kept, oddities=odd, figures=[figure] if figure else [])
        return page._notes_on(shown)

    plain = {"published": [1], "time_to_stop": [2], "parameters": [3]}
    assert links("sam") == {**plain, "significance_pooled": [4]}
    assert links("lora") == plain
    figure = replace(content.figures[0], name="time_memory", beside=("Table 3", "Table 1"))
    assert links("lora", figure) == {**plain, "time_memory": [1, 2]}
    text = render_page(frame, replace(content, oddities=odd, figures=[figure]))
    drawn = re.search(r"<figure>.*?</figure>", text, re.S)[0]
    assert "note 1</a>" in drawn and "note 2</a>" in drawn and "note 3</a>" not in drawn


def test_verdicts_show_their_numbers(whole) -> None:
    frame, content = whole
    counted = replace(content.verdicts[0], estimate=5.0, interval=(4.0, 6.0))
    assert counted.claim.number == "1"
    known = replace(
        content.verdicts[2],
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
    text = render_page(frame, replace(content, verdicts=[known, unknown, counted]))
    one, two, three = re.findall(r"<li>\n<p class=\"claim\">.*?</li>", text, re.S)
    assert '<p class="state not-supported">not supported</p>' in one and "Because." in one
    assert "<dt>points</dt><dd>−1.23 <span" in one and "[−2.00, −0.50]" in one
    assert "1.30 % of resamples" in one and "1\u202f200" in one and "5 of 9" in one
    # A number of methods has no decimals.
    assert "<dd>5 <span" in three and "[4, 6]" in three
    assert "resamples" not in two and "points" not in two and "state not-enough-data" in two


def test_figures_are_inlined_and_absent_ones_explained(whole) -> None:
    frame, content = whole
    text = render_page(frame, replace(content, absent_figures=[("learning_curves", "no history")]))
    assert text.count("<figure>") == len(content.figures) > 0
    assert '<b class="calm">learning curves</b> no history' in text
    assert text.count('class="figure"') == len(content.figures) and "<?xml" not in text
    assert all(f"<title>{figure.title}</title>" in text for figure in content.figures)
    assert "<figure>" not in render_page(frame, Content())


def test_tables_stand_in_their_sections_and_none_is_lost(whole) -> None:
    frame, _ = whole
    rows = ((Cell("x"), Cell("1", value=1.0)),)
    # The table of several sets has a page of its own.
    names = [name for name in Table.NAMES if name != "comparison"]
    made = {name: table_of(*rows, name=name, title=f"T {name}") for name in names}
    text = render_page(frame, Content(tables=made))
    sections = dict(re.findall(r'<section id="(\w+)">(.*?)\n</section>', text, re.S))
    assert "caption-time_to_best" in sections["cost"] and "caption-parameters" in sections["cost"]
    assert "caption-significance_welch" in sections["significance"]
    for name in names:
        assert (f'id="caption-{name}"' in text) == (name != "verdicts"), name


def test_a_tables_note_that_the_page_says_above_is_not_said_twice(tmp_path: Path) -> None:
    text = page_of(write(tmp_path, record("rte", "sam", 0, setting={"model": "other-model"})))
    section = re.search(r'<section id="published">(.*?)\n</section>', text, re.S)[1].lower()
    assert section.count("not comparable: model is other-model") == 1
    assert "caption-published" in section


def test_a_template_is_given_style_script_and_digest() -> None:
    text = render_template("base.html")
    (script,) = Tags(text).scripts
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in text
    assert ATTACK not in text and "--paper" in text
