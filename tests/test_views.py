"""What the page shows of tasks, results and cells, and where their numbers come from."""

import re
from pathlib import Path

import pytest
from support.pages import page_of
from support.records import failure, plan, provenance, record, write

from jiant_sparse.report import page
from jiant_sparse.report.page import plots, views
from jiant_sparse.report.readings import reading_of
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import Machine

THIN = "\N{NARROW NO-BREAK SPACE}"


def has(facts: dict[str, str], text: str) -> None:
    for name, value in facts.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in text, name


def test_a_cell_says_all_of_itself(tmp_path: Path) -> None:
    whole = record("rte", "sam", 0, 0.7)
    plan(["rte"], ["sam"], 2).write(write(tmp_path, whole))
    text = page_of(tmp_path, whole, failure("rte", "sam", 1, "boom"))
    cell = re.search(r'<div id="rte/sam/seed-0".*?</details>', text, re.S)[0]
    facts = {
        "test acc": "70.00",
        "train acc": "90.00",
        "eligible": f"1{THIN}000{THIN}000",
        "head": f"1{THIN}538",
        "training": "83.2 s",
        "median step": "75.5 ms",
        "delta on disk": "52.3 kB",
        "steps": f"1{THIN}100, stopped by max_steps",
        "device": "cpu, 2 threads",
        "settings hash": whole.settings_hash,
    }
    has(facts, cell)
    assert "scoring" not in cell  # It was not measured.
    failed = re.search(r'<div id="rte/sam/seed-1".*?</details>', text, re.S)[0]
    assert "boom" in failed and "<dt>eligible" not in failed and "<svg" not in failed
    for kind in ("spark", "plot", "strip"):
        assert text.count(f'class="{kind}"') == 1


def test_what_cells_share_is_said_once(tmp_path: Path) -> None:
    cells = [record("rte", "sam", k, setting={"drop_train": k / 10}) for k in range(2)]
    cells.append(record("rte", "sam", 2, inputs={"data/train.jsonl": "c" * 64}))
    text = page_of(tmp_path, *cells)
    assert text.count("<dt>method.density</dt><dd>0.005</dd>") == 1
    assert text.count("<dt>model</dt><dd>roberta-base</dd>") == 3  # head, group, provenance
    assert re.findall(r'<div id="rte/sam/seed-(\d)"', text) == ["0", "1", "2"]
    parts = re.split(r'<div id="rte/sam/seed-\d"', text)[1:]
    said = [re.findall(r"<dt>drop_train</dt><dd>(.*?)</dd>", part) for part in parts]
    assert said == [["0.0"], ["0.1"], ["0.0"]]
    assert "<dt>train.max_steps</dt><dd>none</dd>" in text
    assert "<h4>SHA-256 of the files of this cell</h4>" in parts[2] and "c" * 64 in parts[2]


@pytest.mark.parametrize(
    ("settings", "common", "rests"),
    [
        ([{"a": 1}], [("a", "1")], [[]]),
        # To Python they are equal.
        ([{"a": 1}, {"a": True}, {"a": 1.0}], [], [[("a", "1")], [("a", "true")], [("a", "1.0")]]),
        ([{"a": {"b": "x"}}, {"c": [1], "a": {"b": "x"}}], [("a.b", "x")], [[], [("c", "[1]")]]),
        ([{"a": None}, {}], [], [[("a", "none")], []]),
        ([{"seed": 0}, {"seed": 1}], [], [[], []]),
    ],
)
def test_separate(settings: list, common: list, rests: list) -> None:
    records = [
        record().model_copy(update={"settings": one, "inputs": {}, "provenance": provenance()})
        for one in settings
    ]
    shared, own = views.separate(records)
    assert dict(shared).get("Settings", []) == common
    assert [dict(parts).get("Settings of this cell", []) for parts in own] == rests
    assert views.separate([]) == ([], [])


def test_places_are_never_those_of_another_cell_or_section() -> None:
    assert views.place("cola", "sam", "seed-0") == "cola/sam/seed-0"
    assert views.place("a/b", "c") != views.place("a", "b/c")
    assert views.place('"> x', "%") == "%22%3E%20x/%25"


def test_histories_of_very_many_cells_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [record("rte", "sam", k) for k in range(3)]
    whole = page_of(tmp_path, *records)
    assert whole.count('class="plot"') == 3 and "are not drawn" not in whole
    monkeypatch.setattr(page, "MOST_HISTORIES", 2)
    short = page_of(tmp_path, *records)
    assert "more than 2 cells: their histories are not drawn" in short
    assert "<code>bench/&lt;task&gt;/&lt;method&gt;/seed-&lt;k&gt;/</code>" in short
    assert 'class="plot"' not in short and 'class="spark"' not in short
    assert "dev by step" not in short and "<dt>eligible</dt>" not in short
    assert short.count(f"<b>Weights:</b> eligible 1{THIN}000{THIN}000; selected 5") == 3
    assert short.count('class="strip"') == 1


# where the numbers come from


def test_head(tmp_path: Path) -> None:
    later = provenance(dirty=True, versions={"torch": "2.12", "jiant": "2.2.0"}, device="cuda")
    text = page_of(
        tmp_path,
        *(record("rte", method, k) for method in ("full_tuning", "lora") for k in (0, 1, 4)),
        record("rte", "bitfit", 2, provenance=later),
    )
    head = re.search(r'<dl class="head">(.*?)</dl>', text, re.S)[1]
    facts = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", head))
    assert facts == {
        "n": "3 for each method and task, but for 1 of 3",
        "seeds": "0-2, 4",
        "model": "roberta-base",
        "split": "published",
        "device": "cpu (6 cells); cuda (1 cell)",
        "commit": "0123456789ab (6 cells); 0123456789ab with uncommitted changes (1 cell)",
        "versions": "torch 2.13.0 (6 cells); 2.12 (1 cell), "
        "jiant unknown (6 cells); 2.2.0 (1 cell)",
        "reading": facts["reading"],
    }
    assert "full_tuning: FullTuning (Fu et al. 2023, arXiv 2211.15583)</dt><dd>" in text


def test_head_names_three_of_many_values(tmp_path: Path) -> None:
    cells = [record("rte", "sam", k, provenance=provenance(device=f"d{k}")) for k in range(5)]
    text = page_of(tmp_path, *cells)
    assert "<dd>d0 (1 cell); d1 (1 cell); d2 (1 cell); and 2 more</dd>" in text
    assert "d4 (1 cell)</dd>" in text


def test_head_says_which_paper_a_reading_is_of(tmp_path: Path) -> None:
    plain = record("rte", "full_tuning", setting={"train": Train().model_dump()})
    assert reading_of(plain).word == "paper"
    assert "<dd>Fu et al. 2023</dd>" in page_of(tmp_path, plain)


def test_head_without_a_score(tmp_path: Path) -> None:
    text = page_of(tmp_path, failure("rte", "sam", 0, "x"))
    assert "<dd>0: no cell has a test value</dd>" in text


def test_origins(tmp_path: Path) -> None:
    later = provenance(
        dirty=True,
        pooler=None,
        started="2026-11-21T01:00:00+01:00",
        finished="not a time",
        nondeterministic=["cumsum"],
        earlier=[Machine(commit=None, dirty=None, versions={}, device="T4", threads=1)],
    )
    records = [record("rte", "sam", k) for k in (0, 1)]
    text = page_of(tmp_path, *records, record("rte", "sam", 2, provenance=later))
    facts = {
        "pooler": "initialised (2 cells); never loaded (1 cell)",
        "torch": "2.13.0",
        "run": "2026-11-20 08:00 to 2026-11-20 09:30 UTC",
        "examples left out": "3 of train",
        "nondeterministic": "none (2 cells); cumsum (1 cell)",
        "moved on the way": "never (2 cells); 1 time (1 cell)",
        "earlier machine 1": "T4, 1 thread; commit unknown",
    }
    has(facts, text)


# plots

HISTORY = [(0, 0.0), (100, 0.5), (200, None), (300, 1.0)]


def curve(history: list, best: int | None, scores=(0.0, 100.0), box=plots.SPARK):
    return plots.curve(record(history=history, best_step=best), scores, box)


def drawn(macro: str, *arguments) -> str:
    source = f'{{% from "plots.html" import {macro} with context %}}{{{{ {macro}(*given) }}}}'
    return page._environment().from_string(source).render(given=arguments)


def test_a_curve_breaks_where_undefined() -> None:
    found = curve(HISTORY, 300)
    assert found.path == "M4 18h0L41.33 11M116 4h0"
    assert found.best == (116.0, 4.0)
    assert curve([(0, None)], None) is None and curve([], None, None) is None
    # A best step that the history does not have is not put anywhere.
    assert curve(HISTORY, 999).best is None


def test_a_long_history_is_thinned_and_keeps_its_best() -> None:
    history = [(step, step % 7 / 7) for step in range(5000)]
    small, large = curve(history, 4321), curve(history, 4321, box=plots.PLOT)
    assert small.best and large.best
    assert len(small.path) < 1500 < len(large.path) < 4000


def test_plot_labels_its_axes_and_marks_the_best_step() -> None:
    text = drawn("plot", curve(HISTORY, 100, box=plots.PLOT))
    labels = re.findall(r"<text[^>]*>([^<]+)</text>", text)
    assert labels == ["0", "50", "100", "0", "100", "200", "300", "dev score, %", "step"]
    # The best step, and the bottom and the left end of the axes.
    assert '<path class="best" d="M140 20V126"/>' in text and 'd="M34 126h0L140 73' in text
    assert (
        'aria-label="dev score in percent: from 0.00 at step 0 to 100.00 at step 300 and best, '
        '50.00, at step 100"' in text
    )
    lone = drawn("plot", curve([(5, 0.25)], None, (25, 25), plots.PLOT))
    assert ">25<" in lone and ">5<" in lone and "best" not in lone


def test_ticks_are_round_and_few() -> None:
    assert plots.ticks(0, 29500, most=4) == [0, 10000, 20000]
    assert plots.ticks(99.1, 99.35, most=4) == pytest.approx([99.1, 99.2, 99.3])
    assert plots.ticks(-12, 12, most=4) == [-10, 0, 10]
    assert plots.ticks(70, 70, most=4) == [70]


def test_strip_draws_every_seed_on_the_common_scale() -> None:
    def strip(values, mean, span, majority=None):
        return drawn("strip", values, mean, span, majority)

    plain = strip([50.0, 70.0], 60.0, (50.0, 90.0))
    assert re.findall(r'cx="([^"]+)"', plain) == ["4", "60"]
    assert "M32 4V18" in plain and "usual" not in plain and "beyond" not in plain
    # One value alone stands in the middle.
    assert 'cx="60"' in strip([50.0], 50.0, (50.0, 50.0))
    assert strip([], float("nan"), (0.0, 1.0)).strip() == ""
    for majority, mark in (
        (70.0, '<path class="usual" d="M60 0V22"/>'),
        (49.0, '<path class="beyond" d="M1 7L-3 11L1 15"/>'),
        (91.0, '<path class="beyond" d="M119 7L123 11L119 15"/>'),
    ):
        assert mark in strip([50.0, 70.0], 60.0, (50.0, 90.0), majority)


def test_a_span_stretches_to_twice_its_width_and_no_further() -> None:
    for majority, expected in {50: (50, 70), 49: (60, 70), 75: (60, 75), None: (60, 70)}.items():
        assert plots.span([60.0, None, 70.0], majority) == expected
    assert plots.span([None], 1.0) is None
