"""Including, merging and setting keys of plain YAML files."""

import pytest

from jiant_sparse.benchmark.yaml_file import merge, read_yaml, set_key
from jiant_sparse.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_include_takes_a_file_and_changes_fields(tmp_path):
    write(tmp_path / "base.yaml", "a: 1\ntrain: {x: 1, y: [1, 2]}\n")
    path = write(tmp_path / "top.yaml", "include: base.yaml\ntrain: {y: [3]}\nb: 2\n")
    assert read_yaml(path) == {"a": 1, "b": 2, "train": {"x": 1, "y": [3]}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: the key 'a' is given twice"),
        ("x: {a: 1, a: 2}\n", ":1: the key 'a' is given twice"),
        ("? [a, b]\n: 1\n", "f"),
        ("1: 2\n", ":1: the key 1 is int; keys are text"),
        ("- 1\n", "holds list; it must be a mapping"),
        ("", "holds NoneType; it must be a mapping"),
        ("a: [1\n", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("include: 3\n", "include: is 3; it must be the path of one YAML file"),
        ("include: top.yaml\n", "the file includes itself"),
        ("include: nowhere.yaml\n", "nowhere.yaml: cannot be read: No such file"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path, text, expected):
    path = write(tmp_path / "top.yaml", text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert expected in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_anchors_and_merge_keys_work(tmp_path):
    path = write(tmp_path / "top.yaml", "a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\n")
    assert read_yaml(path)["d"] == {"b": 1, "c": 3}


def test_merge_leaves_its_arguments_alone():
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}}


def test_set_key_reaches_in_and_makes_room():
    raw = {"a": {"b": 1}, "n": None}
    set_key(raw, "a.b=[1, 2]")
    set_key(raw, "n.m.k=text")
    set_key(raw, "z=")
    assert raw == {"a": {"b": [1, 2]}, "n": {"m": {"k": "text"}}, "z": None}


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("a.b", "must look like train.learning_rate=3e-4"),
        ("=3", "must look like"),
        ("a..b=3", "must look like"),
        ("a.b.c=3", "b is 1, not a mapping"),
        ("a=[1", "'[1' is not a YAML value"),
    ],
)
def test_bad_assignments_are_named(assignment, expected):
    with pytest.raises(InputError) as caught:
        set_key({"a": {"b": 1}}, assignment)
    assert expected in str(caught.value)
