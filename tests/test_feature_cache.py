"""Cached features are jiant's, field by field, and a cache never fails a cell."""

import dataclasses
import json
import logging
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.models import in_turn

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.errors import InputError
from jiant_sparse.files import sha256
from jiant_sparse.host import compat, feature_cache, features, model, sealed

LENGTH = 64


@pytest.fixture(autouse=True)
def shims(monkeypatch):
    monkeypatch.setattr(feature_cache, "_told", set())
    with compat.shims():
        yield


class Cell:
    """What a cell has at hand when it wants its features."""

    def __init__(self, name, data_dir, model_dir, directory):
        self.path = data_dir / name / "val.jsonl"
        self.task = features.make_task(name, {"val": self.path})
        self.source = model.resolve(str(model_dir))
        self.directory = directory
        self.made = 0
        self._model = None

    @property
    def model(self):
        self._model = self._model or model.build(self.source, self.task, "pooler").eval()
        return self._model

    def tools(self):
        self.made += 1
        return self.model.tokenizer, self.model.encoder

    def load(self, **other):
        arguments = {
            "task": self.task, "path": self.path, "digest": sha256(self.path),
            "max_seq_length": LENGTH, "directory": self.directory, "source": self.source,
            "tools": self.tools,
        }  # fmt: skip
        return feature_cache.load_phase(**arguments | other)

    def plain(self):
        tools = self.model.tokenizer, self.model.encoder
        return features.load_phase(self.task, self.path, *tools, LENGTH)

    @property
    def entries(self):
        return sorted(self.directory.iterdir())


@pytest.fixture
def cell(data_dir, bert_dir, tmp_path):
    return Cell("cb", data_dir, bert_dir, tmp_path / "cache")


def same(found, expected):
    """Equal in value, type, dtype and shape, all the way down."""
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)
        assert found.flags.writeable and found.flags.c_contiguous
    elif dataclasses.is_dataclass(expected):
        same(vars(found), vars(expected))
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        same([*found.values()], [*expected.values()])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    else:
        assert found == expected


def same_phase(found, expected):
    for name in ("rows", "labels", "dropped"):
        same(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("task", "encoder"), in_turn(TASKS, "roberta_dir", "bert_dir"))
def test_cached_is_what_jiant_makes(task, encoder, data_dir, tmp_path, request):
    cell = Cell(task, data_dir, request.getfixturevalue(encoder), tmp_path)
    expected = cell.plain()
    assert expected.rows[0]["data_row"].input_ids.dtype == np.int64
    first, second = cell.load(), cell.load()
    assert cell.made == 1 and len(cell.entries) == 1
    same_phase(first, expected)
    same_phase(second, expected)
    rows = second.rows
    collated = [cell.task.collate_fn(phase.rows[:3])[0] for phase in (second, expected)]
    for name in collated[0].get_fields():
        one, other = (getattr(batch, name) for batch in collated)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    # Views of one array, each of its own part.
    assert rows[0]["data_row"].input_ids.base is not None
    assert rows[0]["data_row"].input_ids.base is rows[1]["data_row"].input_ids.base
    before = rows[1]["data_row"].input_ids.copy()
    rows[0]["data_row"].input_ids[:] = -1
    np.testing.assert_array_equal(rows[1]["data_row"].input_ids, before)


def test_entries_are_narrow(cell):
    cell.load()
    tensors, meta = sealed.read(cell.entries[0])
    assert tensors["rows.input_mask"].dtype == torch.uint8
    assert tensors["rows.input_ids"].dtype == torch.int16
    words = json.loads(tensors["rows.tokens.words"].numpy().tobytes())
    assert sorted(set(words)) == words and "[CLS]" in words
    assert meta["dropped"] == 0


def fake(rows, labels=None):
    """A phase of a task whose rows have one field."""

    @dataclasses.dataclass
    class Row:
        value: object

    class Task:
        DataRow = Row

    made = [
        {"data_row": Row(value), "metadata": {"example_id": place}}
        for place, value in enumerate(rows)
    ]
    labels = np.zeros(len(rows)) if labels is None else labels
    return features.Phase(made, labels, dropped=3), Task()


ROWS = {
    "integers": [np.array([high, -1]) for high in (127, 255, 2**15, 2**31, 2**40)],
    "edges": [np.array([low, 0]) for low in (-(2**15), 2**15 - 1)],
    "small": [np.array([1], dtype=np.int8), np.array([-5], dtype=np.int8)],
    "floats": [np.array([np.nan, -0.0], dtype=np.float32)] * 2,
    "flags": [np.array([True, False])] * 2,
    "turned": [np.arange(6).reshape(2, 3).T] * 2,
    "none wide": [np.zeros((2, 0), dtype=np.int64)] * 2,
    "numbers": [0, -1, 2**62],
    "fractions": [0.1 + 0.2, -0.0, float("inf")],
    "mixed numbers": [1, 1.0, True, None],
    "words": [["a", "é\ud83d", "a"], [], ['"']],
    "texts": ["a", "", "\n"],
    "lists of lists": [[["a"], []], [["b", "c"]]],
}


@pytest.mark.parametrize("name", ROWS)
def test_columns(name):
    for labels in (ROWS[name], None, np.array([[1], [2**40]])):
        phase, task = fake(ROWS[name], labels)
        found = feature_cache.unpack(*feature_cache.pack(phase), task)
        expected = [
            np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
            for value in ROWS[name]
        ]
        same([row["data_row"].value for row in found.rows], expected)
        assert found.dropped == 3
        if labels is ROWS[name] and isinstance(labels[0], np.ndarray):
            np.testing.assert_array_equal(found.labels, np.stack(labels))
        else:
            same(found.labels, phase.labels)


@pytest.mark.parametrize(
    "rows",
    [
        [(1, 2), (3, 4)],
        [{1: 2}],
        [np.array([1]), np.array([1, 2])],
        [np.array(1), np.array(2)],
        [["a"], [np.str_("b")]],
        [2**63, -1],
    ],
)
def test_columns_that_would_change_are_refused(rows):
    phase, _ = fake(rows)
    with pytest.raises((TypeError, OverflowError)):
        feature_cache.pack(phase)


def test_key(cell, monkeypatch):
    def key(name="cb", digest="0", length=LENGTH, sha="1"):
        task, source = SimpleNamespace(name=name), SimpleNamespace(sha256=sha)
        return feature_cache.key(task, digest, length, source)

    keys = [key(), key(name="rte"), key(digest="2"), key(length=65), key(sha="2")]
    assert key() == keys[0]
    metadata = feature_cache.importlib.metadata
    plain = metadata.version
    for changed in ("jiant", "transformers", "tokenizers"):
        with monkeypatch.context() as patch:
            patch.setattr(metadata, "version", lambda n, c=changed: "x" if n == c else plain(n))
            keys.append(key())
    monkeypatch.setattr(feature_cache, "FORMAT_VERSION", 0)
    assert len({*keys, key()}) == 9
    cell.load()
    cell.load(max_seq_length=63)
    assert cell.made == 2 and len(cell.entries) == 2


def test_damaged_entry(cell, caplog):
    expected = cell.load()
    (entry,) = cell.entries
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-9] + bytes([whole[-9] ^ 16]) + whole[-8:])
    same_phase(cell.load(), expected)
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("jiant_sparse", logging.WARNING)
    assert str(entry) in warning.getMessage()
    assert cell.made == 2
    assert cell.entries == [entry] and entry.read_bytes() == whole
    # A damaged file that sorts before the whole entry is removed; one after it is not looked at.
    stem = entry.name.split(".")[0]
    for letter in "0f":
        (cell.directory / f"{stem}.{letter * 64}.safetensors").write_text("damaged")
    cell.load()
    assert cell.made == 2 and cell.entries[0] == entry and len(cell.entries) == 2


def test_full_disk(cell, caplog, monkeypatch, tmp_path):
    """One warning a directory, and no failure."""
    error = OSError(28, "No space left on device")

    def write(*arguments):
        raise error

    monkeypatch.setattr(sealed, "write", write)
    expected = cell.plain()
    for _ in range(2):
        same_phase(cell.load(), expected)
    assert cell.made == 2
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("jiant_sparse", logging.WARNING)
    assert str(cell.directory) in warning.getMessage() and str(error) in warning.getMessage()
    cell.load(directory=tmp_path / "other")
    assert len(caplog.records) == 2


def test_unusable_directory(cell, caplog, monkeypatch):
    cell.directory.write_text("")
    expected = cell.load()
    same_phase(expected, cell.plain())
    assert str(cell.directory) in caplog.text
    cell.directory.unlink()
    cell.load()

    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sealed, "read", denied)
    monkeypatch.setattr(feature_cache, "_told", set())
    same_phase(cell.load(), expected)
    assert cell.made == 3 and "Permission denied" in caplog.text


def test_writers_at_the_same_time(cell, caplog, monkeypatch):
    expected = cell.plain()
    together = threading.Barrier(4)
    replace = os.replace

    def replace_together(*paths):
        together.wait(timeout=60)
        replace(*paths)

    monkeypatch.setattr(os, "replace", replace_together)
    found = []
    writers = [threading.Thread(target=lambda: found.append(cell.load())) for _ in range(4)]
    # jiant redirects the standard output of the whole process, one example at a time.
    monkeypatch.setattr(features, "load_phase", lambda *arguments: expected)
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert cell.made == 4 and len(cell.entries) == 1 and not caplog.records
    for phase in [*found, cell.load()]:
        same_phase(phase, expected)
    assert cell.made == 4


def test_changed_file(cell):
    with pytest.raises(InputError, match="changed since it was checked; start again") as caught:
        cell.load(digest="0" * 64)
    assert str(cell.path) in str(caught.value)
    assert not cell.directory.exists()
