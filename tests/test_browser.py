"""The page in headless Chromium: what a reader can do with it and see of it."""

import shutil
from collections.abc import Iterator

import pytest
from support.contrast import FAINT
from support.pages import ATTACK, LABEL, hostile_page, ordinary, ordinary_content

from jiant_sparse.report.comparison import compare
from jiant_sparse.report.page import render_page

driver = pytest.importorskip(
    "playwright.sync_api", reason="no browser tests: playwright is not installed"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PHONE = {"width": 360, "height": 740}
OPEN_ALL = "document.querySelectorAll('details').forEach((details) => { details.open = true })"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser tests: none of {', '.join(NAMES)} is installed")
    with driver.sync_playwright() as play:
        running = play.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """The page of ordinary records."""
    frame, content = ordinary_content()
    page = tmp_path_factory.mktemp("ordinary") / "index.html"
    page.write_text(render_page(frame, **content), "utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> str:
    """The page of records that attack it."""
    page = tmp_path_factory.mktemp("hostile") / "index.html"
    page.write_text(hostile_page(), "utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> str:
    """The page of two sets that differ, under long names."""
    directory = tmp_path_factory.mktemp("compared")
    sets = [ordinary(directory / name) for name in ("one", "another")]
    for path in sets[1].rglob("record.json"):
        path.write_text(path.read_text("utf-8").replace("0123456789", "f" * 10), "utf-8")
    return compare(sets).page.as_uri()


class Watched:
    """A page, and everything that it asks for, complains of or pops up."""

    def __init__(self, browser, address: str, **options) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("requestfailed", lambda request: self.said.append(f"failed {request.url}"))
        self.page.goto(address)

    def _dialog(self, dialog) -> None:
        self.said.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def column(self, head: str) -> list[str]:
        """The sortable values of a column of the main table, "" where unknown."""
        return self.page.evaluate(
            """(head) => {
              const table = document.querySelector("#results table");
              const titles = [...table.tHead.rows[0].cells].map((c) => c.textContent.trim());
              const at = titles.findIndex((title) => title.startsWith(head));
              return [...table.tBodies[0].rows].map((r) => r.cells[at].dataset.v ?? "");
            }""",
            head,
        )

    def sizes(self) -> tuple[int, int]:
        """The widths of the window and of what is in it."""
        return tuple(self.page.evaluate("[innerWidth, document.documentElement.scrollWidth]"))


@pytest.fixture
def watch(browser) -> Iterator:
    """Opens a page; at the end of the test it must have been quiet and asked for itself alone."""
    opened: list[Watched] = []

    def start(address: str, **options) -> Watched:
        opened.append(Watched(browser, address, **options))
        return opened[-1]

    yield start
    for watched in opened:
        watched.page.close()
        assert watched.said == []
        assert len(set(watched.asked)) == 1 and watched.asked[0].startswith("file://")


def test_columns_sort_and_the_unknown_stays_last(watch, address: str) -> None:
    watched = watch(address)
    before = watched.column("CB")
    known = [value for value in before if value]
    # The failed method's, between others.
    assert before[3] == "" and before != sorted(before)
    head = watched.page.get_by_role("columnheader", name="CB").first
    button = watched.page.locator("#results th button", has_text="CB")
    assert head.get_attribute("aria-sort") is None
    button.click()
    assert watched.column("CB") == [*sorted(known, key=float, reverse=True), ""]
    assert head.get_attribute("aria-sort") == "descending"
    button.focus()
    watched.page.keyboard.press("Enter")
    assert watched.column("CB") == [*sorted(known, key=float), ""]
    assert head.get_attribute("aria-sort") == "ascending"
    watched.page.locator("#results th button", has_text="RTE").click()
    assert head.get_attribute("aria-sort") is None
    assert watched.column("CB")[-1] != ""
    # Words sort by their letters.
    watched.page.locator("#results th button", has_text="method").click()
    names = watched.page.locator("#results tbody th").all_inner_texts()
    firsts = [name.split()[0] for name in names]
    assert len(firsts) > 4 and firsts == sorted(firsts, reverse=True)


def test_a_cell_opens_by_click_and_keyboard(watch, address: str) -> None:
    watched = watch(address)
    page = watched.page
    cell = page.locator('[id="rte/sam/seed-1"]')
    assert not cell.is_visible()
    page.locator("summary", has_text="Cells of RTE").click()
    page.locator("summary", has_text="rte / sam").press("Enter")
    group = page.locator('[id="rte/sam/"]')
    assert group.is_visible() and not cell.is_visible()
    group.locator("summary", has_text="seed 1").press("Space")
    assert cell.is_visible()
    assert cell.locator("svg.plot text").first.is_visible()
    assert "0123456789ab" in cell.inner_text()


def test_an_address_opens_its_cell(watch, address: str) -> None:
    watched = watch(f"{address}#cb/random/seed-2")
    page = watched.page
    assert page.locator('[id="cb/random/seed-2"]').is_visible()
    # And a link inside the page.
    other = page.locator('[id="cb/random/seed-0"]')
    assert not other.is_visible()
    page.locator('[id="cb/random/"] th a', has_text="0").click()
    other.wait_for(state="visible", timeout=2000)
    # Where the browser itself opens nothing.
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = false })")
    page.evaluate("dispatchEvent(new HashChangeEvent('hashchange'))")
    assert other.is_visible()
    watched.asked = [address]


def test_odd_names_can_be_linked(watch, attacked: str) -> None:
    page = watch(attacked).page
    page.locator("summary", has_text="Cells of").click()
    page.locator("details.group > summary").click()
    page.locator(".group th a", has_text="2").click()
    page.locator('[id$="/seed-2"]').wait_for(state="visible", timeout=2000)
    assert not page.locator('[id$="/seed-1"]').is_visible()


def test_keyboard_reaches_all_and_focus_shows(watch, address: str) -> None:
    page = watch(address).page
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        place = page.evaluate(
            """() => {
              const at = document.activeElement, style = getComputedStyle(at);
              if (at === document.body) return null;
              const box = at.getBoundingClientRect();
              return [at.localName, at.textContent.trim(), at.getAttribute("role"),
                style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1.5
                && box.right > 0 && box.bottom > 0];
            }"""
        )
        if place is not None:
            reached.append(place)
    assert reached[0][:2] == ["a", "To the numbers"]
    assert [name for name, *_, visible in reached if not visible] == []
    kinds = {name for name, *_ in reached}
    assert {"a", "button", "summary"} <= kinds and "region" in {role for *_, role, _ in reached}
    assert {"Results", "Verdicts", "Task by task", "Provenance"} <= {
        text for _, text, *_ in reached
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(watch, address: str, scheme: str) -> None:
    page = watch(address, color_scheme=scheme).page
    page.evaluate(OPEN_ALL)
    found = page.evaluate(FAINT)
    assert found["seen"] > 1000
    assert found["faint"] == []
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) > 380) == (scheme == "light")


def test_contrast_check_sees_faint_text(watch, address: str) -> None:
    page = watch(address).page
    for added in (
        '<p style="color: #999">faint</p>',
        '<p style="opacity: .5">faint</p>',
        '<p style="background: rgba(0, 0, 0, .6)">faint</p>',
        '<p style="background: #211f1b"><b style="font-weight: 400">faint</b></p>',
        '<svg><text y="9" style="fill: #bbb">faint</text></svg>',
        '<svg><text y="9" style="fill-opacity: .4">faint</text></svg>',
    ):
        page.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", added)
        assert [text for text, *_ in page.evaluate(FAINT)["faint"]] == ["faint"], added
        page.evaluate("document.body.lastElementChild.remove()")


def test_a_phone_scrolls_tables_not_the_page(watch, address: str, attacked: str) -> None:
    for where in (address, attacked):
        watched = watch(where, viewport=PHONE)
        assert watched.sizes() == (360, 360)
        watched.page.evaluate(OPEN_ALL)
        assert watched.sizes() == (360, 360)
        region = watched.page.locator("#results .scroll").first
        assert region.evaluate("(e) => e.scrollWidth > e.clientWidth")


def test_print(watch, address: str) -> None:
    page = watch(address, color_scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for part in ("#results table", "#verdicts ol", "#published table", "#figures svg", "#gaps"):
        assert page.locator(part).first.is_visible(), part
    assert page.locator("#gaps pre").inner_text().startswith("RuntimeError: diverged")
    for part in ("nav", "details.cells > summary", ".files"):
        assert not page.locator(part).first.is_visible(), part
    assert page.evaluate(FAINT)["faint"] == []
    page.set_viewport_size({"width": 1020, "height": 700})
    clipped = "[...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > 1020).length"
    assert page.evaluate(clipped) == 0
    # With a button that has a box, Chromium does not repeat the head on the next sheet.
    for part, name, value in (
        (".scroll", "overflowX", "visible"),
        ("#results thead", "breakInside", "avoid"),
        ("#results th button", "display", "contents"),
    ):
        for element in page.locator(part).all():
            assert element.evaluate(f"(e) => getComputedStyle(e).{name}") == value, part
    # A sheet is 182 mm high inside its margins; 1 mm is 96 / 25.4 pixels.
    for drawn in page.locator("figure .drawn svg").all():
        assert drawn.bounding_box()["height"] <= 140 * 96 / 25.4 + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_comparison(watch, compared: str, scheme: str) -> None:
    page = watch(compared, color_scheme=scheme).page
    found = page.evaluate(FAINT)
    assert found["seen"] > 100
    assert found["faint"] == []
    first = page.locator("#comparison tbody th").first
    before = first.inner_text()
    page.locator("#comparison th button").first.click()
    assert first.inner_text() != before
    # A head stands over what is below it.
    left = "(e) => e.getBoundingClientRect().left + parseFloat(getComputedStyle(e).paddingLeft)"
    head = page.locator("#differences thead th button").nth(1)
    cell = page.locator("#differences tbody td").first
    at = cell.evaluate(left)
    assert abs(head.evaluate("(e) => e.getBoundingClientRect().left") - at) < 2
    watched = watch(compared, viewport=PHONE, color_scheme=scheme)
    assert watched.sizes() == (PHONE["width"], PHONE["width"])


def test_sections_stay_on_top_where_there_is_room(watch, address: str) -> None:
    page = watch(address).page
    for width, height, position in (
        (1300, 900, "sticky"),
        # A usual window at 200 %.
        (650, 450, "static"),
        (1300, 450, "static"),
        (360, 740, "static"),
    ):
        page.set_viewport_size({"width": width, "height": height})
        nav = page.locator("nav")
        assert nav.evaluate("(e) => getComputedStyle(e).position") == position
        nav.locator("a", has_text="Provenance").click()
        page.wait_for_timeout(100)
        covered = nav.bounding_box() if position == "sticky" else {"y": 0, "height": 0}
        top = page.locator("#provenance h2").bounding_box()["y"]
        assert top >= covered["y"] + covered["height"]


def test_strings_of_records_stay_text(watch, attacked: str) -> None:
    page = watch(attacked).page
    page.evaluate(OPEN_ALL)
    page.wait_for_timeout(200)
    assert page.locator("img, iframe, object, embed, link").count() == 0
    assert page.locator("script").count() == 1 and page.locator("#results").count() == 1
    handlers = "(e) => [...e.attributes].some((a) => a.name.startsWith('on'))"
    assert page.evaluate(f"[...document.querySelectorAll('*')].some({handlers})") is False
    text = page.evaluate("document.body.innerText")
    assert text.count(ATTACK) > 20 and LABEL in text and "<script>alert(5)<" in text
    assert "49" not in text.split("alert(2)>")[1][:20]
