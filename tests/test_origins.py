"""Where the numbers come from, as the page says it."""

import re
from pathlib import Path

from support.pages import summary_of
from support.records import failure, provenance, record, write

from jiant_sparse.report.page import render
from jiant_sparse.report.readings import reading_of
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import Machine


def page_of(directory: Path) -> str:
    """The page of nothing but the summary."""
    return render(summary_of(directory))


def test_head_says_how_many_runs_of_what_on_what(tmp_path: Path) -> None:
    later = provenance(dirty=True, versions={"torch": "2.12", "jiant": "2.2.0"}, device="cuda")
    directory = write(
        tmp_path,
        *(record("rte", "full_tuning", k) for k in (0, 1, 4)),
        *(record("rte", "lora", k) for k in (0, 1, 4)),
        record("rte", "bitfit", 2, provenance=later),
    )
    head = re.search(r'<dl class="head">(.*?)</dl>', page_of(directory), re.S)[1]
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
    assert "full_tuning</dt><dd>" in page_of(directory)


def test_head_names_three_of_many_values(tmp_path: Path) -> None:
    origins = [provenance(device=f"d{k}") for k in range(5)]
    cells = [record("rte", "sam", k, provenance=origin) for k, origin in enumerate(origins)]
    text = page_of(write(tmp_path, *cells))
    assert "<dd>d0 (1 cell); d1 (1 cell); d2 (1 cell); and 2 more</dd>" in text
    assert "d4 (1 cell)</dd>" in text
    empty = failure("rte", "sam", 0, "x")
    assert "<dd>0: no cell has a test value</dd>" in page_of(write(tmp_path / "b", empty))


def test_head_says_which_paper_a_reading_is_of(tmp_path: Path) -> None:
    train = Train().model_dump()
    plain = record("rte", "full_tuning", setting={"train": train})
    assert reading_of(plain.settings).word == "paper"
    assert "<dd>Fu et al. 2023</dd>" in page_of(write(tmp_path, plain))


def test_page_says_where_the_numbers_come_from(tmp_path: Path) -> None:
    later = provenance(
        dirty=True,
        pooler=None,
        started="2026-11-21T01:00:00+01:00",
        finished="not a time",
        nondeterministic=["cumsum"],
        earlier=[Machine(commit=None, dirty=None, versions={}, device="T4", threads=1)],
    )
    directory = write(
        tmp_path,
        *(record("rte", "sam", k) for k in (0, 1)),
        record("rte", "sam", 2, provenance=later),
    )
    text = page_of(directory)
    assert "<dt>pooler</dt><dd>initialised (2 cells); never loaded (1 cell)</dd>" in text
    assert "<dt>torch</dt><dd>2.13.0</dd>" in text
    assert "<dt>run</dt><dd>2026-11-20 08:00 to 2026-11-20 09:30 UTC</dd>" in text
    assert "<dt>examples left out</dt><dd>3 of train</dd>" in text
    assert "<dt>nondeterministic</dt><dd>none (2 cells); cumsum (1 cell)</dd>" in text
    assert "<dt>moved on the way</dt><dd>never (2 cells); 1 time (1 cell)</dd>" in text
    assert "<dt>earlier machine 1</dt><dd>T4, 1 thread; commit unknown</dd>" in text
