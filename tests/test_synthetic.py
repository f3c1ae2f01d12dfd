"""Small learnable data: sizes, labels that the texts decide, bytes by seed."""

import json
from collections import Counter

import pytest
from support.refusals import refusal

from jiant_sparse.data.prepare import prepare
from jiant_sparse.data.synthetic import LABEL_PERCENT, SIZES, synthesize
from jiant_sparse.data.synthetic_texts import MAKERS, PEOPLE, PLACES
from jiant_sparse.data.tasks import PHASES, TASKS, read_rows, variant
from jiant_sparse.data.verify import verify

SEVEN = [TASKS[name] for name in ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc")]
SMALL = {"train": 40, "val": 10, "test": 20}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("synthetic")
    synthesize(directory, SEVEN)
    return directory


def rows_of(data_dir, task):
    return {phase: read_rows(data_dir / task.name / f"{phase}.jsonl", task) for phase in PHASES}


def content(data_dir):
    files = sorted(path for path in data_dir.rglob("*") if path.is_file())
    return {str(path.relative_to(data_dir)): path.read_bytes() for path in files}


@pytest.mark.parametrize("task", SEVEN, ids=lambda task: task.name)
def test_rows(data_dir, task):
    from jiant.tasks.retrieval import TASK_DICT

    rows = rows_of(data_dir, task)
    assert {phase: len(rows[phase]) for phase in PHASES} == SIZES
    for phase in PHASES:
        counts = Counter(row["label"] for row in rows[phase])
        assert set(counts) == set(LABEL_PERCENT[task.name])
        for label, percent in LABEL_PERCENT[task.name].items():
            assert abs(counts[label] - SIZES[phase] * percent / 100) < 1
    everything = [row for phase in PHASES for row in rows[phase]]
    assert [row["idx"] for row in everything] == list(range(512))
    assert len({tuple(row[name] for name in task.texts) for row in everything}) == 512
    words = {
        phase: {
            word
            for row in rows[phase]
            for name in task.texts
            for word in row[name].lower().rstrip(".").split()
        }
        for phase in PHASES
    }
    assert words["test"] <= words["train"], "all words of test occur in training"
    names = ("premise", "choice1") if task.name == "copa" else task.texts
    assert max(sum(len(row[name].split()) for name in names) for row in everything) <= 14
    paths = {phase: str(data_dir / task.name / f"{phase}.jsonl") for phase in PHASES}
    reader = TASK_DICT[task.like](name=task.name, path_dict=paths)
    assert len(list(reader.get_train_examples())) == 320


def test_verify(data_dir):
    found = verify(data_dir, SEVEN)
    assert found.errors == ()
    assert all("not the original data" in note for note in found.notes)
    assert list(MAKERS) == list(LABEL_PERCENT) == [task.name for task in SEVEN]
    for line in (data_dir / "copa" / "val.jsonl").read_text().splitlines():
        assert list(json.loads(line)) == sorted(json.loads(line))


def test_same_seed_same_bytes(tmp_path):
    synthesize(tmp_path / "a", SEVEN, seed=3, sizes=SMALL)
    synthesize(tmp_path / "b", list(reversed(SEVEN)), seed=3, sizes=SMALL)
    synthesize(tmp_path / "c", SEVEN, seed=4, sizes=SMALL)
    first = content(tmp_path / "a")
    assert len(first) == 22
    assert content(tmp_path / "b") == first
    assert not set(content(tmp_path / "c").values()) & set(first.values())


def test_again(tmp_path):
    def times():
        return [path.stat().st_mtime_ns for path in tmp_path.rglob("*.jsonl")]

    synthesize(tmp_path, SEVEN, sizes=SMALL)
    before = content(tmp_path), times()
    synthesize(tmp_path, SEVEN, sizes=SMALL)
    assert (content(tmp_path), times()) == before
    problems = refusal(synthesize, tmp_path, SEVEN, seed=1, sizes=SMALL).splitlines()
    assert len(problems) == 21
    assert problems[0] == (
        f"{tmp_path}/cola/train.jsonl: holds other rows than those to be written; "
        "remove the folder or give another data directory"
    )
    assert (content(tmp_path), times()) == before


def test_folder_in_the_way(tmp_path):
    (tmp_path / "wsc").mkdir()
    (tmp_path / "wsc" / "train.jsonl").write_text("mine\n")
    assert "wsc/val.jsonl: is missing although" in refusal(synthesize, tmp_path, SEVEN, sizes=SMALL)
    (tmp_path / "cola").touch()
    assert "cola: is a file; the folder of task cola belongs there" in refusal(
        synthesize, tmp_path, SEVEN, sizes=SMALL
    )
    assert list(content(tmp_path)) == ["cola", "wsc/train.jsonl"]


def test_variant(tmp_path):
    task = variant("my_nli", like="rte")
    synthesize(tmp_path, [task, TASKS["rte"]], sizes=SMALL)
    assert rows_of(tmp_path, task) != rows_of(tmp_path, TASKS["rte"])
    assert prepare(task, tmp_path, tmp_path / "c", split="random").examples["train"] == 45


def test_wrong_settings(tmp_path):
    found = refusal(synthesize, tmp_path, [TASKS["sst"]], sizes={"train": 7, "dev": 8.0})
    assert found.splitlines() == [
        "task sst: there is no synthetic version of sst; "
        "there is one of cola, stsb, mrpc, rte, cb, copa, wsc",
        "sizes has train, dev; needed: train, val, test",
        "sizes: train is 7; it must be a whole number >= 8",
        "sizes: dev is 8.0; it must be a whole number >= 8",
    ]


def test_more_rows_than_texts(tmp_path):
    assert "task cb: sizes ask for more rows than there are diff" in refusal(
        synthesize, tmp_path, [TASKS["cb"]], sizes={"train": 5000, "val": 8, "test": 8}
    )
    assert content(tmp_path) == {}


def test_labels(data_dir):
    """Recomputed from the texts alone, without the makers."""
    for row in rows_of(data_dir, TASKS["wsc"])["train"]:
        words, target = row["text"].rstrip(".").split(), row["target"]
        person = words[target["span1_index"] + 1]
        assert target["span1_text"] == f"the {person}"
        assert words[target["span2_index"]] == target["span2_text"]
        is_man = person in ("man", "boy", "king", "father", "uncle")
        assert row["label"] == ((target["span2_text"] == "he") == is_man)
    for row in rows_of(data_dir, TASKS["mrpc"])["train"]:
        adverb, *first = row["text_a"][:-1].lower().split()
        same = row["text_b"][:-1].lower().split() == [*first, adverb]
        assert row["label"] == str(int(same))
    for row in rows_of(data_dir, TASKS["stsb"])["train"]:
        first, second = row["text_a"].split(), row["text_b"].split()
        person, action = first[1] == second[1], first[2:] == second[2:]
        assert row["label"] == {(0, 0): 0, (1, 0): 1, (0, 1): 3.6, (1, 1): 5}[person, action]


def test_broken_sentences(data_dir):
    places = set(PLACES)
    for row in rows_of(data_dir, TASKS["cola"])["train"]:
        words = row["text"][:-1].lower().split()
        plural = words[1].endswith("s") or words[1] in ("men", "women", "wolves")
        in_order = (
            len(words) in (5, 8)
            and words[0] == words[3] == "the"
            and words[2].endswith("s") != plural
            and words[1] not in places
            and (len(words) == 5 or (words[5:7] == ["in", "the"] and words[7] in places))
        )
        assert row["label"] == ("1" if in_order else "0"), row["text"]
    assert set(PEOPLE).isdisjoint(places)
