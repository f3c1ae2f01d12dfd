"""Sentences of the report that no golden file holds: comparability, caveats, and the terminal."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.records import PUBLISHED_TRAINING, cells, failure, record, write

from jiant_sparse.report import build, notes
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


def test_older_records_are_told_together_with_new_ones(tmp_path: Path) -> None:
    """Evaluation had 32 rows a batch by default, then a budget of tokens."""
    told = "the seeds were run with 2 different settings"
    for rows, different in ((32, False), (16, True)):
        found = frame(
            tmp_path / str(rows), trained("sam", 0, eval_batch_size=rows), trained("sam", 1)
        )
        assert any(told in warning for warning in notes.warnings(found)) == different


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

ALL = (
    "The scores are of the set that also chose each run's best step, and its learning rate where "
    "that was selected (split dev_as_test, as in Akbar-Tajari and Pilehvar 2024): they are "
    "optimistic, and not comparable with those of a test set that chose nothing, as in Fu et al. "
    "2023."
)


def chosen(task: str = "rte", method: str = "sam", seed: int = 0, test: Any = 0.7) -> Record:
    return record(task, method, seed, test, setting={"split": "dev_as_test"})


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
        # Even the seeds may be mixed.
        *(record("rte", "sam", 0), chosen("rte", "bitfit", 0), record("rte", "bitfit", 1)),
        *(record("rte", "random", 0), record("cb", "bitfit", 0)),
        # Without a score a method is of neither kind.
        failure("rte", "mixout", 0, "no"),
    ]
    found = notes.chosen_on_test(frame(tmp_path, *records))
    assert found.startswith("5 of the 9 scores are of the set that also chose each run's best")
    assert ": bitfit (RTE), lora. They are optimistic, and not comparable with the others" in found
    many = [chosen(method=f"m{k}") for k in range(8)]
    found = notes.chosen_on_test(frame(tmp_path / "b", record(), *many))
    assert ": m0, m1, m2, m3, m4, m5 and 2 more. They" in found


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
    metrics, _ = notes.footnotes(frame(tmp_path, *(record(task) for task in SEVEN)))
    assert metrics == (
        "CoLA: Matthews correlation. STS-B: mean of Pearson and Spearman correlation. "
        "MRPC: mean of accuracy and F1. CB: accuracy, as in the paper."
    )
    assert notes.footnotes(frame(tmp_path / "b", record())) == []


def test_a_method_with_fixed_weights_has_no_share_of_one_step(tmp_path: Path) -> None:
    counts = {"eligible": 1000, "selected": 400, "added": 0, "head": 20, "trainable": 1020}
    params = Params(**counts, changed=500)
    found = frame(tmp_path, record("rte", "stochastic_tuning", params=params))
    assert notes.per_step(found) == ""
    assert cells(parameters(found), "stochastic_tuning")["tuned"].text == "40.00"
    assert notes.warnings(found)[-1] == (
        "stochastic_tuning: 50.00 % of the weights changed, but 40.00 % were selected (rte)."
    )


# --- The terminal


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
    named = record("rte", label, 0, setting={"method": {"name": label}})
    failed = [failure("rte", "sam", 1, "\x1b[2J | <b>bold</b>\u202e"), failure("rte", "sam", 2, "")]
    long = failure("rte", "sam", 3, "RuntimeError: " + "very " * 80)
    found = frame(tmp_path, named, *failed, long)
    text = as_text(found, make(found, None, []))
    assert "\x1b" not in text and "\u202e" not in text
    assert "failed: rte / sam seed 1: \ufffd[2J | <b>bold</b>\ufffd" in text
    assert "failed: rte / sam seed 2: no message recorded" in text
    # An error's first line is cut, and says so.
    (cut,) = re.findall(r"seed 3: (.*?…)", " ".join(text.split()))
    assert len(cut) == 201


def verdict(number: str, state: State, estimate: float | None = None, **changes: Any) -> Verdict:
    (claim,) = [claim for claim in CLAIMS if claim.number == number]
    fields = {"reason": f"Reason {number}.", "statistic": "points", "interval": None}
    fields |= {"share": None, "runs": 7, "published": f"Table 1: {number}"}
    return Verdict(claim=claim, state=state, estimate=estimate, **(fields | changes))


def test_verdicts_are_a_list_on_the_terminal(tmp_path: Path) -> None:
    found = [
        verdict("1", "not enough data"),
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
    assert "\n    Reason 3.\n    published: Table 1: 3\n" in told
    assert told.count("published: ") == 4


def test_counts_among_the_estimates_have_no_decimals() -> None:
    within = {"interval": (1.0, 3.0)}
    found = [verdict(n, "supported", 2.0, **within) for n in ("1", "2", "3", "4", "5", "7")]
    found.append(verdict("1", "supported", 2.0))
    table = verdicts.verdicts(found)
    whole, measured = "2 [1, 3]", "2.00 [1.00, 3.00]"
    shown = [whole, whole, measured, whole, measured, measured, "2"]
    assert [row[3].text for row in table.rows] == shown
    assert table.rows[0][1].tone == "good" and table.rows[0][3].value == 2.0
