"""The one schema: strict when read, atomic when written."""

import pytest

from jiant_sparse.benchmark import record
from jiant_sparse.errors import InputError

RECORD = record.Record(
    cell=record.CellKey(benchmark="b", task="cb", method="sam", seed=3),
    settings={"a": 1},
    settings_hash=record.settings_hash({"a": 1}),
    inputs={"train": "0"},
    status="failed",
    error="line one\nline two",
    history=[(1, None), (2, 0.5)],
    provenance=record.Provenance(
        commit=None, dirty=None, versions={}, device="cpu", threads=1, pooler=None,
        started="s", finished="f",
    ),
)  # fmt: skip


def test_goes_round(tmp_path):
    RECORD.write(tmp_path)
    assert record.read(tmp_path / "record.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_place_on_disk(tmp_path):
    assert RECORD.cell.directory(tmp_path) == tmp_path / "b" / "cb" / "sam" / "seed-3"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"seed": 3', '"seed": "three"', "cell.seed: Input should be a valid integer"),
        ('"seed": 3', '"seed": 3, "x": 1', "cell.x: Extra inputs are not permitted"),
        ('"status": "failed"', '"status": "fine"', "status: Input should be 'ok' or 'failed'"),
        ('"schema_version": 1', '"schema_version": 2', "schema_version: Input should be 1"),
        ('"cell"', '"sell"', "cell: Field required"),
        ("}", "", "file: Invalid JSON"),
        ("0.5", "NaN", "history.1.1: Input should be a finite number"),
    ],
)
def test_a_broken_record_is_named_with_its_field(tmp_path, old, new, expected):
    RECORD.write(tmp_path)
    path = tmp_path / "record.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        record.read(path)
    assert f"{path}: {expected}" in str(caught.value)


def test_settings_hash_is_of_the_content():
    one = record.settings_hash({"a": 1, "b": {"c": [1.5, None]}})
    assert one == record.settings_hash({"b": {"c": [1.5, None]}, "a": 1})
    assert one != record.settings_hash({"b": {"c": [1.5, 0]}, "a": 1})


def test_describe():
    assert record.describe(RECORD) == "cb/sam/seed-3: failed: line one"
