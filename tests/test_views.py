"""What the page shows of groups and cells."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.pages import summary_of
from support.records import failure, plan, record, write

from jiant_sparse.report.page import render, views
from jiant_sparse.report.page.views import separate


def page_of(directory: Path) -> str:
    """The page of nothing but the summary."""
    return render(summary_of(directory))


def test_a_cell_says_all_of_itself(tmp_path: Path) -> None:
    directory = write(tmp_path, record("rte", "sam", 0, 0.7), failure("rte", "sam", 1, "boom"))
    plan(["rte"], ["sam"], 2).write(directory)
    text = page_of(directory)
    cell = re.search(r'<div id="rte/sam/seed-0".*?</details>', text, re.S)[0]
    for name, value in {
        "test acc": "70.00",
        "train acc": "90.00",
        "eligible": "1\u202f000\u202f000",
        "head": "1\u202f538",
        "training": "83.2 s",
        "median step": "75.5 ms",
        "delta on disk": "52.3 kB",
        "steps": "1\u202f100, stopped by max_steps",
        "device": "cpu, 2 threads",
        "settings hash": record("rte", "sam", 0, 0.7).settings_hash,
    }.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in cell, name
    assert "scoring" not in cell  # It was not measured.
    failed = re.search(r'<div id="rte/sam/seed-1".*?</details>', text, re.S)[0]
    assert "boom" in failed and "<dt>eligible" not in failed and "<svg" not in failed
    assert text.count('class="spark"') == text.count('class="plot"') == 1
    assert text.count('class="strip"') == 1


def test_what_cells_share_is_said_once_and_what_differs_with_the_cell(tmp_path: Path) -> None:
    cells = [record("rte", "sam", k, setting={"drop_train": k / 10}) for k in range(2)]
    cells.append(record("rte", "sam", 2, inputs={"data/train.jsonl": "c" * 64}))
    text = page_of(write(tmp_path, *cells))
    assert text.count("<dt>method.density</dt><dd>0.005</dd>") == 1
    assert text.count("<dt>model</dt><dd>roberta-base</dd>") == 3  # head, group, provenance
    found = re.findall(r'<div id="rte/sam/seed-(\d)".*?</details>', text, re.S)
    parts = re.split(r'<div id="rte/sam/seed-\d"', text)[1:]
    assert found == ["0", "1", "2"]
    said = [re.findall(r"<dt>drop_train</dt><dd>(.*?)</dd>", part) for part in parts]
    assert said == [["0.0"], ["0.1"], ["0.0"]]
    assert "<dt>train.max_steps</dt><dd>none</dd>" in text
    assert "<h4>SHA-256 of the files of this cell</h4>" in parts[2] and "c" * 64 in parts[2]


@pytest.mark.parametrize(
    ("mappings", "common", "rests"),
    [
        ([{("a",): 1}], [("a", "1")], [[]]),
        ([{("a",): 1}, {("a",): True}], [], [[("a", "1")], [("a", "true")]]),
        ([{("a", "b"): "x"}, {("a", "b"): "x", ("c",): [1]}], [("a.b", "x")], [[], [("c", "[1]")]]),
        ([{("a",): None}, {}], [], [[("a", "none")], []]),
        ([], [], []),
    ],
)
def test_separate(mappings: list[Mapping], common: list, rests: list) -> None:
    assert separate(mappings) == (common, rests)


def test_places_are_never_those_of_another_cell_or_section() -> None:
    assert views.place("cola", "sam", "seed-0") == "cola/sam/seed-0"
    assert views.place("a/b", "c") != views.place("a", "b/c")
    assert views.place('"> x', "%") == "%22%3E%20x/%25"


def test_histories_of_very_many_cells_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(tmp_path, *(record("rte", "sam", k) for k in range(3)))
    whole = page_of(directory)
    assert whole.count('class="plot"') == 3 and "are not drawn" not in whole
    monkeypatch.setattr(views, "MOST_HISTORIES", 2)
    short = page_of(directory)
    assert "more than 2 cells: their histories are not drawn" in short
    assert "<code>bench/&lt;task&gt;/&lt;method&gt;/seed-&lt;k&gt;/</code>" in short
    assert 'class="plot"' not in short and 'class="spark"' not in short
    assert "dev by step" not in short and "<dt>eligible</dt>" not in short
    assert short.count("<b>Weights:</b> eligible 1\u202f000\u202f000; selected 5") == 3
    assert short.count('class="strip"') == 1
