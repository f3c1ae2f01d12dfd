"""What is wrong, or worth knowing, in a data directory."""

import pytest
from support import rows as rows_on_disk
from support.refusals import refusal
from support.rows import cb

from jiant_sparse import files
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.store import MANIFEST, read_manifest, write_manifest
from jiant_sparse.data.synthetic import synthesize
from jiant_sparse.data.tasks import PHASES, TASKS, variant
from jiant_sparse.data.verify import PhaseSummary, summary, verify

# A folder name of its own: nothing is compared with the original data set's size.
NLI = variant("nli", like="rte")
LABELS = ("entailment", "not_entailment")


def write(data_dir, task, phase, rows):
    return rows_on_disk.write(data_dir / task.name / f"{phase}.jsonl", rows)


def pair(text, label=0, index=0):
    return {"premise": text, "hypothesis": "h", "label": LABELS[label], "idx": index}


@pytest.fixture
def data_dir(tmp_path):
    for phase in PHASES:
        rows = [pair(f"{phase} {index}", index % 2, index) for index in range(4)]
        write(tmp_path, NLI, phase, rows)
    return tmp_path


def test_good_and_bad_files(data_dir):
    found = verify(data_dir, [NLI])
    assert (found.errors, found.notes) == ((), ())
    write(data_dir, NLI, "train", [pair("a") | {"label": "yes"}])
    (data_dir / "nli" / "test.jsonl").unlink()
    first, second = verify(data_dir, [NLI]).errors
    assert first == (
        f'{data_dir}/nli/train.jsonl:1: label is "yes"; allowed are "entailment", "not_entailment"'
    )
    assert second.startswith(f"{data_dir}/nli/test.jsonl: cannot be read")


def test_repetitions(data_dir):
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
    write(data_dir, NLI, "val", [pair("train 1", 1, index) for index in range(30)])
    note = next(note for note in verify(data_dir, [NLI]).notes if "also in train" in note)
    assert note.endswith("val.jsonl:20 = train.jsonl:2 and 10 more")


def test_absent_labels_and_repeated_indices(data_dir):
    write(data_dir, NLI, "val", [pair("v", 0, 6), pair("w", 0, 6)])
    assert verify(data_dir, [NLI]).notes == (
        'nli: no row of val has the label "not_entailment"',
        "nli: 1 idx occur more than once in val, the smallest is 6",
    )


def test_spans(tmp_path):
    task = variant("winograd", like="wsc")
    text = "Anna saw Mary because she was there ."
    for phase, name, start in (("train", "Anna", 0), ("val", "Mary", 2), ("test", "mary", 3)):
        spans = {"span1_index": start, "span1_text": name, "span2_index": 4, "span2_text": "she"}
        spans |= {"more": [phase]}  # ignored
        rows = [{"text": f"{text} {phase}" * label, "target": spans} for label in (1, 2)]
        rows = [row | {"label": number == 1, "idx": number} for number, row in enumerate(rows)]
        write(tmp_path, task, phase, rows)
    assert verify(tmp_path, [task]).notes == (
        "winograd: test.jsonl:1: span1 is 'mary', but the text has 'because' there; "
        "jiant goes by the index",
        "winograd: test.jsonl:2: span1 is 'mary', but the text has 'because' there; "
        "jiant goes by the index",
    )


def test_authors_cb(tmp_path, as_published):
    names = ["entailment"] * 119 + ["neutral"] * 115 + ["contradiction"] * 16
    dev = published_dev_split()["cb"]
    rows = [cb(index, name) for index, name in enumerate(names)]
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


def test_own_data(tmp_path):
    synthesize(tmp_path, [TASKS["cola"]], sizes={"train": 20, "val": 8, "test": 9})
    found = verify(tmp_path, [TASKS["cola"]])
    assert found.errors == ()
    assert found.notes == (
        "cola: not the original data: train and val have 28 rows and test 9; "
        "the original has 8551 and 1043",
    )


def test_changed_file(data_dir):
    write_manifest(data_dir, [NLI])
    assert verify(data_dir, [NLI]).errors == ()
    before = files.sha256(data_dir / "nli" / "val.jsonl")
    path = write(data_dir, NLI, "val", [pair("new 0", 0, 0), pair("new 1", 1, 1)])
    (error,) = verify(data_dir, [NLI]).errors
    assert error == (
        f"{path}: the file has changed; its SHA-256 is {files.sha256(path)[:16]}..., "
        f"{MANIFEST} has {before[:16]}...; restore it, or remove its line there if it was meant"
    )


def test_manifest_keeps_other_tasks(data_dir):
    other = variant("other", like="rte")
    for phase in PHASES:
        write(data_dir, other, phase, [pair(phase)])
    write_manifest(data_dir, [NLI])
    recorded = read_manifest(data_dir)
    write(data_dir, NLI, "val", [pair("edited")])
    write_manifest(data_dir, [other])
    after = read_manifest(data_dir)
    assert {name: after[name] for name in recorded} == recorded
    assert set(after) - set(recorded) == {f"other/{phase}.jsonl" for phase in PHASES}
    line = (data_dir / MANIFEST).read_text().splitlines()[0]
    assert line == f"{recorded['nli/test.jsonl']}  nli/test.jsonl"


def test_summary(data_dir):
    score = variant("score", like="stsb")
    for phase in PHASES:
        rows = [{"text_a": "a", "text_b": "b", "label": x} for x in (0, 0.9, 1.0, 4.9, 5.0)]
        write(data_dir, score, phase, rows)
    found = summary(data_dir, [NLI, score])
    assert [(each.task, each.phase) for each in found] == [
        (name, phase) for name in ("nli", "score") for phase in PHASES
    ]
    digest = files.sha256(data_dir / "nli" / "val.jsonl")
    labels = {"entailment": 2, "not_entailment": 2}
    assert found[1] == PhaseSummary("nli", "val", 4, labels, digest)
    assert found[3].labels == {"0-1": 2, "1-2": 1, "4-5": 2}
    assert "cola/train.jsonl: cannot be read" in refusal(summary, data_dir, [NLI, TASKS["cola"]])
    synthesize(data_dir, [TASKS["wsc"]], sizes={"train": 20, "val": 10, "test": 10})
    assert summary(data_dir, [TASKS["wsc"]])[0].labels == {"false": 11, "true": 9}


def test_wrong_manifests(data_dir):
    path = data_dir / MANIFEST
    path.write_bytes(b"x" * 10_000_001)
    message = f"{path}: has 10,000,001 bytes; at most 10,000,000 are read"
    assert verify(data_dir, [NLI]).errors == (message,)
    path.write_text("x" * 5000 + "\n" + "y\n" * 1000)
    found = verify(data_dir, [NLI]).errors
    assert len(found) == 1001
    assert found[0].startswith(f"{path}:1: got 'xxxx") and len(found[0]) < 300
    assert found[1] == f"{path}:2: got 'y'; expected 64 hex digits, two spaces, a name"
    assert "expected 64 hex digits" in refusal(write_manifest, data_dir, [NLI])


def test_too_large_files_are_not_hashed(data_dir):
    write_manifest(data_dir, [NLI])
    path = data_dir / "nli/train.jsonl"
    with open(path, "wb") as stream:
        stream.truncate(10**12)
    (found,) = verify(data_dir, [NLI]).errors
    assert found == f"{path}: has {10**12:,} bytes; at most 1,000,000,000 are read"
