"""Rows of the hub become jiant's files, whole or not at all."""

import json
import sys

import datasets
import pytest
from support.refusals import refusal

from jiant_sparse.data import fetch as fetch_module
from jiant_sparse.data.fetch import fetch
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.store import MANIFEST, read_manifest
from jiant_sparse.data.tasks import PHASES, TASKS, read_rows
from jiant_sparse.data.verify import verify
from jiant_sparse.errors import InputError

CHOICES = ("premise", "choice1", "choice2", "question")
SPANS = {"span1_index": 0, "span1_text": "train", "span2_index": 1, "span2_text": "text"}
TEXT, TEXT_1, TEXT_2 = (f"train sentence{number} 1" for number in ("", 1, 2))
NO = "not_entailment"
# The row with idx 1 of "train", whose class has number 1.
EXPECTED = {
    "cola": {"text": TEXT, "label": "1"},
    "stsb": {"text_a": TEXT_1, "text_b": TEXT_2, "label": 1.5},
    "mrpc": {"text_a": TEXT_1, "text_b": TEXT_2, "label": "1"},
    "rte": {"premise": TEXT_1, "hypothesis": TEXT_2, "label": NO},
    "cb": {n: f"train {n} 1" for n in ("premise", "hypothesis")} | {"label": "contradiction"},
    "copa": {n: f"train {n} 1" for n in CHOICES} | {"question": "effect", "label": 1},
    "wsc": {"text": "train text 1", "target": SPANS, "label": True},
    "sst": {"text": TEXT, "label": "1"},
    "qnli": {"premise": "train question 1", "hypothesis": TEXT, "label": NO},
}


def hub_table(name, phase, size):
    """Texts that name their field, and classes in turn, as the hub numbers them."""
    hub = TASKS[name].hub
    columns = {field: [f"{phase} {field} {i}" for i in range(size)] for field, _ in hub.renamed}
    if name == "copa":
        columns["question"] = [("cause", "effect")[i % 2] for i in range(size)]
    if name == "wsc":
        columns |= {"span1_text": [phase] * size, "span2_text": ["text"] * size}
        columns |= {"span1_index": [0] * size, "span2_index": [1] * size}
    classes = [each for each, _ in hub.labels]
    columns["label"] = [i % len(classes) if classes else 1.5 for i in range(size)]
    columns["idx"] = list(range(size))
    features = {
        field: datasets.Value("string" if isinstance(values[0], str) else "int32")
        for field, values in columns.items()
    }
    label = datasets.ClassLabel(names=classes) if classes else datasets.Value("float32")
    return datasets.Dataset.from_dict(columns, datasets.Features(features | {"label": label}))


@pytest.fixture
def hub(monkeypatch):
    """Tables by (path, config) in the place of the network; absent ones are unreachable."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tables, calls = {}, []

    def load_dataset(path, config):
        calls.append((path, config))
        if (path, config) not in tables:
            raise ConnectionError(f"Couldn't reach '{path}' on the Hub\nsecond line")
        return tables[path, config]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    def serve(name, *, train=20):
        loaded = {"train": hub_table(name, "train", train)}
        loaded |= {"validation": hub_table(name, "validation", 6)}
        # The hub's own test rows have no labels and are not wanted.
        loaded |= {"test": loaded["validation"].remove_columns("label")}
        hub = TASKS[name].hub
        tables[hub.path, hub.config] = datasets.DatasetDict(loaded)
        return tables[hub.path, hub.config]

    serve.calls = calls
    return serve


def fetched(data_dir, *names, split="random", seed=0):
    """The rows of the last task by phase."""
    fetch(data_dir, [TASKS[name] for name in names], split=split, seed=seed)
    task = TASKS[names[-1]]
    return {phase: read_rows(data_dir / task.name / f"{phase}.jsonl", task) for phase in PHASES}


@pytest.mark.parametrize("name", TASKS)
def test_rows(name, hub, tmp_path):
    hub(name)
    rows = fetched(tmp_path, name)
    source = TASKS[name].hub
    assert hub.calls == [(source.path, source.config)]
    assert [len(rows[phase]) for phase in PHASES] == [18, 2, 6]
    pool = rows["train"] + rows["val"]
    assert next(row for row in pool if row["idx"] == 1) == EXPECTED[name] | {"idx": 1}
    assert [row["idx"] for row in rows["test"]] == list(range(6))
    text = TASKS[name].texts[0]
    assert all(row[text].startswith("validation") for row in rows["test"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, MANIFEST])
    from jiant.scripts.download_data.dl_datasets import hf_datasets_tasks

    theirs = hf_datasets_tasks.HF_DATASETS_CONVERSION_DICT[name]
    if name == "wsc":
        return  # jiant takes it from elsewhere
    assert (source.path.partition("/")[2], source.config) == (theirs["path"], theirs["name"])
    names = theirs.get("field_map", {})
    assert all(ours == names.get(field, field) for field, ours in source.renamed)
    if name not in ("cb", "stsb"):  # jiant misnames CB's classes
        labels = theirs.get("label_map", {0: 0, 1: 1})
        assert all(row["label"] == labels[row["idx"] % 2] for row in rows["test"])


def test_published_split(hub, tmp_path, as_published):
    hub("cb", train=250)
    assert "task cb: split is published, but the 250 rows of train" in refusal(
        fetched, tmp_path, "cb", split="published"
    )
    assert list(tmp_path.iterdir()) == []
    rows = fetched(tmp_path / "random", "cb")
    as_published(TASKS["cb"], rows["train"] + rows["val"])
    rows = fetched(tmp_path, "cb", split="published")
    assert [row["idx"] for row in rows["val"]] == list(published_dev_split()["cb"])
    assert len(rows["train"]) == 225


def with_label_feature(table, feature):
    features = datasets.Features(dict(table.features) | {"label": feature})
    return datasets.Dataset.from_dict(table.to_dict(), features)


def test_class_names_decide(hub, tmp_path):
    loaded = hub("cola")
    turned = datasets.ClassLabel(names=["acceptable", "unacceptable"])
    plain = loaded["train"]
    loaded["train"] = with_label_feature(plain, turned)
    rows = fetched(tmp_path, "cola")
    assert all(row["label"] == str(1 - row["idx"] % 2) for row in rows["train"] + rows["val"])
    assert all(row["label"] == str(row["idx"] % 2) for row in rows["test"])
    for feature in (datasets.Value("int64"), datasets.ClassLabel(num_classes=2)):
        loaded["train"] = with_label_feature(plain, feature)
        assert refusal(fetched, tmp_path, "cola") == (
            "task cola: nyu-mll/glue (cola) train: the label classes are "
            f"{getattr(feature, 'names', None)}; expected unacceptable, acceptable"
        )


def test_unreachable_hub(hub, tmp_path):
    assert refusal(fetched, tmp_path, "cb", split="published") == (
        "task cb: aps/super_glue (cb) cannot be loaded from the Hugging Face hub: "
        "ConnectionError: Couldn't reach 'aps/super_glue' on the Hub; check the network and "
        "HF_HUB_OFFLINE, copy the three files into the data directory by hand, or use "
        "`jiant-sparse data synthesize`"
    )
    assert list(tmp_path.iterdir()) == []
    # What was fetched before stays.
    hub("cola")
    assert "task rte: nyu-mll/glue" in refusal(fetched, tmp_path, "cola", "rte")
    assert verify(tmp_path, [TASKS["cola"]]).errors == ()
    assert set(read_manifest(tmp_path)) == {f"cola/{phase}.jsonl" for phase in PHASES}


def test_full_disk_leaves_nothing(hub, tmp_path, monkeypatch):
    hub("cola")
    written = []

    def write_text(path, text):
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")
        path.write_text(text)

    monkeypatch.setattr("jiant_sparse.files.write_text", write_text)
    assert "cola: cannot be written (disk full)" in refusal(fetched, tmp_path, "cola")
    assert list(tmp_path.iterdir()) == []


def test_fetching_again(hub, tmp_path):
    loaded = hub("cola")
    loaded["train"] = loaded["train"].map(lambda row: {"sentence": row["sentence"] + " é"})
    assert fetched(tmp_path, "cola") == fetched(tmp_path, "cola")
    before = (tmp_path / "cola" / "val.jsonl").read_bytes()
    assert json.loads(before.decode("ascii").splitlines()[0])["text"].endswith(" é")
    assert "cola/val.jsonl: holds other rows than those to be" in refusal(
        fetched, tmp_path, "cola", seed=1
    )
    assert (tmp_path / "cola" / "val.jsonl").read_bytes() == before


def test_wrong_split(hub, tmp_path):
    problems = refusal(fetched, tmp_path, "cb", "sst", "qnli", split="published").splitlines()
    assert [problem[:38] for problem in problems] == [
        "task sst: split is published, but the ",
        "task qnli: split is published, but the",
    ]
    for split in ("files", "dev_as_test"):
        assert refusal(fetched, tmp_path, "cb", "rte", split=split) == (
            f"split is '{split}', which a configuration may say of any data; a download can be "
            "split published or random"
        )
    assert hub.calls == [], "before any download"


def test_unexpected_rows(hub, tmp_path):
    loaded = hub("rte")
    loaded["train"] = loaded["train"].rename_column("sentence1", "first")
    with pytest.raises(InputError, match="rte.* train: the fields sentence1 are missing; got fir"):
        fetched(tmp_path, "rte")
    del loaded["train"]
    assert "train: there is no such split; got validation, test" in refusal(
        fetched, tmp_path, "rte"
    )
    loaded = hub("copa")
    columns = loaded["validation"].to_dict() | {"label": [-1] * 6}
    loaded["validation"] = datasets.Dataset.from_dict(columns, loaded["validation"].features)
    problems = refusal(fetched, tmp_path, "copa").splitlines()
    assert problems[0] == (
        "task copa: aps/super_glue (copa) validation row 0: label is null; allowed are 0, 1"
    )
    assert len(problems) == 6


def test_datasets_is_needed_only_to_download(tmp_path, monkeypatch):
    with open(fetch_module.__file__) as stream:
        imports = [line for line in stream if "import" in line and "datasets" in line]
    assert all(line.startswith("    ") for line in imports)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "downloading needs the package datasets: pip install da" in refusal(
        fetched, tmp_path, "cola"
    )
