"""How many weights a method tunes, beside Table 4."""

from pathlib import Path
from typing import Any

import pytest
from support.records import cells, lines, record, write

from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.table import Cell
from jiant_sparse.report.tables.parameters import parameters
from jiant_sparse.schema.record import Params, Record


def summary(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


def counted(seed: int = 0, /, task: str = "rte", method: str = "sam", **changes: Any) -> Record:
    counts = {"eligible": 1000, "selected": 5, "added": 0, "head": 20, "trainable": 25}
    counts |= {"changed": 4}
    known = {*Params.model_fields} & {*changes}
    counts |= {name: changes.pop(name) for name in known}
    return record(task, method, seed, params=Params(**counts), **changes)


def test_shares_and_counts_of_weights(tmp_path: Path) -> None:
    table = parameters(summary(tmp_path, counted(0), counted(1)))
    assert table.name == "parameters" and table.columns[0].title == "method"
    found = cells(table, "sam")
    assert (found["tuned"].text, found["tuned"].value) == ("0.50", 0.5)
    assert found["paper"] == Cell("0.50", 0.5)
    assert (found["changed"].text, found["changed"].tone) == ("0.40", "")
    assert [found[name].text for name in ("selected", "added", "head")] == ["5", "0", "20"]
    assert lines(table) == [
        {
            "benchmark": "bench", "task": "rte", "method": "sam", "n": 2, "eligible": 1000,
            "selected": 5, "added": 0, "head": 20, "trainable": 25, "changed": 4,
            "moved_per_step": None, "tuned_percent": 0.5, "changed_percent": 0.4,
            "published_percent": 0.5,
        }
    ]  # fmt: skip
    assert table.notes == ("The paper's shares are of RoBERTa-base, density 0.5 %.",)


def test_new_weights_are_tuned_ones(tmp_path: Path) -> None:
    table = parameters(summary(tmp_path, counted(method="lora", selected=0, added=3, changed=0)))
    found = cells(table, "lora")
    assert (found["tuned"].text, found["selected"].text, found["added"].text) == ("0.30", "0", "3")
    assert (found["changed"].text, found["changed"].tone) == ("0", "")


def test_counts_that_differ_are_a_range_and_shares_a_mean(tmp_path: Path) -> None:
    records = [counted(0, selected=4, head=20), counted(1, selected=8), counted(task="cb", head=30)]
    table = parameters(summary(tmp_path, *records))
    found = cells(table, "sam")
    assert (found["selected"].text, found["head"].text) == ("4–8", "20–30")
    assert found["selected"].value == pytest.approx(17 / 3)
    assert found["tuned"].value == pytest.approx(17 / 3 / 10)
    assert any(note.startswith("A range") for note in table.notes)
    by_task = {line["task"]: line for line in lines(table)}
    assert (by_task["rte"]["selected"], by_task["rte"]["n"]) == (6, 2)
    assert by_task["rte"]["tuned_percent"] == pytest.approx(0.6)
    assert (by_task["cb"]["head"], by_task["cb"]["n"]) == (30, 1)


def test_more_changed_than_selected_is_an_alarm(tmp_path: Path) -> None:
    table = parameters(summary(tmp_path, counted(0), counted(1, changed=6)))
    found = cells(table, "sam")["changed"]
    assert (found.tone, found.note) == ("alarm", "more than selected")


@pytest.mark.parametrize(
    "setting", [{"model": "tiny"}, {"method": {"name": "sam", "density": 0.01}}]
)
def test_a_share_of_something_else_is_quiet(tmp_path: Path, setting: dict[str, Any]) -> None:
    same = counted(task="cb", method="random")
    table = parameters(summary(tmp_path, counted(setting=setting), same))
    assert cells(table, "sam")["paper"].tone == "quiet"
    assert cells(table, "random")["paper"].tone == ""
    assert table.notes[0].endswith("density 0.5 %; another model, density or q: sam.")


def test_unknown_counts_and_methods_of_other_papers(tmp_path: Path) -> None:
    records = [record("rte", "sam", 0, params=None), counted(method="fish")]
    table = parameters(summary(tmp_path, *records))
    found = cells(table, "sam")
    assert found["tuned"] == found["changed"] == found["selected"] == found["head"] == Cell()
    assert found["paper"].text == "0.50"
    assert cells(table, "fish")["paper"] == Cell()
    by_method = {line["method"]: line for line in lines(table)}
    assert by_method["sam"]["selected"] is None and by_method["sam"]["n"] == 0
    assert by_method["sam"]["tuned_percent"] is None


def test_no_note_of_the_paper_where_it_says_nothing(tmp_path: Path) -> None:
    assert parameters(summary(tmp_path, counted(method="fish"))).notes == ()


def test_what_the_paper_has_no_share_of_is_not_said_to_differ(tmp_path: Path) -> None:
    tiny = {"model": "tiny"}
    others = [counted(method=name, setting=tiny) for name in ("fish", "sam")]
    table = parameters(summary(tmp_path, *others, counted(method="random")))
    said = "RoBERTa-base, density 0.5 %; another model, density or q: sam."
    assert table.notes == (f"The paper's shares are of {said}",)
