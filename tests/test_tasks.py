"""The task table is jiant's, and no file passes that jiant's readers would not take."""

import json
import time
from importlib import import_module

import numpy as np
import pytest
from support.refusals import refusal
from support.rows import GOOD

from jiant_sparse.data import tasks
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.tasks import PHASES, TASKS, find, read_rows, variant


def problems(tmp_path, name, *lines):
    path = tmp_path / "train.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    return refusal(read_rows, path, TASKS[name]).replace(str(path), "FILE").splitlines()


def test_table():
    assert PHASES == ("train", "val", "test")
    assert list(TASKS) == list(GOOD) == [*published_dev_split(), "sst", "qnli"]
    titles = [task.title for task in TASKS.values()]
    assert titles == ["CoLA", "STS-B", "MRPC", "RTE", "CB", "COPA", "WSC", "SST-2", "QNLI"]
    for name, task in TASKS.items():
        assert task.name == task.like == name
        assert task.metric in task.metrics
        assert bool(task.labels) != bool(task.label_range)


@pytest.mark.parametrize("name", TASKS)
def test_table_is_jiants(name, tmp_path):
    from jiant.tasks.evaluate import core
    from jiant.tasks.retrieval import TASK_DICT

    task, reader = TASKS[name], TASK_DICT[name]
    module = import_module(f"jiant.tasks.lib.{ {'cb': 'commitmentbank'}.get(name, name) }")
    assert reader.__module__ == module.__name__
    with open(module.__file__) as stream:
        assert ('line["idx"]' in stream.read()) == task.needs_idx
    if name == "stsb":
        assert task.label_range == (0.0, 5.0)
    else:
        labels = reader.CHOICE_KEYS if name == "copa" else reader.LABELS
        assert {(label, type(label)) for label in task.labels} == {(x, type(x)) for x in labels}
    # jiant reads the good row.
    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(GOOD[name]) + "\n")
    assert read_rows(path, task) == [GOOD[name]]
    made = reader(name=name, path_dict={"val": str(path)})
    (example,) = made.get_val_examples()
    assert example.label == GOOD[name]["label"]
    got = core.get_evaluation_scheme_for_task(made).compute_metrics_from_preds_and_labels(
        preds=np.array([0, 1, 2, 0]) % len(task.labels or "01"),
        labels=np.array([0, 1, 0, 2]) % len(task.labels or "01"),
    )
    assert set(got.minor) == set(task.metrics)


def test_find():
    assert find("rte") is TASKS["rte"]
    assert refusal(find, "colla") == (
        "task 'colla' is unknown; did you mean cola? known: "
        "cola, stsb, mrpc, rte, cb, copa, wsc, sst, qnli"
    )


def test_variant():
    task = variant("my_nli", like="cb", metric="avg_f1")
    assert (task.name, task.title, task.like) == ("my_nli", "my_nli", "cb")
    assert (task.metric, TASKS["cb"].metric) == ("avg_f1", "acc")
    assert variant("cb", like="cb") == TASKS["cb"]


@pytest.mark.parametrize(
    ("name", "like", "metric", "message"),
    [
        ("x", "nli", None, "task 'nli' is unknown"),
        ("../x", "rte", None, "task name '../x' cannot be a folder name; a name has letters"),
        ("cola", "rte", None, "task 'cola' is read like cola, got like: rte; choose another name"),
        ("x", "mrpc", "acc_f1", "did you mean acc_and_f1? known"),
        ("x", "mrpc", "F", "metric is 'F', which a task like mrpc has not"),
    ],
)
def test_wrong_variants(name, like, metric, message):
    assert message in refusal(variant, name, like, metric)


BLANK = "it must be a string that is not blank"
WHOLE = "it must be a whole number >= 0"
SCORE = "it must be a number from 0 to 5"
FIELDS = [
    # Labels compare by type and value.
    ("cola", {"label": 1}, 'label is 1; allowed are "0", "1"'),
    ("copa", {"label": True}, "label is true; allowed are 0, 1"),
    ("copa", {"label": 1.0}, "label is 1.0; allowed are 0, 1"),
    ("wsc", {"label": 1}, "label is 1; allowed are false, true"),
    ("cb", {"label": "no"}, 'label is "no"; allowed are "neutral", "entailment", "contradiction"'),
    ("stsb", {"label": 5.5}, f"label is 5.5; {SCORE}"),
    ("stsb", {"label": True}, f"label is true; {SCORE}"),
    ("stsb", {"label": "3"}, f'label is "3"; {SCORE}'),
    ("copa", {"question": "why"}, 'question is "why"; allowed are "cause", "effect"'),
    ("copa", {"premise": 7}, f"premise is 7; {BLANK}"),
    ("copa", {"choice1": " "}, f'choice1 is " "; {BLANK}'),
    ("copa", {"idx": True}, f"idx is true; {WHOLE}"),
    ("copa", {"idx": -1}, f"idx is -1; {WHOLE}"),
    ("wsc", {"target": [0, 4]}, "target is [0, 4]; it must be an object with the two spans"),
]
SPANS = [
    (
        {"span2_index": 6, "span2_text": "there. he"},
        "span2 is 2 words from word 6 on; text has 7 words, counted from 0 and parted by spaces",
    ),
    ({"span1_index": "0"}, f'span1_index is "0"; {WHOLE}'),
    ({"span1_text": ""}, f'span1_text is ""; {BLANK}'),
]


def test_fields(tmp_path):
    for name, fields, message in FIELDS:
        assert problems(tmp_path, name, GOOD[name] | fields) == [f"FILE:1: {message}"]
    good = GOOD["wsc"]
    lines = [good | {"target": good["target"] | fields} for fields, _ in SPANS]
    assert problems(tmp_path, "wsc", *lines) == [
        f"FILE:{number}: target.{message}" for number, (_, message) in enumerate(SPANS, start=1)
    ]
    (found,) = problems(tmp_path, "copa", {k: v for k, v in GOOD["copa"].items() if k != "idx"})
    got = "premise, choice1, choice2, question, label"
    assert found == f'FILE:1: field "idx" is missing; got {got}'
    assert problems(tmp_path, "copa", {})[0] == 'FILE:1: field "premise" is missing; got no field'
    found = problems(tmp_path, "cola", *[GOOD["cola"] | {"label": 2}] * 50)
    assert len(found) == 21 and found[-1] == "FILE: and 30 more"


def test_lines_are_strict_json(tmp_path):
    good = json.dumps(GOOD["stsb"])
    lines = {
        "": "the line is blank; expected one JSON object per line",
        "[1]": "got [1]; expected one JSON object per line",
        "{'label': 1}": "not valid JSON (Expecting property name",
        good.replace("2.5", "NaN"): "not valid JSON (NaN is not a number)",
        '{"label": 1, "label": 2}': 'not valid JSON (field "label" is given twice)',
        "[" * 100_000: "",
    }
    found = problems(tmp_path, "stsb", good, *lines)
    for number, (problem, message) in enumerate(zip(found, lines.values(), strict=True), start=2):
        assert problem.startswith(f"FILE:{number}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 400, "not valid JSON (9999999999... is beyond 2^63)"),
        ("-" + "9" * 5000, "not valid JSON (-999999999... is beyond 2^63)"),
        ("1e999", "not valid JSON (1e999 is no finite number)"),
        ("[" * 50 + "]" * 50, "the JSON is nested too deeply"),
        ("[" * 5000 + "]" * 5000, "the JSON is nested too deeply"),
        ('{"a":' * 50 + "1" + "}" * 50, "the JSON is nested too deeply"),
        ('"\\ud800"', "not valid JSON ('utf-8' codec can't encode character"),
    ],
)
def test_impossible_values(tmp_path, text, message):
    for field in ("label", "idx", "text", "more"):
        line = json.dumps(GOOD["cola"] | {field: "HERE"}).replace('"HERE"', text)
        (found,) = problems(tmp_path, "cola", line)
        assert found.startswith(f"FILE:1: {message}") and len(found) < 300


def test_good_values(tmp_path):
    path = tmp_path / "x.jsonl"
    big = {"idx": 2**63 - 1, "text": "\U0001f600", "more": [[{"a": [-1e308]}]]}
    for name, fields in (("cola", big), ("stsb", {"label": 3})):
        path.write_text(json.dumps(GOOD[name] | fields))
        assert read_rows(path, TASKS[name]) == [GOOD[name] | fields]


def test_repeated_field_among_many(tmp_path):
    names = [*range(100_000), 99_999]
    line = "{" + ", ".join(f'"{name}": 1' for name in names) + "}"
    began = time.monotonic()
    (found,) = problems(tmp_path, "cola", line)
    assert found.startswith('FILE:1: not valid JSON (field "99999" is given twice)')
    assert time.monotonic() - began < 5


def test_wrong_files(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    monkeypatch.setattr(tasks, "MOST_LINES", 10)
    for make, message in (
        (lambda: None, "cannot be read: No such file"),
        (path.touch, "the file is empty; expected one JSON"),
        (lambda: path.write_text("{}\n" * 12), "has 12 lines; at most 10 are read"),
    ):
        make()
        assert f"x.jsonl: {message}" in refusal(read_rows, path, TASKS["cola"])
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    assert "x.jsonl:1: byte 14 is not UTF-8" in refusal(read_rows, path, TASKS["cola"])
    with open(path, "wb") as stream:
        stream.truncate(tasks.LARGEST_BYTES + 1)
    assert "has 1,000,000,001 bytes; at most 1,000,000,000 are read" in refusal(
        read_rows, path, TASKS["cola"]
    )
