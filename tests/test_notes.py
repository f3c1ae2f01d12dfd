"""Sentences of the report: comparability, warnings, gaps, and all of it in a terminal."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.records import (
    PUBLISHED_TRAINING,
    cells,
    failure,
    lines,
    plan,
    provenance,
    record,
    write,
)

from jiant_sparse.report import build, notes, published
from jiant_sparse.report.claims import State, Verdict
from jiant_sparse.report.claims.papers import CLAIMS, UNAVAILABLE
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.tables import beside, make, verdicts
from jiant_sparse.report.tables.parameters import parameters
from jiant_sparse.report.tables.results import results
from jiant_sparse.report.terminal import as_text
from jiant_sparse.schema.record import Params, Record

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]


def frame(directory: Path, *records: Record) -> Frame:
    return load(write(directory, *records))


def terminal(found: Frame) -> str:
    return as_text(found, make(found, None, []))


# --- Comparability


def trained(method: str, seed: int = 0, **train: Any) -> Record:
    setting = {"train": {**PUBLISHED_TRAINING, **train}, "model": "tiny", "split": "files"}
    return record("rte", method, seed, setting=setting)


def test_values_of_one_setting_are_told_together(tmp_path: Path) -> None:
    found = frame(
        tmp_path,
        trained("full_tuning", learning_rate=3e-4, max_steps=60, batch_size=8, patience=None),
        trained("lora", learning_rate=6e-4, max_steps=40, patience=0),
        # Two seeds of a result that differ: one result.
        trained("sam", 0, learning_rate=0.003, max_steps=100, patience=10),
        trained("sam", 1, learning_rate=6e-4, max_steps=40, patience=0),
        failure("rte", "random", 0, "x"),
        record("rte", "fish", 0, setting={"model": "not a published method"}),
    )
    assert notes.comparability(found) == (
        False,
        "not comparable: model is tiny, split is files, batch_size is 8 (1 of 3 results), "
        "learning_rate is 0.0003, 0.0006 or 0.003, patience is 0, 10 or unknown, "
        "max_steps is 40, 60 or 100",
    )
    briefly = "model is tiny, split is files and 4 more settings"
    assert notes.comparability_briefly(found) == f"not comparable: {briefly}"
    # A figure shows what the number of steps does.
    fewer = briefly.replace("4", "3")
    assert notes.apart_briefly(found.results, but="max_steps") == fewer


def test_some_results_may_be_comparable(tmp_path: Path) -> None:
    denser = {"method": {"name": "sam", "density": 0.01}}
    records = [record(task, "sam", 0) for task in SEVEN[:-1]]
    # What has no result is neither.
    records.append(failure("rte", "random", 0, "x"))
    found = frame(tmp_path, *records, record("wsc", "sam", 0, setting=denser))
    one = "density is 0.01 (1 of 7 results)"
    assert notes.comparability(found) == (False, f"partly not comparable: {one}")
    assert notes.comparability_briefly(found) == f"partly not comparable: {one}"
    assert notes.apart_briefly(found.results, but="density") == ""
    wsc = found.results[found.results["task"] == "wsc"]
    assert (notes.is_partly(wsc), notes.is_partly(wsc, but="density")) == (False, True)
    alone = frame(tmp_path / "b", *records)
    assert notes.comparability(alone)[0] and notes.apart_briefly(alone.results) == ""
    nothing = frame(tmp_path / "c", record("sst", "fish"))
    said = "nothing is published for these methods and tasks"
    assert notes.comparability(nothing) == (False, said)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, ""),
        ({"model": "tiny"}, "model is tiny"),
        ({"split": "files", "drop_train": 0.3}, "split is files and drop_train is 0.3"),
        (
            {"pooling": "mean", "split": "files", "model": "tiny"},
            "model is tiny, split is files and 1 more setting",
        ),
    ],
)
def test_a_brief_list_names_two_settings(tmp_path: Path, setting: Any, said: str) -> None:
    found = frame(tmp_path, record("rte", "sam", 0, setting=setting))
    assert notes.apart_briefly(found.results) == said


# --- Caveats

AS_TEST = {"split": "dev_as_test"}
ALL = (
    "The scores are of the set that also chose each run's best step, and its learning rate where "
    "that was selected (split dev_as_test, as in Akbar-Tajari and Pilehvar 2024): they are "
    "optimistic, and not comparable with those of a test set that chose nothing, as in Fu et al. "
    "2023."
)


def chosen(task: str = "rte", method: str = "sam", seed: int = 0, test: Any = 0.7) -> Record:
    return record(task, method, seed, test, setting=AS_TEST)


def test_scores_of_the_set_that_chose(tmp_path: Path) -> None:
    # A failed cell and one without a value have no score that could be of another set.
    records = [chosen(), failure("rte", "sam", 1, "no"), record("rte", "sam", 2, None)]
    directory = write(tmp_path, *records)
    found = load(directory)
    assert notes.chosen_on_test(found) == ALL and ALL in results(found).notes
    page = build(directory).page.read_text("utf-8")
    told = ALL.replace("'", "&#39;")
    assert page.count(told) == 1
    assert page.index('<section id="results">') < page.index(told) < page.index("<table")
    none = frame(tmp_path / "b", record(setting={"split": None}), chosen(seed=1, test=None))
    assert notes.chosen_on_test(none) == ""


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
    found = notes.chosen_on_test(frame(tmp_path, *records))
    assert found.startswith("7 of the 11 scores are of the set that also chose each run's best")
    assert found.endswith(
        ": bitfit (RTE), lora, sam (CB). They are optimistic, and not comparable with the others "
        "here, nor with Fu et al. 2023."
    )
    many = [chosen(method=f"m{k}") for k in range(8)]
    found = notes.chosen_on_test(frame(tmp_path / "b", record(), *many))
    assert ": m0, m1, m2, m3, m4, m5 and 2 more. They" in found


def short(task: str, seed: int, left_out: dict[str, int], **changes: Any) -> Record:
    return record(task, "sam", seed, provenance=provenance(dropped_examples=left_out), **changes)


def test_rows_that_were_left_out(tmp_path: Path) -> None:
    records = [short("wsc", seed, {"test": 15, "dev": 4, "train": 30}) for seed in range(3)]
    records += [short("rte", 0, {}), short("rte", 1, {"train": 5})]
    records += [short("cb", 0, {}), short("cb", 1, {"test": 1}, data=None)]
    found = frame(tmp_path, *records)
    said = [
        "CB: 1 test rows do not fit max_seq_length and were not scored (1 of 2 cells).",
        "WSC: 4 of 10 dev and 15 of 20 test rows do not fit max_seq_length and were not scored.",
    ]
    assert notes.left_out(found) == said and {*said} <= {*results(found).notes}


def moving(task: str = "rte", seed: int = 0, *, moved: float | None = 10, **changes: Any) -> Record:
    counts = {"eligible": 1000, "selected": 400, "added": 0, "head": 20, "trainable": 1020}
    params = Params(**{**counts, "changed": 390, "moved_per_step": moved, **changes})
    return record(task, "stochastic_tuning", seed, params=params)


def test_shares_of_one_step(tmp_path: Path) -> None:
    said = (
        "Per step: the weights differ from step to step, and tuned is the share of one step; in "
        "percent, chosen at least once in a run: stochastic_tuning 41.00."
    )
    records = [moving(), moving(seed=1, moved=13, selected=420, added=30), record("rte", "sam")]
    found = frame(tmp_path, *records)
    shares, weights = results(found), parameters(found)
    assert said in shares.notes and said in weights.notes
    tuned = [cells(shares, method)["tuned %"] for method in ("stochastic_tuning", "sam")]
    assert [(cell.text, cell.note) for cell in tuned] == [("2.65", "per step"), ("0.50", "")]
    by_method = {line["method"]: line for line in lines(shares)}
    drawn = [by_method[method]["drawn_percent"] for method in ("stochastic_tuning", "sam")]
    assert drawn == [41, None]
    its = cells(weights, "stochastic_tuning")
    assert (its["tuned"].text, its["tuned"].note) == ("2.65", "12 per step")
    assert (its["selected"].text, its["selected"].note) == ("400–420", "in any step: 41.00 %")
    fixed = frame(tmp_path / "b", moving(moved=None))
    assert notes.per_step(fixed) == ""
    assert cells(parameters(fixed), "stochastic_tuning")["tuned"].text == "40.00"


# --- Warnings and gaps


@pytest.mark.parametrize(
    ("records", "warning"),
    [
        (
            [record("rte", "sam", 0), record("rte", "sam", 1, None)],
            "rte / sam: no test value in seed 1; not counted.",
        ),
        (
            [record("rte", "sam", 0), record("rte", "sam", 1, setting={"device": "cuda"})],
            "rte / sam: the seeds were run with 2 different settings.",
        ),
        (
            [moving(moved=None, changed=500)],
            "stochastic_tuning: 50.00 % of the weights changed, but 40.00 % were selected (rte).",
        ),
        (
            [moving(changed=500), moving("cb", changed=500)],
            "stochastic_tuning: 50.00 % of the weights changed, but 40.00 % were ever selected "
            "(rte, cb).",
        ),
    ],
)
def test_warnings(tmp_path: Path, records: list[Record], warning: str) -> None:
    unknown, *found = notes.warnings(frame(tmp_path, *records))
    assert unknown == "There is no benchmark.json: which cells are missing is unknown."
    assert found == [warning]


@pytest.mark.parametrize(
    ("asked", "got", "said"),
    [
        ("f1", ["f1"], []),
        ("acc_and_f1", ["acc_and_f1"], []),
        (None, ["acc"], ["mrpc: the metric is acc, that of mrpc is acc_and_f1."]),
        (["acc"], ["acc"], ["mrpc: the metric is acc, that of mrpc is acc_and_f1."]),
        (None, ["acc", "f1"], ["mrpc: the cells report different metrics: acc, f1."]),
    ],
)
def test_a_metric_that_was_asked_for_is_no_mistake(
    tmp_path: Path, asked: Any, got: list[str], said: list[str]
) -> None:
    setting = {"task": {"name": "mrpc", "like": "mrpc", "metric": asked}}
    made = []
    for seed, name in enumerate(got):
        cell = record("mrpc", seed=seed, setting=setting)
        primary = cell.primary.model_copy(update={"name": name})
        made.append(cell.model_copy(update={"primary": primary}))
    found = frame(tmp_path, *made)
    assert [text for text in notes.warnings(found) if "metric" in text] == said
    assert results(found).columns[1].subtitle == notes.SHORT[got[0]]


def test_metrics_are_one_note(tmp_path: Path) -> None:
    metrics, wsc = notes.footnotes(frame(tmp_path, *(record(task) for task in SEVEN)))
    assert metrics == (
        "CoLA: Matthews correlation. STS-B: mean of Pearson and Spearman correlation. "
        "MRPC: mean of accuracy and F1. CB: accuracy, as in the paper."
    )
    assert wsc.startswith("WSC: the majority class alone scores 63.46 on the real test set")
    assert notes.footnotes(frame(tmp_path / "b", record())) == []


def test_gaps_are_listed_and_counted(tmp_path: Path) -> None:
    records = [failure("rte", "sam", k, f"boom {k}\nat line 7") for k in range(25)]
    directory = write(tmp_path, *records)
    plan(["rte"], ["sam"], 28).write(directory)
    told = notes.remarks(load(directory))
    assert told[:2] == ["failed: rte / sam seed 0: boom 0", "failed: rte / sam seed 1: boom 1"]
    assert told[20:] == [
        "... and 5 more; index.html has all.",
        "missing: rte / sam seeds 25-27",
    ]
    page = build(directory).page.read_text("utf-8")
    assert all(f"boom {k}" in page for k in range(25))
    twenty = frame(tmp_path / "b", *records[:20])
    assert not any("more; index" in line for line in notes.remarks(twenty))


# --- The terminal


def test_text_keeps_to_100_columns(tmp_path: Path) -> None:
    methods = list(published.METHODS)
    records = [record(t, m, k, 0.6 + k / 10) for t in SEVEN for m in methods for k in (0, 1)]
    error = "RuntimeError: " + "very " * 80
    directory = write(tmp_path, *records, failure("rte", "frozen", 0, error))
    plan(SEVEN, [*methods, "frozen"], 2).write(directory)
    text = terminal(load(directory))
    assert max(map(len, text.splitlines())) <= 100
    # Three runs of columns for the results, two for the differences from the published values.
    assert text.count("\nsam ") == 5
    assert "How far this benchmark's means lie above those of Fu et al. 2023, Table 1" in text
    assert "77.12" not in text and re.search(r"\nsam .* −12.\d\d too few runs", text)
    # An error's first line is cut, and says so.
    (cut,) = re.findall(r"failed: rte / frozen seed 0: (.*?…)", " ".join(text.split()))
    assert len(cut) == 201


def test_the_terminal_shows_differences_alone_if_all_would_fold(tmp_path: Path) -> None:
    setting = {"model": "tiny", "split": "files", "pooling": "mean"}
    records = [record(task, "sam", 0, setting=setting) for task in SEVEN[:6]]
    found = frame(tmp_path, *records, failure("wsc", "sam", 0, "x"))
    table = beside.published(found)
    text = as_text(found, [table]).partition("Published beside measured: not comparable\n")[2]
    (row,) = [line for line in text.splitlines() if line.startswith("sam")]
    assert re.fullmatch(r"sam( +[+−]\d+\.\d\d){6}( +no result){2}", row)
    assert "Not comparable: model is tiny, split is files and 1 more setting.\n" in text
    assert [*table.data["word"]] == ["not comparable"] * 6 + [None, None]


def test_foreign_strings_command_no_terminal(tmp_path: Path) -> None:
    label = "\x1b[2J | <b>bold<"
    text = terminal(
        frame(
            tmp_path,
            record("rte", label, 0, setting={"method": {"name": label}}),
            failure("rte", "sam", 1, "\x1b[2J | <b>bold</b>\u202e"),
        )
    )
    assert "\x1b" not in text and "\u202e" not in text
    assert "failed: rte / sam seed 1: \ufffd[2J | <b>bold</b>\ufffd" in text


def verdict(number: str, state: State, estimate: float | None = None, **changes: Any) -> Verdict:
    (claim,) = [claim for claim in CLAIMS if claim.number == number]
    fields = {"reason": f"Reason {number}.", "statistic": "points", "interval": None}
    fields |= {"share": None, "runs": 7, "published": f"Table 1: {number}"}
    return Verdict(claim=claim, state=state, estimate=estimate, **(fields | changes))


def test_verdicts_are_a_list_on_the_terminal(tmp_path: Path) -> None:
    long = "A reason that is longer than a line of a terminal, because it says all of it. " * 2
    found = [
        verdict("1", "not enough data", reason=long, published="Table 1: " + "method, " * 12),
        verdict("2", "not supported"),
        verdict("3", "supported"),
        verdict("4", "not enough data", published=UNAVAILABLE),
        verdict("5", "supported"),
    ]
    text = as_text(frame(tmp_path, record()), [verdicts.verdicts(found)])
    told = text.partition("The papers' claims\n")[2]
    heads = re.findall(r"^\((\d)\) ([a-z ]+): ", told, re.MULTILINE)
    states = {item.claim.number: item.state for item in found}
    assert heads == [(number, states[number]) for number in "35214"]
    assert f"\n    {long[:94]}\n    {long[95:].strip()}\n" in told
    assert "\n    published: Table 1:" + 9 * " method," + "\n    method, method, method,\n" in told
    assert told.count("published: ") == 4
    assert max(map(len, told.splitlines())) <= 100


def test_counts_among_the_estimates_have_no_decimals() -> None:
    within = {"interval": (1.0, 3.0)}
    found = [verdict(n, "supported", 2.0, **within) for n in ("1", "2", "3", "4", "5", "7")]
    found.append(verdict("1", "supported", 2.0))
    table = verdicts.verdicts(found)
    whole, measured = "2 [1, 3]", "2.00 [1.00, 3.00]"
    shown = [whole, whole, measured, whole, measured, measured, "2"]
    assert [row[3].text for row in table.rows] == shown
    assert table.columns[0].title == "claim" and "may not contain the estimate" in table.notes[2]
