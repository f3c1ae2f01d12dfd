"""Any table, as a part of a page."""

import re
from dataclasses import replace

import pytest
from support.pages import table_of

from jiant_sparse.report import page
from jiant_sparse.report.table import Cell, Column, Table

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
    table = table_of((Cell("x <y>", note="n"), Cell()), notes=("Note & note.",), title="Done?")
    text = drawn(table)
    assert "<b>Done?</b> Caption.</p>" in text and "<li>Note &amp; note.</li>" in text
    assert '<th scope="row">x &lt;y&gt;<small>n</small></th>' in text
    assert '<th scope="col">c1<small>unit</small></th>' in text
    for ending in ("csv", "md", "tex"):
        assert f'<a href="tables/results.{ending}">' in text
    assert "<b>" not in drawn(table, "table(item, titled=false)")
    assert "<b>Title.</b>" in drawn(replace(table, title="Title"))
    assert "<tbody>" in drawn(replace(table, rows=()))


def test_a_long_head_is_broken_into_lines() -> None:
    long = "a (0123456789) minus b"
    columns = (Column("a"), Column(long), Column("t", long), Column("x" * 20, "y" * 20))
    table = table_of((Cell("a"), Cell("1"), Cell("2"), Cell("3")), columns=columns)
    heads = re.findall(r'<th scope="col"([^>]*)>', drawn(table))
    assert heads == ["", ' class="broad"', ' class="broad"', ""]


def test_a_note_is_not_broken_between_a_name_and_its_value() -> None:
    space = "\N{NO-BREAK SPACE}"
    note = "p 0.350, Holm 1.000, g \N{MINUS SIGN}0.69; paper t 3.81, p <0.005"
    said = f"p{space}0.350, Holm{space}1.000, g{space}\N{MINUS SIGN}0.69; "
    assert page.unbroken(note) == f"{said}paper{space}t{space}3.81, p{space}<0.005"
    assert page.unbroken("3 missing, sleep 5") == "3 missing, sleep 5"
