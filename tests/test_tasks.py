import json
import os
import time
from importlib import import_module

import pytest
from support.rows import GOOD

from jiant_sparse.data import tasks
from jiant_sparse.data.tasks import PHASES, TASKS, find, read_rows, variant
from jiant_sparse.errors import InputError

MODULES = {"cb": "commitmentbank"}


def problems(tmp_path, name, *lines):
    path = tmp_path / "train.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n")
    with pytest.raises(InputError) as caught:
        read_rows(path, TASKS[name])
    return [problem.replace(str(path), "FILE") for problem in caught.value.problems]


def spoilt(name, **fields):
    return GOOD[name] | fields


def test_the_table_is_complete():
    assert list(TASKS) == ["cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc", "sst", "qnli"]
    assert set(GOOD) == set(TASKS)
    titles = [task.title for task in TASKS.values()]
    assert titles == ["CoLA", "STS-B", "MRPC", "RTE", "CB", "COPA", "WSC", "SST-2", "QNLI"]
    for name, task in TASKS.items():
        assert task.name == task.like == name
        assert task.metric in task.metrics
        assert bool(task.labels) != bool(task.label_range)


@pytest.mark.parametrize("name", TASKS)
def test_labels_and_reader_are_those_of_jiant(name):
    from jiant.tasks.retrieval import TASK_DICT

    reader = TASK_DICT[TASKS[name].reader]
    assert reader.__module__ == f"jiant.tasks.lib.{MODULES.get(name, name)}"
    if name == "stsb":
        assert TASKS[name].label_range == (0.0, 5.0)
    elif name == "copa":
        assert list(TASKS[name].labels) == reader.CHOICE_KEYS
    else:
        assert set(TASKS[name].labels) == set(reader.LABELS)
        types = {type(label) for label in reader.LABELS}
        assert {type(label) for label in TASKS[name].labels} == types


@pytest.mark.parametrize("name", TASKS)
def test_jiant_reads_the_good_row(name, tmp_path):
    from jiant.tasks.retrieval import TASK_DICT

    path = tmp_path / "val.jsonl"
    path.write_text(json.dumps(GOOD[name]) + "\n")
    assert read_rows(path, TASKS[name]) == [GOOD[name]]
    task = TASK_DICT[TASKS[name].reader](name=name, path_dict={"val": str(path)})
    (example,) = task.get_val_examples()
    assert example.label == GOOD[name]["label"]


@pytest.mark.parametrize("name", TASKS)
def test_the_metrics_are_those_of_jiants_evaluation(name):
    from jiant.tasks.evaluate import core
    from jiant.tasks.retrieval import TASK_DICT
    from numpy import array

    task = TASK_DICT[TASKS[name].reader](name=name, path_dict={})
    scheme = core.get_evaluation_scheme_for_task(task)
    got = scheme.compute_metrics_from_preds_and_labels(
        preds=array([0, 1, 2, 0]) % len(TASKS[name].labels or "01"),
        labels=array([0, 1, 0, 2]) % len(TASKS[name].labels or "01"),
    )
    assert set(got.minor) == set(TASKS[name].metrics)


def test_the_readers_of_the_rte_family_need_idx(tmp_path):
    for name, task in TASKS.items():
        module = import_module(f"jiant.tasks.lib.{MODULES.get(name, name)}")
        with open(module.__file__) as stream:
            assert ('line["idx"]' in stream.read()) == task.needs_idx, name


def test_find_suggests():
    assert find("rte") is TASKS["rte"]
    with pytest.raises(InputError) as caught:
        find("colla")
    assert str(caught.value) == (
        "task 'colla' is unknown; did you mean cola? known: "
        "cola, stsb, mrpc, rte, cb, copa, wsc, sst, qnli"
    )


def test_variant_has_its_own_folder_and_a_known_reader():
    task = variant("my_nli", like="cb", metric="avg_f1")
    assert (task.name, task.title, task.like, task.reader) == ("my_nli", "my_nli", "cb", "cb")
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
        ("x.", "rte", None, "task name 'x.' cannot be a folder name"),
        ("x" * 201, "rte", None, "at most 200 characters"),
    ],
)
def test_variant_refuses(name, like, metric, message):
    with pytest.raises(InputError) as caught:
        variant(name, like, metric)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("cola", 1, 'label is 1; allowed are "0", "1"'),
        ("copa", True, "label is true; allowed are 0, 1"),
        ("copa", 1.0, "label is 1.0; allowed are 0, 1"),
        ("wsc", 1, "label is 1; allowed are false, true"),
        ("rte", "Entailment", 'label is "Entailment"; allowed are "entailment", "not_entailment"'),
        ("stsb", 5.5, "label is 5.5; it must be a number from 0 to 5"),
        ("stsb", True, "label is true; it must be a number from 0 to 5"),
        ("stsb", "3", 'label is "3"; it must be a number from 0 to 5'),
    ],
)
def test_a_label_is_compared_by_type_and_value(name, label, message, tmp_path):
    assert problems(tmp_path, name, spoilt(name, label=label)) == [f"FILE:1: {message}"]


def test_a_whole_number_is_a_score(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(spoilt("stsb", label=3)))
    assert read_rows(path, TASKS["stsb"])[0]["label"] == 3


def test_fields_are_checked(tmp_path):
    lines = [
        spoilt("copa", question="why"),
        spoilt("copa", premise=7),
        spoilt("copa", choice1=" "),
        spoilt("copa", idx=True),
        spoilt("copa", idx=-1),
        {"premise": "A.", "choice1": "B.", "choice2": "C.", "question": "cause", "label": 0},
        {},
    ]
    found = problems(tmp_path, "copa", *lines)
    assert found[:6] == [
        'FILE:1: question is "why"; allowed are "cause", "effect"',
        "FILE:2: premise is 7; it must be a string that is not blank",
        'FILE:3: choice1 is " "; it must be a string that is not blank',
        "FILE:4: idx is true; it must be a whole number >= 0",
        "FILE:5: idx is -1; it must be a whole number >= 0",
        'FILE:6: field "idx" is missing; got premise, choice1, choice2, question, label',
    ]
    assert found[6] == 'FILE:7: field "premise" is missing; got no field'


def test_spans_must_lie_in_the_text(tmp_path):
    good = GOOD["wsc"]["target"]
    found = problems(
        tmp_path,
        "wsc",
        spoilt("wsc", target=good | {"span2_index": 6, "span2_text": "there. he"}),
        spoilt("wsc", target=good | {"span1_index": "0"}),
        spoilt("wsc", target=good | {"span1_text": ""}),
        spoilt("wsc", target=[0, 4]),
    )
    assert found == [
        "FILE:1: target.span2 is 2 words from word 6 on; text has 7 words, counted from 0 and "
        "parted by spaces",
        'FILE:2: target.span1_index is "0"; it must be a whole number >= 0',
        'FILE:3: target.span1_text is ""; it must be a string that is not blank',
        "FILE:4: target is [0, 4]; it must be an object with the two spans",
    ]


def test_lines_must_be_strict_json(tmp_path):
    good = json.dumps(GOOD["stsb"])
    found = problems(
        tmp_path, "stsb", good, "", "[1]", "{'label': 1}", good.replace("2.5", "NaN"),
        '{"label": 1, "label": 2}', "[" * 100_000,
    )  # fmt: skip
    assert found[0] == "FILE:2: the line is blank; expected one JSON object per line"
    assert found[1] == "FILE:3: got [1]; expected one JSON object per line"
    assert found[2].startswith("FILE:4: not valid JSON (Expecting property name")
    assert found[3].startswith("FILE:5: not valid JSON (NaN is not a number)")
    assert found[4].startswith('FILE:6: not valid JSON (field "label" is given twice)')
    assert found[5].startswith("FILE:7: ")


def test_bytes_must_be_utf8(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"x.jsonl:1: byte 14 is not UTF-8"):
        read_rows(path, TASKS["cola"])


def test_the_number_of_printed_problems_is_bounded(tmp_path):
    found = problems(tmp_path, "cola", *[spoilt("cola", label=2)] * 50)
    assert len(found) == 21
    assert found[-1] == "FILE: and 30 more"


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(InputError, match="no.jsonl: cannot be read: No such file"):
        read_rows(tmp_path / "no.jsonl", TASKS["cola"])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty.jsonl: the file is empty; expected one JSON"):
        read_rows(tmp_path / "empty.jsonl", TASKS["cola"])


def test_phases():
    assert PHASES == ("train", "val", "test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("9" * 400, "not valid JSON (9999999999... is beyond 2^63)"),
        ("-" + "9" * 5000, "not valid JSON (-999999999... is beyond 2^63)"),
        ("1e999", "not valid JSON (1e999 is no finite number)"),
        ("[" * 50 + "]" * 50, "the JSON is nested too deeply"),
        ("[" * 985 + "]" * 985, "the JSON is nested too deeply"),
        ("[" * 5000 + "]" * 5000, "the JSON is nested too deeply"),
        ('{"a":' * 50 + "1" + "}" * 50, "the JSON is nested too deeply"),
        ('"\\ud800"', "not valid JSON ('utf-8' codec can't encode character"),
    ],
)
@pytest.mark.parametrize("field", ["label", "idx", "text", "more"])
def test_values_that_nothing_can_hold_are_refused(tmp_path, field, text, message):
    line = json.dumps(GOOD["cola"] | {field: "HERE"}).replace('"HERE"', text)
    (found,) = problems(tmp_path, "cola", line)
    assert found.startswith(f"FILE:1: {message}")
    assert len(found) < 300


def test_values_within_reason_are_taken(tmp_path):
    path = tmp_path / "x.jsonl"
    row = GOOD["cola"] | {"idx": 2**63 - 1, "text": "\U0001f600", "more": [[{"a": [-1e308]}]]}
    path.write_text(json.dumps(row))
    assert read_rows(path, TASKS["cola"]) == [row]


def test_a_field_given_twice_is_found_among_many(tmp_path):
    names = [*range(100_000), 99_999]
    line = "{" + ", ".join(f'"{name}": 1' for name in names) + "}"
    began = time.monotonic()
    (found,) = problems(tmp_path, "cola", line)
    assert found.startswith('FILE:1: not valid JSON (field "99999" is given twice)')
    assert time.monotonic() - began < 5


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path, monkeypatch):
    path = tmp_path / "x.jsonl"
    os.mkfifo(path)
    with pytest.raises(InputError, match="x.jsonl: is not a regular file"):
        read_rows(path, TASKS["cola"])
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="x.jsonl: is not a regular file"):
        read_rows(path, TASKS["cola"])
    path.unlink()
    with open(path, "wb") as stream:
        stream.truncate(tasks.LARGEST_BYTES + 1)
    with pytest.raises(InputError, match="has 1,000,000,001 bytes; at most 1,000,000,000 are read"):
        read_rows(path, TASKS["cola"])
    path.write_text("{}\n" * 12)
    monkeypatch.setattr(tasks, "MOST_LINES", 10)
    with pytest.raises(InputError, match="x.jsonl: has 12 lines; at most 10 are read"):
        read_rows(path, TASKS["cola"])
