"""The page: self-contained, escaped, and drawn from the numbers."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from test_report_support import failure, plan, provenance, record, write

from jiant_sparse.report import build, drawing

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"


class Tags(HTMLParser):
    """Collects every tag, its attributes and the text inside scripts; notes unbalanced tags."""

    VOID = ("meta", "circle", "polyline", "path", "br", "link", "img")

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


def page_of(directory: Path) -> str:
    return build(directory).page.read_text("utf-8")


def test_records_cannot_write_into_the_page(tmp_path: Path) -> None:
    setting = {"model": ATTACK, "split": ATTACK, "note": ATTACK}
    origin = provenance(versions={ATTACK: ATTACK}, device=ATTACK, commit=ATTACK, started=ATTACK)
    hostile = record("rte", "sam", 0, setting=setting, provenance=origin, inputs={ATTACK: ATTACK})
    hostile = hostile.model_copy(update={"metrics": {"test": {ATTACK: 0.5}}})
    directory = write(tmp_path, hostile, failure("rte", "sam", 1, ATTACK))
    odd = directory / "rte" / "<script>alert(3)<" / "seed-1"
    odd.mkdir(parents=True)
    (odd / "record.json").write_text("{}")
    page = page_of(directory)
    tags = Tags(page)
    assert len(tags.scripts) == 1 and "alert" not in tags.scripts[0]
    assert not tags.open
    assert not {"img", "iframe", "link", "object"} & {tag for tag, _ in tags.seen}
    assert not [name for _, attrs in tags.seen for name in attrs if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page and "{{ 7 * 7 }}" in page


def test_labels_cannot_write_into_the_page(tmp_path: Path) -> None:
    label = "<script>alert(4)<"
    setting = {"task": {"name": label, "like": label}, "method": {"name": label}}
    page = page_of(write(tmp_path, record(label, '"onload="x', 0, setting=setting)))
    assert len(Tags(page).scripts) == 1 and "<script>alert" not in page


def test_page_loads_nothing_and_pins_its_script(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0), record("rte", "lora", 0))
    page = page_of(directory)
    tags = Tags(page)
    addresses = [a for _, attrs in tags.seen for n, a in attrs.items() if n in ("src", "href")]
    assert addresses == ["#results"]
    assert not re.search(r"https?://|@import|url\(", page)
    digest = base64.b64encode(hashlib.sha256(tags.scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    assert len(page) < 40_000


def test_page_is_the_same_twice_and_goes_where_it_is_told(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0))
    first, second = build(directory), build(directory, tmp_path / "elsewhere")
    assert first.page == directory / "report" / "index.html"
    assert second.page == tmp_path / "elsewhere" / "index.html"
    assert first.page.read_bytes() == second.page.read_bytes()
    assert sorted(path.name for path in second.page.parent.iterdir()) == [
        *("index.html", "table.csv", "table.md")
    ]


def test_page_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    later = provenance(
        dirty=True, pooler=None, started="2026-11-21T01:00:00+01:00", finished="not a time"
    )
    directory = write(
        tmp_path,
        *(record("rte", "sam", k) for k in (0, 1)),
        record("rte", "sam", 2, provenance=later),
    )
    page = page_of(directory)
    assert "<dt>commit</dt><dd>0123456789ab (2 cells); 0123456789ab with uncommitted ch" in page
    assert "<dt>pooler</dt><dd>initialised (2 cells); never loaded (1 cell)</dd>" in page
    assert "<dt>torch</dt><dd>2.13.0</dd>" in page
    assert "<dt>run</dt><dd>2026-11-20 08:00 to 2026-11-20 09:30 UTC</dd>" in page
    assert "<dt>examples left out</dt><dd>3 of train</dd>" in page


def test_cells_open_into_metrics_costs_and_settings(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0, 0.7), failure("rte", "sam", 1, "boom"))
    plan(["rte"], ["sam"], 2).write(directory)
    page = page_of(directory)
    assert '<th scope="row">test acc</th><td>70.00</td><td class="none">–</td>' in page
    assert "83.2 s" in page and "52.3 kB" in page and "1\u202f538" in page
    assert "&#34;density&#34;: 0.005" in page and "b" * 64 in page
    assert page.count('class="spark"') == 1 and page.count('class="strip"') == 1
    assert "settings and inputs of seeds 0, 1" in page


def test_sparkline_breaks_where_undefined_and_marks_the_best() -> None:
    history = [(0, 0.0), (100, 0.5), (200, None), (300, 1.0)]
    drawn = drawing.sparkline(history, 300, (0.0, 1.0))
    assert re.findall(r'points="([^"]+)"', drawn) == ["4,18 41.33,11"]
    assert '<circle cx="116" cy="4" r="2.2"/>' in drawn
    assert drawing.sparkline([(0, None)], None, (0.0, 1.0)) == ""
    assert drawing.sparkline([], None, None) == ""


def test_a_long_history_is_thinned_and_keeps_its_best() -> None:
    history = [(step, step % 7 / 7) for step in range(5000)]
    drawn = drawing.sparkline(history, 4321, (0.0, 1.0))
    assert len(drawn) < 2000 and 'r="2.2"' in drawn


def test_strip_draws_every_seed_on_the_common_scale() -> None:
    drawn = drawing.strip([50.0, 70.0], 60.0, (50.0, 90.0))
    assert re.findall(r'cx="([^"]+)"', drawn) == ["4", "60"]
    assert "M32 4V18" in drawn
    # One value alone stands in the middle.
    assert 'cx="60"' in drawing.strip([50.0], 50.0, (50.0, 50.0))
