"""Shared by all tests: no hub, one thread, and small real inputs made once per session."""

import dataclasses
import gc
import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
import torch
from support import models, rows

from jiant_sparse.data import synthetic, tasks
from jiant_sparse.data.split import published_dev_split

torch.set_num_threads(1)
# No test cuts the power: what was written is there, synced to the disk or not.
os.fsync = lambda handle: None
SIZES = {"train": 24, "val": 10, "test": 12}


def pytest_collection_finish() -> None:
    """Keep what was imported out of every later garbage collection: each cell begins with one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Every known task, a few rows each."""
    path = tmp_path_factory.mktemp("data")
    synthetic.synthesize(path, [tasks.find(name) for name in published_dev_split()], sizes=SIZES)
    for name, fields, labels in (
        ("sst", ("text",), ("0", "1")),
        ("qnli", ("premise", "hypothesis"), ("entailment", "not_entailment")),
    ):
        for phase, size in SIZES.items():
            made = (
                {field: f"The {field} {phase} number {i} ." for field in fields}
                | {"label": labels[i % 2], "idx": i}
                for i in range(size)
            )
            rows.write(path / name / f"{phase}.jsonl", made)
    return path


@pytest.fixture(scope="session")
def texts(data_dir) -> list[str]:
    """The words of the data, to make vocabularies from."""
    return [path.read_text() for path in sorted(data_dir.rglob("train.jsonl"))]


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory, texts) -> Path:
    return models.write_bert(tmp_path_factory.mktemp("bert") / "model", texts)


@pytest.fixture(scope="session")
def still_dir(tmp_path_factory, bert_dir) -> Path:
    """The BERT of `bert_dir` without dropout, whose masks depend on a batch's shape."""
    path = shutil.copytree(bert_dir, tmp_path_factory.mktemp("still") / "model")
    config = json.loads((path / "config.json").read_text())
    config |= dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), 0.0)
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="session")
def roberta_dir(tmp_path_factory, texts) -> Path:
    return models.write_roberta(tmp_path_factory.mktemp("roberta") / "model", texts)


@pytest.fixture(scope="session")
def whole(bert_dir, data_dir, tmp_path_factory) -> dict[str, bytes]:
    """The results of processes.LONG by processes.METHODS: of cells that nothing happened to."""
    from support import cells, processes

    from jiant_sparse.grid.worker import work

    output = tmp_path_factory.mktemp("whole")
    raw = cells.raw_config(bert_dir, data_dir, processes.LONG, processes.METHODS)
    for job in cells.jobs_of(raw, output):
        assert work(job).status == "ok"
    return processes.results(output)


@pytest.fixture
def as_published(monkeypatch):
    """as_published(task, rows of train and val, rows of test): takes them for the authors'."""
    from jiant_sparse.data import authors

    known = dict(authors.published_rows())
    monkeypatch.setattr(authors, "published_rows", lambda: known)

    def take(task, train_val, test=()):
        parts = {"train_val": train_val, "test": test}
        known[task.like] = {part: authors.digest(each, task) for part, each in parts.items()}

    return take


@pytest.fixture(scope="session")
def features_dir(tmp_path_factory) -> Path:
    """The features of all cells: no text is tokenized twice."""
    return tmp_path_factory.mktemp("features")


@pytest.fixture
def one_process(monkeypatch):
    """Measurements' fresh processes are this one, and its memory is not looked at."""
    from jiant_sparse.bench import process

    monkeypatch.setattr(process, "fresh", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(process, "restart_peak", lambda device: 5)
    monkeypatch.setattr(process, "peak", lambda device: 7)


@pytest.fixture
def make_job(tmp_path, data_dir, bert_dir, features_dir):
    """make_job(task, method fields, train fields, **top-level keys) -> Job of one cell."""
    from jiant_sparse.config import load as config
    from jiant_sparse.grid import plan

    def make(
        task="cb",
        method="full_tuning",
        fields=None,
        train=None,
        output="out",
        *,
        tensorboard=False,
        **keys,
    ):
        raw = {
            "benchmark": "b",
            "model": str(bert_dir),
            "data_dir": str(data_dir),
            "split": "files",
            "seeds": [0],
            "train": {
                "max_steps": 4, "eval_every": 2, "batch_size": 4, "patience": 0,
                "max_seq_length": 64, "learning_rate": 1e-2,
            } | (train or {}),
            "tasks": {task: {}},
            "methods": {method: fields or {}},
        } | keys  # fmt: skip
        benchmark = config.parse(raw, "test")
        (job,) = plan.plan(benchmark, tmp_path / output, tensorboard=tensorboard)
        return dataclasses.replace(job, features=features_dir)

    return make
