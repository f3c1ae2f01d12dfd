import json

import datasets
import pytest

from jiant_sparse.data import fetch as fetch_module
from jiant_sparse.data.fetch import fetch
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.store import MANIFEST, read_manifest
from jiant_sparse.data.tasks import PHASES, TASKS, read_rows
from jiant_sparse.data.verify import verify
from jiant_sparse.errors import InputError

GLUE, SUPER_GLUE = "nyu-mll/glue", "aps/super_glue"
ENTAILMENT = ("entailment", "not_entailment")
# By task: the hub's address, text fields and classes (None: a score).
HUB = {
    "cola": (GLUE, "cola", ("sentence",), ("unacceptable", "acceptable")),
    "stsb": (GLUE, "stsb", ("sentence1", "sentence2"), None),
    "mrpc": (GLUE, "mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "rte": (GLUE, "rte", ("sentence1", "sentence2"), ENTAILMENT),
    "cb": (
        SUPER_GLUE,
        "cb",
        ("premise", "hypothesis"),
        ("entailment", "contradiction", "neutral"),
    ),
    "copa": (
        SUPER_GLUE,
        "copa",
        ("premise", "choice1", "choice2", "question"),
        ("choice1", "choice2"),
    ),
    "wsc": (SUPER_GLUE, "wsc", ("text", "span1_text", "span2_text"), ("False", "True")),
    "sst": (GLUE, "sst2", ("sentence",), ("negative", "positive")),
    "qnli": (GLUE, "qnli", ("question", "sentence"), ENTAILMENT),
}
# The row with idx 1 of "train", whose class has number 1.
EXPECTED = {
    "cola": {"text": "train sentence 1", "label": "1", "idx": 1},
    "stsb": {"text_a": "train sentence1 1", "text_b": "train sentence2 1", "label": 1.5, "idx": 1},
    "mrpc": {"text_a": "train sentence1 1", "text_b": "train sentence2 1", "label": "1", "idx": 1},
    "rte": {
        "premise": "train sentence1 1",
        "hypothesis": "train sentence2 1",
        "label": "not_entailment",
        "idx": 1,
    },
    "cb": {
        "premise": "train premise 1",
        "hypothesis": "train hypothesis 1",
        "label": "contradiction",
        "idx": 1,
    },
    "copa": {
        "premise": "train premise 1",
        "choice1": "train choice1 1",
        "choice2": "train choice2 1",
        "question": "effect",
        "label": 1,
        "idx": 1,
    },
    "wsc": {
        "text": "train text 1",
        "target": {
            "span1_index": 0,
            "span1_text": "train",
            "span2_index": 1,
            "span2_text": "text",
        },
        "label": True,
        "idx": 1,
    },
    "sst": {"text": "train sentence 1", "label": "1", "idx": 1},
    "qnli": {
        "premise": "train question 1",
        "hypothesis": "train sentence 1",
        "label": "not_entailment",
        "idx": 1,
    },
}


def hub_table(name, phase, size):
    _, _, fields, classes = HUB[name]
    columns = {field: [f"{phase} {field} {i}" for i in range(size)] for field in fields}
    if name == "copa":
        columns["question"] = [("cause", "effect")[i % 2] for i in range(size)]
    if name == "wsc":
        columns |= {"span1_text": [phase] * size, "span2_text": ["text"] * size}
        columns |= {"span1_index": [0] * size, "span2_index": [1] * size}
    columns["label"] = [i % len(classes) if classes else 1.5 for i in range(size)]
    columns["idx"] = list(range(size))
    features = {
        field: datasets.Value("string" if isinstance(values[0], str) else "int32")
        for field, values in columns.items()
    }
    label = datasets.ClassLabel(names=list(classes)) if classes else datasets.Value("float32")
    return datasets.Dataset.from_dict(columns, datasets.Features(features | {"label": label}))


@pytest.fixture
def hub(monkeypatch):
    """Tables by (path, config) in place of the network; absent ones are unreachable."""
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
        tables[HUB[name][:2]] = datasets.DatasetDict(loaded)

    serve.tables, serve.calls = tables, calls
    return serve


def rows_of(data_dir, name):
    task = TASKS[name]
    return {phase: read_rows(data_dir / name / f"{phase}.jsonl", task) for phase in PHASES}


@pytest.mark.parametrize("name", TASKS)
def test_hub_rows_become_jiants(name, hub, tmp_path):
    hub(name)
    fetch(tmp_path, [TASKS[name]], split="random", seed=0)
    assert hub.calls == [HUB[name][:2]]
    rows = rows_of(tmp_path, name)
    assert [len(rows[phase]) for phase in PHASES] == [18, 2, 6]
    pool = rows["train"] + rows["val"]
    assert next(row for row in pool if row["idx"] == 1) == EXPECTED[name]
    assert [row["idx"] for row in rows["test"]] == list(range(6))
    text = TASKS[name].texts[0]
    assert all(row[text].startswith("validation") for row in rows["test"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, MANIFEST])


@pytest.mark.parametrize("name", [name for name in TASKS if name not in ("cb", "wsc", "stsb")])
def test_fields_and_labels_are_those_of_jiants_own_download(name, hub, tmp_path, monkeypatch):
    """Not CB, whose classes it misnames, nor WSC, which it takes from elsewhere."""
    from jiant.scripts.download_data.dl_datasets.hf_datasets_tasks import (
        HF_DATASETS_CONVERSION_DICT as theirs,
    )

    assert dict(TASKS[name].hub.renamed) == {
        field: theirs[name].get("field_map", {}).get(field, field) for field in HUB[name][2]
    }
    hub(name)
    fetch(tmp_path, [TASKS[name]], split="random", seed=0)
    labels = theirs[name].get("label_map", {0: 0, 1: 1})
    for row in rows_of(tmp_path, name)["test"]:
        assert row["label"] == labels[row["idx"] % 2]


def test_published_split(hub, tmp_path, as_published):
    hub("cb", train=250)
    with pytest.raises(InputError, match="task cb: split is published, but the 250 rows of train"):
        fetch(tmp_path, [TASKS["cb"]], split="published", seed=0)
    assert list(tmp_path.iterdir()) == []
    fetch(tmp_path / "random", [TASKS["cb"]], split="random", seed=0)
    as_published(
        TASKS["cb"], [row for p in PHASES[:2] for row in rows_of(tmp_path / "random", "cb")[p]]
    )
    fetch(tmp_path, [TASKS["cb"]], split="published", seed=0)
    rows = rows_of(tmp_path, "cb")
    assert [row["idx"] for row in rows["val"]] == list(published_dev_split()["cb"])
    assert len(rows["train"]) == 225


def with_label_feature(table, feature):
    features = datasets.Features(dict(table.features) | {"label": feature})
    return datasets.Dataset.from_dict(table.to_dict(), features)


def test_class_names_count_and_not_their_numbers(hub, tmp_path):
    hub("cola")
    loaded = hub.tables[GLUE, "cola"]
    turned = datasets.ClassLabel(names=["acceptable", "unacceptable"])
    loaded["train"] = with_label_feature(loaded["train"], turned)
    fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    rows = rows_of(tmp_path, "cola")
    assert all(row["label"] == str(1 - row["idx"] % 2) for row in rows["train"] + rows["val"])
    assert all(row["label"] == str(row["idx"] % 2) for row in rows["test"])


@pytest.mark.parametrize("feature", [datasets.Value("int64"), datasets.ClassLabel(num_classes=2)])
def test_unknown_classes(feature, hub, tmp_path):
    hub("cola")
    loaded = hub.tables[GLUE, "cola"]
    loaded["train"] = with_label_feature(loaded["train"], feature)
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    names = getattr(feature, "names", None)
    assert str(caught.value) == (
        f"task cola: nyu-mll/glue (cola) train: the label classes are {names}; "
        "expected unacceptable, acceptable"
    )


def test_an_unreachable_hub_is_one_clear_error(hub, tmp_path):
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, [TASKS["cb"]], split="published", seed=0)
    assert str(caught.value) == (
        "task cb: aps/super_glue (cb) cannot be loaded from the Hugging Face hub: "
        "ConnectionError: Couldn't reach 'aps/super_glue' on the Hub; check the network and "
        "HF_HUB_OFFLINE, copy the three files into the data directory by hand, or use "
        "`jiant-sparse data synthesize`"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_was_fetched_before_a_failure_stays_whole(hub, tmp_path):
    hub("cola")
    with pytest.raises(InputError, match="task rte: nyu-mll/glue"):
        fetch(tmp_path, [TASKS["cola"], TASKS["rte"]], split="random", seed=0)
    assert verify(tmp_path, [TASKS["cola"]]).errors == ()
    assert set(read_manifest(tmp_path)) == {f"cola/{phase}.jsonl" for phase in PHASES}


def test_a_failure_while_writing_leaves_nothing(hub, tmp_path, monkeypatch):
    hub("cola")
    written = []

    def write_text(path, text):
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")
        path.write_text(text)

    monkeypatch.setattr("jiant_sparse.files.write_text", write_text)
    with pytest.raises(InputError, match=r"cola: cannot be written \(disk full\)"):
        fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_fetching_again(hub, tmp_path):
    hub("cola")
    fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    before = (tmp_path / "cola" / "val.jsonl").read_bytes()
    with pytest.raises(InputError, match="cola/val.jsonl: holds other rows than those to be"):
        fetch(tmp_path, [TASKS["cola"]], split="random", seed=1)
    assert (tmp_path / "cola" / "val.jsonl").read_bytes() == before


def test_a_bad_split_is_found_before_any_download(hub, tmp_path):
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, [TASKS["cb"], TASKS["sst"], TASKS["qnli"]], split="published", seed=0)
    assert [problem[:38] for problem in caught.value.problems] == [
        "task sst: split is published, but the ",
        "task qnli: split is published, but the",
    ]
    for split in ("files", "dev_as_test"):
        with pytest.raises(InputError) as caught:
            fetch(tmp_path, [TASKS["cb"], TASKS["rte"]], split=split, seed=0)
        assert str(caught.value) == (
            f"split is '{split}', which a configuration may say of any data; a download can be "
            "split published or random"
        )
    assert hub.calls == []


def test_unexpected_hub_rows(hub, tmp_path):
    hub("rte")
    loaded = hub.tables[GLUE, "rte"]
    loaded["train"] = loaded["train"].rename_column("sentence1", "first")
    with pytest.raises(InputError, match="rte.* train: the fields sentence1 are missing; got fir"):
        fetch(tmp_path, [TASKS["rte"]], split="random", seed=0)
    del loaded["train"]
    with pytest.raises(InputError, match="train: there is no such split; got validation, test"):
        fetch(tmp_path, [TASKS["rte"]], split="random", seed=0)


def test_unlabelled_hub_rows(hub, tmp_path):
    hub("copa")
    loaded = hub.tables[SUPER_GLUE, "copa"]
    columns = loaded["validation"].to_dict() | {"label": [-1] * 6}
    loaded["validation"] = datasets.Dataset.from_dict(columns, loaded["validation"].features)
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, [TASKS["copa"]], split="random", seed=0)
    assert caught.value.problems[0] == (
        "task copa: aps/super_glue (copa) validation row 0: label is null; allowed are 0, 1"
    )
    assert len(caught.value.problems) == 6


def test_datasets_is_imported_only_to_download():
    with open(fetch_module.__file__) as stream:
        imports = [line for line in stream if "import" in line and "datasets" in line]
    assert all(line.startswith("    ") for line in imports)


def test_rows_are_ascii(hub, tmp_path):
    hub("cola")
    loaded = hub.tables[GLUE, "cola"]
    loaded["train"] = loaded["train"].map(lambda row: {"sentence": row["sentence"] + " é"})
    fetch(tmp_path, [TASKS["cola"]], split="random", seed=0)
    text = (tmp_path / "cola" / "train.jsonl").read_bytes().decode("ascii")
    assert json.loads(text.splitlines()[0])["text"].endswith(" é")
