"""Scores of the set that chose, and shares of weights that differ from step to step."""

import csv
from pathlib import Path
from typing import Any

import pytest
from support.pages import page_of
from support.records import cells, failure, lines, provenance, record, write

from jiant_sparse.report import build, notes
from jiant_sparse.report.comparison.pairs import compare
from jiant_sparse.report.comparison.sets import Set
from jiant_sparse.report.comparison.table import comparison
from jiant_sparse.report.figures import tradeoff
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.page import views
from jiant_sparse.report.render import to_csv, to_markdown
from jiant_sparse.report.tables.parameters import parameters
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.terminal import as_text
from jiant_sparse.schema.record import Params, Record

AS_TEST = {"split": "dev_as_test"}


def summary(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


def chosen(
    task: str = "rte", method: str = "sam", seed: int = 0, test: float | None = 0.7, **changes: Any
) -> Record:
    return record(task, method, seed, test, setting=AS_TEST, **changes)


def moving(task: str = "rte", seed: int = 0, *, moved: float | None = 10, **changes: Any) -> Record:
    counts = {"eligible": 1000, "selected": 400, "added": 0, "head": 20, "trainable": 1020}
    params = Params(**{**counts, "changed": 390, "moved_per_step": moved, **changes})
    return record(task, "stochastic_tuning", seed, params=params)


# Scores.

ALL = (
    "The scores are of the set that also chose each run's best step, and its learning rate where "
    "that was selected (split dev_as_test, as in Akbar-Tajari and Pilehvar 2024): they are "
    "optimistic, and not comparable with those of a test set that chose nothing, as in Fu et al. "
    "2023."
)


def test_scores_of_the_set_that_chose(tmp_path: Path) -> None:
    # A failed cell and one without a value have no score that could be of another set.
    others = [failure("rte", "sam", 1, "no"), record("rte", "sam", 2, None)]
    assert notes.chosen_on_test(summary(tmp_path, chosen(), *others)) == ALL


def short(task: str, seed: int, left_out: dict[str, int], **changes: Any) -> Record:
    origin = provenance(dropped_examples=left_out)
    return record(task, "sam", seed, 0.6, provenance=origin, inputs={"test": "c" * 64}, **changes)


def test_rows_that_were_left_out_are_told_with_the_results(tmp_path: Path) -> None:
    records = [short("wsc", seed, {"test": 15, "dev": 4, "train": 30}) for seed in range(3)]
    records += [short("rte", 0, {}), short("rte", 1, {"train": 5})]
    records += [short("cb", 0, {}), short("cb", 1, {"test": 1}, data=None)]
    found = summary(tmp_path, *records)
    said = [
        "CB: 1 test rows do not fit max_seq_length and were not scored (1 of 2 cells).",
        "WSC: 4 of 10 dev and 15 of 20 test rows do not fit max_seq_length and were not scored.",
    ]
    assert notes.left_out(found) == said
    table = results(found)
    assert set(said) <= {*table.notes}
    assert said[1] in " ".join(as_text(found, [table]).split())
    assert said[1] in page_of(found.directory)
    assert notes.left_out(summary(tmp_path / "none", short("wsc", 0, {}))) == []


def test_scores_of_fewer_rows_are_not_compared(tmp_path: Path) -> None:
    sets = [
        Set(name, summary(tmp_path / name, *(short("wsc", k, left_out) for k in range(3))))
        for name, left_out in (("a", {"train": 3}), ("b", {"test": 2}))
    ]
    (line,) = compare(sets[0], sets[1:])
    assert line.pairs[0].word == "not comparable"
    assert line.pairs[0].reasons == ("other test rows were left out",)


def test_other_splits_say_nothing(tmp_path: Path) -> None:
    records = [record("rte", "sam", k, setting={"split": s}) for k, s in enumerate(("files", None))]
    found = summary(tmp_path, *records, chosen("rte", "sam", 2, None))
    assert notes.chosen_on_test(found) == ""
    assert not any("chose" in note for note in results(found).notes)


def test_of_mixed_splits_it_is_said_which(tmp_path: Path) -> None:
    records = [
        *(chosen(task, "lora", k) for task in ("rte", "cb") for k in (0, 1)),
        *(chosen("cb", "sam", k) for k in (0, 1)),
        # Even the seeds may be mixed.
        *(record("rte", "sam", 0), chosen("rte", "bitfit", 0), record("rte", "bitfit", 1)),
        *(record("rte", "random", 0), record("cb", "bitfit", 0)),
        # Without a score a method is of neither kind.
        failure("rte", "mixout", 0, "no"),
    ]
    found = notes.chosen_on_test(summary(tmp_path, *records))
    assert found.startswith("7 of the 11 scores are of the set that also chose each run's best")
    assert found.endswith(
        ": bitfit (RTE), lora, sam (CB). They are optimistic, and not comparable with the others "
        "here, nor with Fu et al. 2023."
    )


def test_many_places_are_counted(tmp_path: Path) -> None:
    tuned = [chosen(method=f"m{k}") for k in range(8)]
    found = notes.chosen_on_test(summary(tmp_path, record(), *tuned))
    assert ": m0, m1, m2, m3, m4, m5 and 2 more. They" in found


def test_terminal_and_files_say_it_and_the_page_once(tmp_path: Path) -> None:
    made = build(write(tmp_path, *(chosen(seed=k) for k in range(3))))
    assert ALL in " ".join(made.text.split())
    for suffix in ("md", "tex"):
        said = (made.page.parent / "tables" / f"results.{suffix}").read_text("utf-8")
        assert "set that also chose" in said
    page = made.page.read_text("utf-8")
    told = ALL.replace("'", "&#39;")
    assert page.count(told) == 1
    assert page.index('<section id="results">') < page.index(told) < page.index("<table")


def test_they_are_not_comparable_with_the_published_values(tmp_path: Path) -> None:
    found = summary(tmp_path, *(chosen(seed=k, test=0.7 + k / 50) for k in range(3)))
    assert notes.comparability(found) == (False, "not comparable: split is dev_as_test")


def test_nor_with_a_test_set_that_chose_nothing(tmp_path: Path) -> None:
    values = (0.6, 0.62, 0.65)
    inputs = {"test": "c" * 64}
    one = [record(seed=k, test=v, inputs=inputs) for k, v in enumerate(values)]
    two = [chosen(seed=k, test=v + 0.1, inputs=inputs) for k, v in enumerate(values)]
    sets = [
        Set(name, summary(tmp_path / name, *records))
        for name, records in (("a", one), ("b", two), ("c", two))
    ]
    (pair,) = compare(sets[0], sets[1:2])[0].pairs
    assert pair.word == "not comparable" and pair.difference is None
    assert pair.reasons == ("on one side the test set also chose the best step",)
    (pair,) = compare(sets[1], sets[2:])[0].pairs
    assert pair.word == "no difference seen"
    # Two sets of such scores have a test, and are optimistic all the same.
    told = comparison(sets, sets[0], ()).notes
    assert told[:2] == tuple(f"{name}: the{ALL.removeprefix('The')}" for name in "bc")
    assert "optimistic" not in " ".join(told[2:])


def test_a_metric_that_was_asked_for_is_no_mistake(tmp_path: Path) -> None:
    def mrpc(asked: Any, got: str) -> list[str]:
        setting = {"task": {"name": "mrpc", "like": "mrpc", "metric": asked}}
        cell = record("mrpc", setting=setting)
        primary = cell.primary.model_copy(update={"name": got})
        found = summary(tmp_path / f"{asked}-{got}", cell.model_copy(update={"primary": primary}))
        assert results(found).columns[1].subtitle == notes.SHORT[got]
        return [text for text in notes.warnings(found) if "metric" in text]

    assert mrpc("f1", "f1") == mrpc("acc_and_f1", "acc_and_f1") == []
    for asked in ("f1", None, ["acc"]):
        assert mrpc(asked, "acc") == ["mrpc: the metric is acc, that of mrpc is acc_and_f1."]


# Shares.

PER_STEP = (
    "Per step: the weights differ from step to step, and tuned is the share of one step; in "
    "percent, chosen at least once in a run: stochastic_tuning 40.00."
)


def test_the_share_of_one_step(tmp_path: Path) -> None:
    table = results(summary(tmp_path, moving(), moving(seed=1, moved=11), record("rte", "sam")))
    found, fixed = cells(table, "stochastic_tuning"), cells(table, "sam")
    assert (found["tuned %"].text, found["tuned %"].note) == ("1.05", "per step")
    assert (found["changed %"].text, found["changed %"].note) == ("39.00", "")
    assert (fixed["tuned %"].text, fixed["tuned %"].note) == ("0.50", "")
    assert PER_STEP in table.notes
    by_method = {line["method"]: line for line in lines(table)}
    shares = ("tuned_percent", "drawn_percent", "changed_percent")
    moved = [by_method["stochastic_tuning"][name] for name in shares]
    assert moved == [pytest.approx(1.05), 40, 39]
    assert [by_method["sam"][name] for name in shares] == [0.5, None, pytest.approx(0.499)]


def test_fixed_weights_are_told_as_ever(tmp_path: Path) -> None:
    found = summary(tmp_path, record("rte", "sam"), moving(moved=None))
    assert notes.per_step(found.rows) == ""
    for table in (results(found), parameters(found)):
        assert "per step" not in to_markdown(table).casefold()
    assert cells(parameters(found), "stochastic_tuning")["tuned"].text == "40.00"
    drawn = tradeoff.draw_tuned(found)
    assert "one step" not in drawn.svg + " ".join(drawn.notes)
    assert "per step" not in page_of(tmp_path / "bench")


def test_counts_of_moving_weights(tmp_path: Path) -> None:
    records = [moving(), moving(seed=1, moved=13, selected=420, added=30), record("rte", "sam")]
    table = parameters(summary(tmp_path, *records))
    found, fixed = cells(table, "stochastic_tuning"), cells(table, "sam")
    assert (found["tuned"].text, found["tuned"].note) == ("2.65", "12 per step")
    assert (found["selected"].text, found["selected"].note) == ("400–420", "in any step: 41.00 %")
    assert (found["changed"].text, found["changed"].tone) == ("39.00", "")
    assert (fixed["tuned"].note, fixed["selected"].note) == ("", "")
    by_method = {line["method"]: line for line in lines(table)}
    assert by_method["stochastic_tuning"]["moved_per_step"] == 11.5
    assert by_method["stochastic_tuning"]["selected"] == 410
    assert by_method["sam"]["moved_per_step"] is None
    text = to_csv(table)
    assert [line["moved_per_step"] for line in csv.DictReader(text.splitlines())] == ["", "11.5"]
    assert any(note.startswith("Per step: ") for note in table.notes)


def test_more_changed_than_was_ever_selected_is_an_alarm(tmp_path: Path) -> None:
    found = summary(tmp_path, moving(changed=500))
    assert cells(parameters(found), "stochastic_tuning")["changed"].tone == "alarm"
    said = "50.00 % of the weights changed, but 40.00 % were ever selected (rte)."
    assert f"stochastic_tuning: {said}" in notes.warnings(found)


def test_the_page_says_per_step(tmp_path: Path) -> None:
    directory = write(tmp_path, moving(), record("rte", "sam"))
    page = page_of(directory)
    (task,) = page[page.index('<section id="tasks">') :].split("<tbody>")[1:2]
    assert "1.00<small>per step</small>" in task and task.count("per step") == 1
    assert "<dt>moved per step</dt><dd>10</dd>" in page
    facts = [dict(views.cell_facts(r)) for r in load(directory).cells["record"]]
    assert ["moved per step" in dict(parts["Weights"]) for parts in facts] == [False, True]


def test_the_figure_of_shares_says_whose_are_of_one_step(tmp_path: Path) -> None:
    found = summary(tmp_path, moving(), record("rte", "sam"))
    figure = tradeoff.draw_tuned(found)
    assert "Share of one step: stochastic_tuning." in figure.svg
    assert PER_STEP in figure.notes
    assert tradeoff.costs(found).loc["stochastic_tuning", "tuned"] == 1
    # Nothing published is drawn: the caption does not speak of it.
    assert "seven tasks" not in figure.caption and figure.beside == ()
