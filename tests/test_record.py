"""The one schema: strict when read, atomic when written."""

import json
import os
import time
from pathlib import Path

import pytest
from support.documents import RECORD
from support.refusals import refusal

from jiant_sparse.schema import document, record

# Written by commit 9601f3a, on the quickstart's CB.
VERSION_1 = Path(__file__).parent / "support" / "record_version_1.json"


def test_goes_round(tmp_path):
    assert RECORD.cell.directory(tmp_path) == tmp_path / "b" / "cb" / "sam" / "seed-3"
    RECORD.write(tmp_path)
    path = tmp_path / "record.json"
    assert record.read(path) == record.read(path, RECORD.cell) == RECORD
    assert list(tmp_path.iterdir()) == [path]
    assert (
        refusal(record.read, path, RECORD.cell.model_copy(update={"seed": 4}))
        == f"{path}: is the record of another cell: b/cb/sam/seed-3"
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"seed": 3', '"seed": 3, "x": 1', "cell.x: Extra inputs are not permitted"),
        ('"status": "failed"', '"status": "fine"', "status: Input should be 'ok' or 'failed'"),
        ('"schema_version": 2', '"schema_version": 3', "schema_version: Input should be 1 or 2"),
        ('"schema_version": 2', '"schema_version": 1', "method: Field not allowed in schema ver"),
        ('"reading": "neither"', '"reading": "best"', "method.reading: Input should be 'paper', "),
        ('"category": "c"', '"kategory": "c"', "method.category: Field required"),
        ('"value": 1', '"value": 1, "x": 1', "method.differences.0.x: Unexpected keyword argument"),
        ('"value": 1', '"value": NaN', "method.differences hold a number that is not finite"),
        ('"cell"', '"sell"', "cell: Field required"),
        ("}", "", "file: Invalid JSON"),
        ("0.5", "NaN", "history.1.1: Input should be a finite number"),
        ('"seed": 3', '"seed": "3"', "cell.seed: Input should be a valid integer"),
        ('"a": 1', '"a": 2', "settings_hash is not that of the settings; one of them was edited"),
        ('"a": 1', '"a": NaN', "settings hold a number that is not finite or too large for a "),
        ("0.5", "1.5", "history: score at step 2 is 1.5; it must be a fraction from -1 to 1"),
        ('"seed": 3', f'"seed": {"9" * 5000}', "file: Invalid JSON: number out of range"),
        ('"a": 1', f'"a": {"[" * 5000}', "file: Invalid JSON: recursion limit exceeded"),
    ],
)
def test_a_broken_record_is_named_with_its_field(tmp_path, old, new, expected):
    RECORD.write(tmp_path)
    path = tmp_path / "record.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert f"{path}: {expected}" in refusal(record.read, path)


def test_a_record_of_version_2_names_its_method(tmp_path):
    RECORD.model_copy(update={"method": None}).write(tmp_path)
    assert "record.json: method: Field required in schema version 2" in refusal(
        record.read, tmp_path / "record.json"
    )


def test_a_record_of_version_1_is_read_without_its_method(tmp_path):
    found = record.read(VERSION_1)
    assert (found.schema_version, found.method) == (1, None)
    later = {"method": True, "provenance": {"padding"}}
    expected = json.loads(VERSION_1.read_text())
    # Evaluation at its default is left out, then of 32 rows.
    assert expected["settings"]["train"].pop("eval_batch_size") == 32
    assert found.model_dump(mode="json", exclude=later) == expected
    found.write(tmp_path)
    assert record.read(tmp_path / "record.json") == found


@pytest.mark.parametrize(
    ("left_out", "rows", "said"),
    [
        ({}, 100, ""),
        ({"dev": 1, "test": 1, "train": 99}, 100, ""),
        ({"test": 2, "dev": 1}, 100, "2 of 100 test"),
        ({"test": 3, "dev": 2}, 100, "2 of 100 dev and 3 of 100 test"),
        ({"dev": 1}, None, "1 dev"),
    ],
)
def test_more_than_one_in_a_hundred_rows_left_out_is_told(left_out, rows, said):
    data = rows and record.Data(
        train=rows, dev=rows, test=rows, published_train_val=False, published_test=False
    )
    origin = RECORD.provenance.model_copy(update={"dropped_examples": left_out})
    changes = {"data": data, "provenance": origin}
    found = RECORD.model_copy(update=changes)
    assert record.unscored(found, record.MOST_DROPPED) == said
    named = {phase for phase in ("dev", "test") if left_out.get(phase)}
    assert {phase for phase in ("dev", "test") if phase in record.unscored(found)} == named


def test_a_good_record_wants_its_delta(tmp_path):
    good = RECORD.model_copy(
        update={"status": "ok", "error": None, "cost": record.Cost(delta_bytes=3)}
    )
    path = tmp_path / record.DELTA
    assert record.lost_delta(tmp_path, RECORD) is None
    assert record.lost_delta(tmp_path, good) == f"{path}: is missing, but the record is there"
    path.write_bytes(b"12")
    assert record.lost_delta(tmp_path, good) == (
        f"{path}: has 2 bytes; the delta of the record beside it has 3"
    )
    path.write_bytes(b"123")
    assert record.lost_delta(tmp_path, good) is None
    unknown = good.model_copy(update={"cost": record.Cost()})
    assert record.lost_delta(tmp_path, unknown) is None


def test_settings_hash_is_of_the_content():
    assert record.settings_hash({"a": 1, "model": "m"}) == record.settings_hash({"a": 1})
    one = record.settings_hash({"a": 1, "b": {"c": [1.5, None]}})
    assert one == record.settings_hash({"b": {"c": [1.5, None]}, "a": 1})
    assert one != record.settings_hash({"b": {"c": [1.5, 0]}, "a": 1})


def test_evaluation_in_rows_at_its_default_is_evaluation_at_its_default(tmp_path):
    """And any other number of rows, or budget of tokens, is another setting."""
    hashes = []
    for written, kept in (
        ({}, {}),
        ({"eval_batch_size": 32}, {}),
        ({"eval_batch_size": 2}, {"eval_batch_size": 2}),
        ({"eval_tokens": 99}, {"eval_tokens": 99}),
    ):
        settings = {"train": {"batch_size": 16} | written}
        hashes.append(record.settings_hash(settings))
        changes = {"settings": settings, "settings_hash": hashes[-1]}
        RECORD.model_copy(update=changes).write(tmp_path)
        found = record.read(tmp_path / "record.json")
        assert found.settings["train"] == {"batch_size": 16} | kept
        assert found.settings_hash == record.settings_hash(found.settings) == hashes[-1]
    assert hashes[0] == hashes[1] and len({*hashes}) == 3


def counted(**changes):
    counts = {"eligible": 1_000_000, "selected": 400_000, "added": 7, "head": 5}
    return record.Params(**{**counts, "trainable": 9, "changed": 390_000, **changes})


def test_what_moves_in_a_step_is_what_is_tuned():
    assert (counted().tuned, counted().drawn) == (400_007, None)
    moving = counted(moved_per_step=102_912.0)
    assert (moving.tuned, moving.drawn) == (102_919, 400_000)


def test_older_records_lack_moving_weights_and_majorities(tmp_path):
    primary = {"name": "acc", "dev": 1, "test": 0}
    params = counted().model_dump(exclude={"moved_per_step"})
    place = tmp_path / "record.json"
    content = RECORD.model_dump(mode="json") | {"primary": primary, "params": params}
    place.write_text(json.dumps(content))
    found = record.read(place)
    assert (found.params, found.primary.majority) == (counted(), None)


def test_describe():
    assert record.describe(RECORD) == "cb/sam/seed-3: failed: line one"

    def said(params):
        primary = record.Primary(name="acc", dev=0.5, test=0.5)
        changes = {"status": "ok", "error": None, "primary": primary, "params": params}
        cost = record.Cost(train_seconds=1.0)
        return record.describe(RECORD.model_copy(update={**changes, "cost": cost}))

    counts = "selected 400,000 changed 390,000 of 1,000,000 added 7"
    assert f", {counts}, " in said(counted()) and "a step" not in said(counted())
    assert f", moves 102,912 a step, {counts}, " in said(counted(moved_per_step=102_911.6))


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path):
    path = tmp_path / "record.json"
    os.mkfifo(path)
    assert "record.json: is not a regular file" in refusal(record.read, path)
    path.unlink()
    with open(path, "wb") as stream:
        stream.truncate(document.LARGEST_BYTES + 1)
    assert "record.json: has 50,000,001 bytes; at most 50,000,000" in refusal(record.read, path)


def test_what_is_wrong_is_told_in_short_lines(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({f"{key:09d}" + "x" * 10_000: 1 for key in range(1000)}))
    began = time.monotonic()
    problems = refusal(record.read, path).splitlines()
    assert time.monotonic() - began < 5
    assert len(problems) > 1000
    assert max(map(len, problems)) < 2100
    assert problems[0].startswith(f"{path}: ")
    assert any(text.endswith("xxx: Extra inputs are not permitted") for text in problems)
