"""A table as Markdown, LaTeX, CSV and text: nothing lost, nothing foreign in command."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from support.pages import table_of

from jiant_sparse.report.render import fits, to_csv, to_latex, to_markdown, to_text
from jiant_sparse.report.table import Cell, Column, Table

HOSTILE = [
    "a|b",
    r"a\|b\\",
    "<b>bold</b><!--",
    "[x](http://evil.example)",
    "https://evil.example www.evil.example a@evil.example",
    "`code` *star* _line_ ~~gone~~",
    "&amp; &lt; 50% $x^2$ #1 {a} ~ ^",
    "two\nlines\r\n\x1b[2J\u202e",
    "\\end{document} \\input{x} $ % comment",
    "[2] after a row",
    "* after a row",
    "- list",
    "1. list",
    "# head",
    "---",
    "=1+1",
    "",
]


SCORE = Cell("76.79", 76.79, rank=1, spread="1.72", spread_rank=2)
PAPER = table_of((Cell("sam"), SCORE), (Cell("lora"), Cell("9.5", 9.5, rank=4, spread="12.00")))


def test_marks_and_spreads_stand_as_in_the_paper() -> None:
    assert r"sam & 76.79$_{[1]}$ $\pm$ 1.72$_{[2]}$ \\" in to_latex(PAPER)
    assert r"lora & 9.5 $\pm$ 12.00 \\" in to_latex(PAPER)
    assert "| sam      | 76.79 (1) ± 1.72 (2) |" in to_markdown(PAPER)
    assert "| lora     |          9.5 ± 12.00 |" in to_markdown(PAPER)


def test_text_stands_to_the_right() -> None:
    assert to_text(PAPER).splitlines()[2:] == [
        "",
        "                         c1",
        "method                  acc",
        "───────────────────────────",
        "sam     76.79 (1) ±1.72 (2)",
        "lora             9.5 ±12.00",
    ]


def test_words_in_a_column_of_numbers_are_not_pushed() -> None:
    rows = [(Cell("sam"), SCORE), (Cell("lora"), Cell("4 missing", rank=None, tone="alarm"))]
    assert to_text(table_of(*rows)).splitlines()[-1] == "lora              4 missing"


@pytest.mark.parametrize(("tone", "bold"), [("good", True), ("quiet", False), ("alarm", False)])
def test_what_stands_out_is_bold(tone: str, bold: bool) -> None:
    shown = table_of((Cell("sam"), Cell("76.79", 76.79, rank=1, tone=tone)))
    assert ("**76.79** (1)" in to_markdown(shown)) == bold
    assert (r"\textbf{76.79}$_{[1]}$" in to_latex(shown)) == bold


def test_notes_of_cells_are_second_lines() -> None:
    shown = table_of((Cell("sam", note="sam_key"), Cell("1.00", 1.0, note="n = 2, 1 failed")))
    assert r"| sam<br>sam\_key | 1.00<br>n = 2, 1 failed |" in to_markdown(shown)
    assert to_text(shown).splitlines()[-2:] == [
        "sam                 1.00",
        "sam_key  n = 2, 1 failed",
    ]
    latex = to_latex(shown).splitlines()
    row = latex.index(r"sam & 1.00 \\")
    assert latex[row + 1] == r"{\scriptsize sam\_key} & {\scriptsize n = 2, 1 failed} \\"


def test_title_caption_notes_and_heads_are_in_every_form() -> None:
    shown = table_of((Cell("sam"), SCORE), notes=("First note.", "Second note."))
    for render in (to_markdown, to_latex, to_text):
        said = render(shown)
        for part in ("Title", "Caption.", "First note.", "Second note.", "method", "c1"):
            assert part in said, render
        assert "acc" in said and said.endswith("\n") and not said.endswith("\n\n")
    assert to_markdown(shown).endswith("- First note.\n- Second note.\n")


# --- Markdown


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_reads_back_as_it_was(text: str) -> None:
    """With a reader of GitHub's dialect: one table, its cells the strings, nothing else made."""
    cell = Cell(text, spread=text, note=text)
    shown = table_of(
        (Cell(text), cell), (Cell("last"), Cell("1")), title=text, caption=text, notes=(text,)
    )
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = reader.parse(to_markdown(shown))
    kinds = [token.type for token in tokens if token.level == 0 and token.nesting == 1]
    caption = ["paragraph_open"] if plain(text) else []
    assert kinds == ["heading_open", *caption, "table_open", "bullet_list_open"]
    inline = [token for token in tokens if token.type == "inline"]
    for token in inline:
        for child in token.children or ():
            allowed = child.type == "text_special" or child.type == "text"
            ours = child.type == "html_inline" and child.content in ("<br>", "<span>", "</span>")
            assert allowed or ours, (child.type, child.content)
    cells = [said(token) for token in inline]
    at = cells.index("last")
    spread = f" ± {plain(text)}" if text else ""
    note = f"\n{plain(text)}" if text else ""
    assert cells[at - 2 : at] == [plain(text), f"{plain(text)}{spread}{note}"]
    assert cells[-1] == plain(text) or not text


def said(token: Any) -> str:
    return "".join(
        "\n" if child.content == "<br>" else child.content
        for child in token.children or ()
        if child.content not in ("<span>", "</span>")
    )


def plain(text: str) -> str:
    return " ".join(text.split()).replace("\x1b", "\ufffd").replace("\u202e", "\ufffd")


def test_markdown_makes_no_links_and_no_formulas() -> None:
    shown = to_markdown(table_of((Cell("HTTPS://x www.x a@x $y$"), Cell("1", 1.0))))
    assert "://" not in shown.replace("&#58;//", "") and "www." not in shown and "@" not in shown
    assert "<span>$</span>y<span>$</span>" in shown


def test_numbers_stand_right_and_words_left() -> None:
    # The first column stands left even if it sorts by number.
    shown = table_of((Cell("0", 0.0), Cell("1", 1.0), Cell("word"), Cell("2", 2.0)))
    assert "|:---------|-----------:|:-----------|-----------:|" in to_markdown(shown)
    assert r"\begin{tabular}{lrlr}" in to_latex(shown)
    assert to_text(shown).splitlines()[-1] == "0         1  word    2"


# --- LaTeX


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_is_whole_whatever_the_strings_are(text: str) -> None:
    cell = Cell(text, spread=text, note=text)
    rows = [(Cell(text), cell, cell), (Cell(text), Cell("1", 1.0, 1, "2", 3), Cell())]
    columns = (Column(text, text),) * 3
    shown = table_of(*rows, columns=columns, title=text, caption=text, notes=(text, text))
    check_latex(to_latex(shown), 3)


def test_latex_wraps_words_and_scales_what_is_wide() -> None:
    long = to_latex(table_of((Cell("a"), Cell("word " * 20), Cell("1", 1.0), Cell("b"))))
    check_latex(long, 4)
    assert r"\begin{tabular}{lp{0.3\linewidth}rl}" in long
    assert "resizebox" not in long and "% Needs \\usepackage{booktabs}.\n" in long
    wide = to_latex(table_of(tuple(Cell("1", 1.0) for _ in range(7))))
    check_latex(wide, 7)
    assert r"\resizebox{\linewidth}{!}{%" in wide and "graphicx" in wide.splitlines()[0]


def test_latex_knows_its_letters() -> None:
    shown = to_latex(table_of((Cell("é – −1 ± × ρ ≥ … “q” ¬ 中 \U0001f600 ą"), Cell("1"))))
    assert (
        r"é -- $-$1 $\pm$ $\times$ $\rho$ $\geq$ \ldots{} ``q'' "
        r"{[}U+00AC{]} {[}U+4E2D{]} {[}U+1F600{]} {[}U+0105{]} & 1 \\"
    ) in shown


def test_latex_without_rows_and_notes_is_whole() -> None:
    shown = to_latex(table_of())
    check_latex(shown, 2)
    assert "minipage" not in shown


def check_latex(source: str, columns: int) -> None:
    """What pdflatex would stumble over, read by hand: environments and braces that do not close,
    rows of another width, specials that are not escaped, signs beyond Latin-1."""
    body = "\n".join(line for line in source.splitlines() if not line.startswith("%"))
    body = re.sub(r"%$", "", body, flags=re.MULTILINE)
    open_parts: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", body):
        if kind == "begin":
            open_parts.append(name)
        else:
            assert open_parts.pop() == name
    assert not open_parts and body.startswith(r"\begin{table}")
    assert body.endswith("\\end{table}")
    bare = re.sub(r"\\[\\{}$&#_%]", "", body)
    depth = 0
    for sign in bare:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    formulas = re.findall(r"\$([^$]*)\$", bare)
    assert bare.count("$") == 2 * len(formulas)
    for formula in formulas:
        assert re.fullmatch(r"-|\^2|_\{\[[123]\]\}|\\(pm|times|cdot|geq|leq|neq|rho)", formula)
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[~^#_%|<>\"]", outside), outside
    assert all(ord(sign) < 0x100 for sign in body)
    known = {
        *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule"),
        *("resizebox", "linewidth", "par", "smallskip", "footnotesize", "scriptsize", "textbf"),
        *("textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"),
        *("textbar", "ldots", "ss"),
    }
    assert set(re.findall(r"\\([A-Za-z]+)", outside)) <= known
    inside = re.search(r"\\toprule\n(.*)\\bottomrule", body, re.DOTALL)
    assert inside
    for line in inside[1].splitlines():
        if line == r"\midrule":
            continue
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == columns - 1, line
        # After the end of a row these would be its arguments.
        assert not line.startswith(("[", "*")), line


# --- CSV


def test_csv_is_exact_and_unknown_is_empty() -> None:
    lines = (
        ("a", 1 / 3),
        ("b", None),
        ("c", 90.0),
        ("d", 3.2112345e-8),
        ("e", -0.0),
        ("f", -0.00012345678),
        ("g", 2),
        ("h", 0.0),
    )
    rows = read(numbers(lines))
    assert [row["mean"] for row in rows] == [
        *("0.333333", "", "90.0", "3.211e-08", "0.0", "-0.0001235", "2", "0.0")
    ]
    assert to_csv(numbers(lines)).startswith("task,mean\na,0.333333\nb,\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_keeps_strings_and_commands_no_spreadsheet(text: str) -> None:
    (row,) = read(numbers([(text, 1)]))
    guarded = f"'{plain(text)}" if text[:1] in ("=", "-", "+", "@") and text else plain(text)
    assert row == {"task": guarded, "mean": "1"}


def numbers(lines: Sequence[tuple[str, Any]]) -> Table:
    return table_of(data=pd.DataFrame(lines, columns=["task", "mean"], dtype=object))


def read(shown: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(shown))))


# --- text


@pytest.mark.parametrize("width", [60, 80, 100])
def test_text_keeps_to_its_width_and_loses_nothing(width: int) -> None:
    words = "Most methods beat full tuning by their average: five of nine, in 61 % of resamples."
    rows = [
        (Cell("method " + "m" * 20), SCORE, Cell(words, tone="good"), Cell("1", 1.0, note=words)),
        (Cell("sam"), Cell(), Cell("short"), Cell("x" * 70)),
    ]
    lines = to_text(table_of(*rows, caption=words, notes=(words, "y" * 130)), width).splitlines()
    assert max(map(len, lines)) <= width
    everything = " ".join(" ".join(lines).split())
    assert everything.count("76.79 (1) ±1.72 (2)") == 1
    assert "".join(lines).count("x") >= 70 and "".join(lines).count("y") >= 130
    for word in words.split():
        assert everything.count(word) >= 3, word


def test_a_table_that_just_fits_is_not_folded() -> None:
    for last, pieces in ((26, 1), (27, 2)):
        words = [Cell("sam"), *(Cell("x" * width) for width in (24, last))]
        shown = table_of(tuple(words))
        assert fits(shown, 60) == (pieces == 1)
        lines = to_text(shown, 60).splitlines()
        assert sum(line.startswith("method") for line in lines) == pieces
        assert max(map(len, lines)) <= 60


def test_text_repeats_the_first_column_where_it_continues() -> None:
    rows = [(Cell(name), *(Cell("123.45", 1.0) for _ in range(12))) for name in ("sam", "lora")]
    lines = to_text(table_of(*rows), 60).splitlines()
    assert [line.split()[0] for line in lines if line[:1] in "sl" and line].count("sam") == 2
    assert sum(line.startswith("method") for line in lines) == 2
    assert sum(line.count("123.45") for line in lines) == 24


@pytest.mark.parametrize("text", HOSTILE)
def test_text_commands_no_terminal(text: str) -> None:
    cell = Cell(text, spread=text, note=text)
    shown = to_text(table_of((Cell(text), cell), title=text, caption=text, notes=(text,)))
    assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
