import json
import os

import pytest

from jiant_sparse import files
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.store import MANIFEST, read_manifest, write_manifest
from jiant_sparse.data.synthetic import synthesize
from jiant_sparse.data.tasks import TASKS, variant
from jiant_sparse.data.verify import PhaseSummary, summary, verify
from jiant_sparse.errors import InputError

# A folder name of its own: nothing is compared with the original data set's size.
NLI = variant("nli", like="rte")
LABELS = ("entailment", "not_entailment")


def write(data_dir, task, phase, rows):
    path = data_dir / task.name / f"{phase}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pair(text, label=0, index=0):
    return {"premise": text, "hypothesis": "h", "label": LABELS[label], "idx": index}


@pytest.fixture
def data_dir(tmp_path):
    for phase in ("train", "val", "test"):
        rows = [pair(f"{phase} {index}", index % 2, index) for index in range(4)]
        write(tmp_path, NLI, phase, rows)
    return tmp_path


def test_nothing_to_say(data_dir):
    found = verify(data_dir, [NLI])
    assert (found.errors, found.notes) == ((), ())


def test_bad_and_missing_files_are_errors(data_dir):
    write(data_dir, NLI, "train", [pair("a") | {"label": "yes"}])
    (data_dir / "nli" / "test.jsonl").unlink()
    first, second = verify(data_dir, [NLI]).errors
    assert first == (
        f'{data_dir}/nli/train.jsonl:1: label is "yes"; allowed are "entailment", "not_entailment"'
    )
    assert second.startswith(f"{data_dir}/nli/test.jsonl: cannot be read")


def test_repetitions_are_notes_with_both_places(data_dir):
    write(data_dir, NLI, "val", [pair("v", 0, 0), pair("train 1", 0, 1), pair("v", 1, 2)])
    write(data_dir, NLI, "test", [pair("train 0", 0, 0), pair("w", 1, 1)])
    found = verify(data_dir, [NLI])
    assert found.errors == ()
    assert found.notes == (
        "nli: 1 rows of val are also in train, 1 of them with another label: "
        "val.jsonl:2 = train.jsonl:2",
        "nli: 1 rows of test are also in train, 0 of them with another label: "
        "test.jsonl:1 = train.jsonl:1",
        "nli: 1 rows of val are again in val, 1 of them with another label: "
        "val.jsonl:3 = val.jsonl:1",
    )


def test_many_repetitions_are_cut(data_dir):
    write(data_dir, NLI, "val", [pair("train 1", 1, index) for index in range(30)])
    note = next(note for note in verify(data_dir, [NLI]).notes if "also in train" in note)
    assert note.endswith("val.jsonl:20 = train.jsonl:2 and 10 more")


def test_absent_labels_and_repeated_indices_are_notes(data_dir):
    write(data_dir, NLI, "val", [pair("v", 0, 6), pair("w", 0, 6)])
    assert verify(data_dir, [NLI]).notes == (
        'nli: no row of val has the label "not_entailment"',
        "nli: 1 idx occur more than once in val, the smallest is 6",
    )


def test_the_same_text_with_other_spans_is_no_repetition(tmp_path):
    task = variant("winograd", like="wsc")
    text = "Anna saw Mary because she was there ."
    for phase, name, start in (("train", "Anna", 0), ("val", "Mary", 2), ("test", "mary", 3)):
        spans = {"span1_index": start, "span1_text": name, "span2_index": 4, "span2_text": "she"}
        rows = [{"text": f"{text} {phase}" * label, "target": spans} for label in (1, 2)]
        rows = [row | {"label": number == 1, "idx": number} for number, row in enumerate(rows)]
        write(tmp_path, task, phase, rows)
    assert verify(tmp_path, [task]).notes == (
        "winograd: test.jsonl:1: span1 is 'mary', but the text has 'because' there; "
        "jiant goes by the index",
        "winograd: test.jsonl:2: span1 is 'mary', but the text has 'because' there; "
        "jiant goes by the index",
    )


def cb_rows(indices, labels):
    return [
        {"premise": f"p {index}", "hypothesis": "h", "label": label, "idx": index}
        for index, label in zip(indices, labels, strict=True)
    ]


def test_the_authors_cb_files_are_recognised(tmp_path, as_published):
    names = ["entailment"] * 119 + ["neutral"] * 115 + ["contradiction"] * 16
    dev = published_dev_split()["cb"]
    rows = cb_rows(range(250), names)
    test = [row | {"premise": f"t {row['idx']}"} for row in rows[100:156]]
    test[0]["label"] = "contradiction"
    write(tmp_path, TASKS["cb"], "train", [row for row in rows if row["idx"] not in dev])
    write(tmp_path, TASKS["cb"], "val", [row for row in rows if row["idx"] in dev])
    write(tmp_path, TASKS["cb"], "test", test)
    as_published(TASKS["cb"], [])
    assert verify(tmp_path, [TASKS["cb"]]).notes[0] == (
        "cb: not the authors' rows: idx, texts or labels differ in train and val and in test"
    )
    as_published(TASKS["cb"], rows, test)
    absent, named = verify(tmp_path, [TASKS["cb"]]).notes
    assert absent == 'cb: no row of val has the label "contradiction"'
    assert named.startswith("cb: the labels are named as jiant's own download")
    write(tmp_path, TASKS["cb"], "train", rows[25:])
    write(tmp_path, TASKS["cb"], "val", rows[:25])
    common = sum(index < 25 for index in dev)
    assert verify(tmp_path, [TASKS["cb"]]).notes[0] == (
        f"cb: val is not the authors' dev set: {common} of its 25 rows are among the authors' 25"
    )


def test_own_data_under_a_known_name_is_a_note(tmp_path):
    synthesize(tmp_path, [TASKS["cola"]], sizes={"train": 20, "val": 8, "test": 9})
    found = verify(tmp_path, [TASKS["cola"]])
    assert found.errors == ()
    assert found.notes == (
        "cola: not the original data: train and val have 28 rows and test 9; "
        "the original has 8551 and 1043",
    )


def test_a_changed_file_is_an_error(data_dir):
    write_manifest(data_dir, [NLI])
    assert verify(data_dir, [NLI]).errors == ()
    before = files.sha256(data_dir / "nli" / "val.jsonl")
    path = write(data_dir, NLI, "val", [pair("new 0", 0, 0), pair("new 1", 1, 1)])
    (error,) = verify(data_dir, [NLI]).errors
    assert error == (
        f"{path}: the file has changed; its SHA-256 is {files.sha256(path)[:16]}..., "
        f"{MANIFEST} has {before[:16]}...; restore it, or remove its line there if it was meant"
    )


def test_the_manifest_keeps_the_entries_of_other_tasks(data_dir):
    other = variant("other", like="rte")
    for phase in ("train", "val", "test"):
        write(data_dir, other, phase, [pair(phase)])
    write_manifest(data_dir, [NLI])
    recorded = read_manifest(data_dir)
    write(data_dir, NLI, "val", [pair("edited")])
    write_manifest(data_dir, [other])
    after = read_manifest(data_dir)
    assert {name: after[name] for name in recorded} == recorded
    assert set(after) - set(recorded) == {f"other/{phase}.jsonl" for phase in PHASE_NAMES}
    line = (data_dir / MANIFEST).read_text().splitlines()[0]
    assert line == f"{recorded['nli/test.jsonl']}  nli/test.jsonl"


PHASE_NAMES = ("train", "val", "test")


def test_a_bad_manifest(data_dir):
    (data_dir / MANIFEST).write_text("abc  nli/val.jsonl\n")
    message = f"{data_dir}/{MANIFEST}:1: got 'abc  nli/val.jsonl'; expected 64 hex digits, two"
    assert verify(data_dir, [NLI]).errors[0].startswith(message)
    with pytest.raises(InputError, match="expected 64 hex digits"):
        write_manifest(data_dir, [NLI])


def test_summary(data_dir):
    score = variant("score", like="stsb")
    for phase in PHASE_NAMES:
        rows = [{"text_a": "a", "text_b": "b", "label": x} for x in (0, 0.9, 1.0, 4.9, 5.0)]
        write(data_dir, score, phase, rows)
    found = summary(data_dir, [NLI, score])
    assert [(each.task, each.phase) for each in found] == [
        (name, phase) for name in ("nli", "score") for phase in PHASE_NAMES
    ]
    digest = files.sha256(data_dir / "nli" / "val.jsonl")
    labels = {"entailment": 2, "not_entailment": 2}
    assert found[1] == PhaseSummary("nli", "val", 4, labels, digest)
    assert found[3].labels == {"0-1": 2, "1-2": 1, "4-5": 2}
    with pytest.raises(InputError, match="cola/train.jsonl: cannot be read"):
        summary(data_dir, [NLI, TASKS["cola"]])


def test_labels_that_are_no_strings_are_counted_as_json(tmp_path):
    synthesize(tmp_path, [TASKS["wsc"]], sizes={"train": 20, "val": 10, "test": 10})
    assert summary(tmp_path, [TASKS["wsc"]])[0].labels == {"false": 11, "true": 9}


def test_the_manifest_is_a_regular_file_of_bounded_size(data_dir):
    path = data_dir / MANIFEST
    os.mkfifo(path)
    assert verify(data_dir, [NLI]).errors == (f"{path}: is not a regular file",)
    path.unlink()
    path.symlink_to(MANIFEST)
    expected = f"{path}: cannot be read: Too many levels of symbolic links"
    assert verify(data_dir, [NLI]).errors == (expected,)
    path.unlink()
    path.write_bytes(b"x" * 10_000_001)
    expected = f"{path}: has 10,000,001 bytes; at most 10,000,000 are read"
    assert verify(data_dir, [NLI]).errors == (expected,)
    path.write_text("x" * 5000 + "\n" + "y\n" * 1000)
    found = verify(data_dir, [NLI]).errors
    assert len(found) == 1001
    assert found[0].startswith(f"{path}:1: got 'xxxx")
    assert len(found[0]) < 300


def test_a_file_that_is_too_large_is_not_hashed(data_dir):
    write_manifest(data_dir, [NLI])
    path = data_dir / "nli/train.jsonl"
    with open(path, "wb") as stream:
        stream.truncate(10**12)
    (found,) = verify(data_dir, [NLI]).errors
    assert found == f"{path}: has {10**12:,} bytes; at most 1,000,000,000 are read"


def test_other_fields_of_a_target_are_ignored(tmp_path):
    target = {"span1_index": 0, "span1_text": "Anna", "span2_index": 3, "span2_text": "she"}
    for phase in ("train", "val", "test"):
        row = {"text": f"Anna {phase} because she was", "label": True, "idx": 1}
        write(tmp_path, TASKS["wsc"], phase, [row | {"target": target | {"more": [phase]}}])
    assert verify(tmp_path, [TASKS["wsc"]]).errors == ()
