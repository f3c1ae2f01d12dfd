"""Including, merging and setting keys of plain YAML files."""

import os
from pathlib import Path

import pytest

from jiant_sparse.config import yaml_file
from jiant_sparse.config.yaml_file import merge, read_yaml, set_key
from jiant_sparse.errors import InputError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_include_takes_a_file_and_changes_fields(tmp_path):
    write(tmp_path / "base.yaml", "a: 1\ntrain: {x: 1, y: [1, 2]}\n")
    path = write(tmp_path / "top.yaml", "include: base.yaml\ntrain: {y: [3]}\nb: 2\n")
    assert read_yaml(path) == {"a": 1, "b": 2, "train": {"x": 1, "y": [3]}}


def test_anchors_and_merge_keys_work(tmp_path):
    text = "a: &a [1, 2]\nb: &b {c: *a, d: *a}\ne: {<<: *b, d: [*a, *a]}\n"
    found = read_yaml(write(tmp_path / "a.yaml", text))
    assert found["e"] == {"c": [1, 2], "d": [[1, 2], [1, 2]]}


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
        ("a.b.c=3", "b is 1, not a mapping"),
        ("a=[1", "--set a: not YAML: while parsing a flow sequence"),
        ("x={a: 1, a: 2}", "--set x:1: the key 'a' is given twice"),
        ("x=" + "9" * 5000, "it must lie between -2^63 and 2^63"),
        ("x=" + "[" * 5000, "--set x: is nested more than 30 levels deep"),
        (".".join("a" * 31) + "=1", "leads more than 30 levels down"),
    ],
)
def test_bad_assignments_are_named(assignment, expected):
    with pytest.raises(InputError) as caught:
        set_key({"a": {"b": 1}}, assignment)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("+5", 5), ("-5", -5), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e-4", 1e-4),
        ("-1.5E+05", -1.5e5), ("true", True), ("FALSE", False), ("null", None), ("~", None),
        ("", None), ("-9223372036854775807", 1 - 2**63),
    ],
)  # fmt: skip
def test_numbers_are_decimal_and_truth_is_true_or_false(tmp_path, text, value):
    raw = {}
    set_key(raw, f"a={text}")
    for found in (read_yaml(write(tmp_path / "a.yaml", f"a: {text}\n"))["a"], raw["a"]):
        assert (found, type(found)) == (value, type(value))


def test_everything_else_is_the_text_that_stands_there(tmp_path):
    for text in (
        *("010", "-07", "1:30", "0x1f", "0o17", "0b1", "1_000", "1e", "yes", "No", "on", "OFF"),
        *("2024-01-31", "2024-13-45", ".inf", ".nan", "="),
    ):
        path = write(tmp_path / "a.yaml", f"a: {text}\n{text}: 1\n")
        assert read_yaml(path) == {"a": text, text: 1}


LEVELS = "\n".join(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 40))
BOMB = "\n".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
MERGES = "\n".join(f"a{i}: &a{i} {{<<: [{','.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 12))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", ":3: the key 'a' is given twice"),
        ("1: 2\n", ":1: the key 1 is int; keys are text"),
        ("? [a, b]\n: 1\n", "the key ['a', 'b'] is list; keys are text"),
        ("- 1\n", "holds list; it must be a mapping"),
        ("", "holds NoneType; it must be a mapping"),
        ("a: [1\n", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []\n", "not YAML"),
        ("a: 1\nb: 9223372036854775808\n", ":2: is 9223372036854775808; it must lie between -2^63"),
        (f"a: -{'9' * 5000}\n", f":1: is -{'9' * 29}..."),
        ("a: " + "{a: " * 5000, "is nested more than 30 levels deep"),
        (f"a0: &a0 1\n{LEVELS}\n", ":31: is nested more than 30 levels deep"),
        (f"a0: &a0 [1]\n{BOMB}\n", "has more than 100,000 values; each use of an alias counts"),
        (f"a0: &a0 {{a: 1}}\n{MERGES}\n", "has more than 100,000 values"),
        ("a: &x [*x]\n", ":1: holds itself"),
        ("a: &x {<<: *x}\n", ":1: holds itself"),
        ("a: !!int abc\n", ":1: 'abc' is no int"),
        ("a: !!binary x\n", "not YAML"),
        ('a: "\\UFFFFFFFF"\n', "not YAML"),
        ('a: "\\ud800"\n', "surrogates not allowed"),
        ("include: 3\n", "include: is 3; it must be the path of one YAML file"),
        ("include: top.yaml\n", "the file includes itself"),
        ('include: "a\\0b"\n', "cannot be read: embedded null byte"),
        ("include: pipe\n", "pipe: is not a regular file"),
        ("include: nowhere.yaml\n", "nowhere.yaml: cannot be read: No such file"),
        ("#" * 300_001, "has 300,001 bytes; at most 300,000 are read"),
    ],
)
def test_what_no_configuration_needs_is_one_clear_error_at_once(tmp_path, text, expected):
    os.mkfifo(tmp_path / "pipe")
    path = write(tmp_path / "top.yaml", text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600


def test_a_chain_of_includes_has_an_end(tmp_path):
    count = yaml_file.MOST_FILES
    for number in range(count):
        last = "" if number == count - 1 else f"include: {number + 1}.yaml\n"
        write(tmp_path / f"{number}.yaml", f"{last}a: {number}\nb{number}: 1\n")
    found = read_yaml(tmp_path / "0.yaml")
    assert (found["a"], len(found)) == (0, count + 1)
    write(tmp_path / "first.yaml", "include: 0.yaml\n")
    with pytest.raises(InputError, match="28.yaml: include: the chain has more than 30 files"):
        read_yaml(tmp_path / "first.yaml")


def test_a_selection_is_rooted_whatever_it_names(tmp_path):
    text = 'methods: {sam: {burn_in: {select: "a\\0b"}}}\n'
    found = read_yaml(write(tmp_path / "a.yaml", text))["methods"]["sam"]["burn_in"]["select"]
    assert Path(found) == tmp_path / "a\0b"
