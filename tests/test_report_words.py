"""What the report says in words: how runs stand to the paper's, verdicts, and all in a terminal."""

import re
from pathlib import Path
from typing import Any

import pytest
from support.records import PUBLISHED_TRAINING, failure, record, write

from jiant_sparse.report import notes
from jiant_sparse.report.claims import State, Verdict
from jiant_sparse.report.claims.printed import unavailable
from jiant_sparse.report.claims.questions import Claim
from jiant_sparse.report.frame import load
from jiant_sparse.report.render import to_markdown
from jiant_sparse.report.tables import beside, verdicts
from jiant_sparse.report.terminal import as_text

SEVEN = ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc"]


def trained(method: str, seed: int = 0, **train: Any) -> Any:
    setting = {"train": {**PUBLISHED_TRAINING, **train}, "model": "tiny", "split": "files"}
    return record("rte", method, seed, setting=setting)


def test_values_of_one_setting_are_told_together(tmp_path: Path) -> None:
    directory = write(
        tmp_path,
        trained("full_tuning", learning_rate=3e-4, max_steps=60, batch_size=8, patience=None),
        trained("lora", learning_rate=6e-4, max_steps=40, patience=0),
        # Two seeds of a result that differ: one result.
        trained("sam", 0, learning_rate=0.003, max_steps=100, patience=10),
        trained("sam", 1, learning_rate=6e-4, max_steps=40, patience=0),
        failure("rte", "random", 0, "x"),
        record("rte", "fish", 0, setting={"model": "not a published method"}),
    )
    summary = load(directory)
    assert notes.comparability(summary) == (
        False,
        "not comparable: model is tiny, split is files, batch_size is 8 (1 of 3 results), "
        "learning_rate is 0.0003, 0.0006 or 0.003, patience is 0, 10 or unknown, "
        "max_steps is 40, 60 or 100",
    )
    briefly = "model is tiny, split is files and 4 more settings"
    assert notes.apart_briefly(summary) == briefly
    assert notes.comparability_briefly(summary) == f"not comparable: {briefly}"


def test_model_and_split_come_first(tmp_path: Path) -> None:
    later = {"split": "files", "model": "tiny"}
    records = [record("rte", "full_tuning", 0, setting={"drop_train": 0.3})]
    records.append(record("rte", "sam", 0, setting=later))
    summary = load(write(tmp_path, *records))
    assert notes.comparability(summary)[1] == (
        "not comparable: model is tiny (1 of 2 results), split is files (1 of 2 results), "
        "drop_train is 0.3 (1 of 2 results)"
    )


def test_one_result_that_departs_does_not_make_all_incomparable(tmp_path: Path) -> None:
    denser = {"method": {"name": "sam", "density": 0.01}}
    records = [record(task, "sam", 0) for task in SEVEN[:-1]]
    # What has no result is neither.
    failed = failure("rte", "random", 0, "x")
    directory = write(tmp_path, *records, record("wsc", "sam", 0, setting=denser), failed)
    summary = load(directory)
    one = "density is 0.01 (1 of 7 results)"
    assert notes.comparability(summary) == (False, f"partly not comparable: {one}")
    assert notes.comparability_briefly(summary) == f"partly not comparable: {one}"
    assert notes.apart_briefly(summary) == one
    alone = load(write(tmp_path / "b", records[0], failed))
    assert notes.comparability(alone)[0] and notes.apart_briefly(alone) == ""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({}, ""),
        ({"model": "tiny"}, "model is tiny"),
        ({"split": "files", "pooling": "mean"}, "split is files and pooling is mean"),
        (
            {"model": "tiny", "split": "files", "pooling": "mean"},
            "model is tiny, split is files and 1 more setting",
        ),
    ],
)
def test_a_brief_list_names_two_settings(
    tmp_path: Path, setting: dict[str, Any], said: str
) -> None:
    summary = load(write(tmp_path, record("rte", "sam", 0, setting=setting)))
    assert notes.apart_briefly(summary) == said
    if not said:
        assert notes.comparability_briefly(summary) == notes.comparability(summary)[1]


def test_metrics_are_one_note(tmp_path: Path) -> None:
    directory = write(tmp_path, *(record(task, "sam", 0) for task in SEVEN))
    metrics, wsc = notes.footnotes(load(directory))
    assert metrics.startswith("CoLA: Matthews correlation. STS-B: mean of Pearson")
    assert metrics.endswith("F1. CB: accuracy, as in the paper.") and wsc.startswith("WSC: ")
    assert notes.footnotes(load(write(tmp_path / "b", record("rte", "sam")))) == []


def test_the_terminal_shows_differences_alone_if_all_would_fold(tmp_path: Path) -> None:
    setting = {"model": "tiny", "split": "files", "pooling": "mean"}
    records = [record(task, "sam", 0, setting=setting) for task in SEVEN]
    directory = write(tmp_path, *records[:6], failure("wsc", "sam", 0, "x"))
    summary = load(directory)
    table = beside.published(summary)
    text, markdown = as_text(summary, [table]), to_markdown(table)
    shown = text.partition("Published beside measured: not comparable\n")[2]
    (row,) = [line for line in shown.splitlines() if line.startswith("sam")]
    assert re.fullmatch(r"sam( +[+−]\d+\.\d\d){6}( +no result){2}", row)
    assert "Not comparable: model is tiny, split is files and 1 more setting.\n" in shown
    assert "60.89 ± 0.96" in markdown and "pooling is mean" in markdown
    assert [line[-2] for line in table.lines] == ["not comparable"] * 6 + [None, None]


def verdict(number: str, state: State, estimate: float | None = None, **changes: Any) -> Verdict:
    claim = Claim(number, f"Claim {number} \x1b[2J", "section 5.2")
    fields = {"reason": f"Reason {number}.", "statistic": "points", "interval": None}
    fields |= {"share": None, "runs": 7, "published": f"Table 1: {number}"}
    return Verdict(claim=claim, state=state, estimate=estimate, **(fields | changes))


def test_verdicts_are_a_list_on_the_terminal(tmp_path: Path) -> None:
    long = "A reason that is longer than a line of a terminal, because it says all of it. " * 2
    found = [
        verdict("1", "not enough data", reason=long, published="Table 1: " + "method, " * 12),
        verdict("2", "not supported"),
        verdict("3", "supported"),
        verdict("4", "not enough data", published=unavailable()),
        verdict("5", "supported"),
    ]
    summary = load(write(tmp_path, record("rte", "sam", 0)))
    text = as_text(summary, [verdicts.verdicts(found)])
    lines = text.partition("The papers' claims\n")[2].splitlines()
    assert lines == [
        *("(3) supported: Claim 3 \ufffd[2J", "    Reason 3.", "    published: Table 1: 3"),
        *("(5) supported: Claim 5 \ufffd[2J", "    Reason 5.", "    published: Table 1: 5"),
        *("(2) not supported: Claim 2 \ufffd[2J", "    Reason 2.", "    published: Table 1: 2"),
        "(1) not enough data: Claim 1 \ufffd[2J",
        f"    {long[:94]}",
        f"    {long[95:].strip()}",
        "    published: Table 1:" + 9 * " method,",
        "    method, method, method,",
        *("(4) not enough data: Claim 4 \ufffd[2J", "    Reason 4."),
    ]
    assert max(map(len, lines)) <= 100


def test_counts_among_the_estimates_have_no_decimals() -> None:
    within = {"interval": (1.0, 3.0)}
    found = [verdict(n, "supported", 2.0, **within) for n in ("1", "2", "3", "4", "5", "7")]
    found.append(verdict("1", "supported", 2.0))
    shown = [row[3].text for row in verdicts.verdicts(found).rows]
    whole, measured = "2 [1, 3]", "2.00 [1.00, 3.00]"
    assert shown == [whole, whole, measured, whole, measured, measured, "2"]


def test_the_verdicts_say_what_resampling_does_not_know() -> None:
    table = verdicts.verdicts([verdict("5", "supported")])
    notes = " ".join(table.notes)
    for said in (
        "drawn towards zero",
        "may not contain the estimate",
        "takes all pairs for independent",
        "over seeds only",
        "share their seeds, but are resampled independently",
    ):
        assert said in notes
    assert table.columns[0].title == "claim"
