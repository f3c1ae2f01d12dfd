"""Whatever stands in a file: it is read, or refused by InputError, which names it, and soon."""

import copy
import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.documents import MANIFEST, RECORD
from support.rows import GOOD

from jiant_sparse.config import load as config
from jiant_sparse.config.yaml_file import read_yaml, set_key
from jiant_sparse.data.store import MANIFEST as SUMS
from jiant_sparse.data.store import read_manifest
from jiant_sparse.data.tasks import TASKS, read_rows
from jiant_sparse.errors import InputError
from jiant_sparse.grid import lock_file
from jiant_sparse.schema import manifest, record
from jiant_sparse.schema.control import Progress
from jiant_sparse.schema.manifest import Manifest

fuzz = settings(
    derandomize=True,
    max_examples=80,
    deadline=timedelta(seconds=10),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RAW = {
    "benchmark": "b",
    "model": "m",
    "data_dir": "d",
    "seeds": [0, 1],
    "train": {"max_steps": 10, "learning_rate": 0.001},
    "sweep": {"train.batch_size": [2, 4]},
    "tasks": {"cb": {}, "nli": {"like": "rte", "seeds": [3], "train": {"patience": 2}}},
    "methods": {
        "sam": {"density": {"cb": 0.1, "nli": 0.2}, "sweep": {"burn_in": [1, 2]}},
        "lora": {"modules": ["query"], "train": {"learning_rate": {"select": "no.yaml"}}},
    },
}
LOCK = lock_file.Content(
    owner=lock_file.this_process(),
    since=datetime(2026, 1, 2, tzinfo=UTC),
    progress=Progress(phase="training", step=1, steps=None, score=0.5),
)
# Keys at which another value may stand.
KEYS = """
benchmark model data_dir seeds train sweep tasks methods new split threads sweep/a train/max_steps
train/new train/reshuffle tasks/cb tasks/new tasks/nli/like tasks/nli/seeds tasks/nli/metric
methods/sam methods/new methods/sam/burn_in methods/sam/method methods/sam/clip methods/../x
methods/sam/sweep/burn_in methods/sam/sweep methods/lora/modules methods/lora/train
methods/lora/train/learning_rate methods/lora/train/sweep
"""
SCALARS = [None, True, -1, 0, 1, 2**63 - 1, 0.5, -0.0, 1e308, 5e-324]
TEXTS = ["", "010", "cb", "sam", "a b", "é", "..", "../x", "a\0b", "x" * 300, "[" * 40]
LISTS = [[], [[]], [1, 1], [True, 1.0], ["a", {}], [0] * 9]
MAPPINGS = [{}, {"cb": 1}, {"cb": {}, "nli": None}, {"sam": {"sam": {"sam": 1}}}, {"": ""}]
BLOCKS = [{"seeds": [[]]}, {"sweep": {"burn_in": [1, 2]}}, {"burn_in": list(range(300))}]
SELECTS = [{"select": value} for value in ("f.yaml", 3, "a\0", {})] + [{"select": "x", "a": 1}]
ODD = [*SCALARS, *TEXTS, *LISTS, *MAPPINGS, *BLOCKS, *SELECTS, {"train.batch_size": [1]}]

# What may stand between the bytes of a good file, or make up a bad one.
PIECES = (
    *(b"\n", b"\r", b" ", b"\t", b"  - ", b": ", b",", b"[", b"]", b"{", b"}", b'"', b"'", b"#"),
    *(b"&a ", b"*a", b"<<: *a", b"? ", b"| ", b"> ", b"---", b"...", b"%YAML 9", b"!!int ", b"!x "),
    *(b"\\u0000", b"\\ud800", b"\\U00110000", b"\\x", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x85"),
    *(b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"null", b"true", b"yes", b"-1", b"0", b"1.5", b"1e999"),
    *(b"NaN", b"Infinity", b"9" * 30, b"9" * 5000, b"[" * 400, b"{a: " * 400, b'{"a":' * 400),
    *(b"a: ", b"seeds: ", b"tasks: ", b"methods: ", b"include: ", b"select: ", b"sweep: ", b"cb"),
    *(b"sam", b"train: ", b"label", b"idx", b"..", b"/", b"/dev/zero", b"x" * 300),
)  # fmt: skip
BYTES = st.one_of(
    st.binary(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)
)


def near(good: str | bytes) -> st.SearchStrategy[bytes]:
    """The good content with up to four cuts, copies and insertions, or something else."""
    good = good.encode() if isinstance(good, str) else good
    place = st.integers(0, len(good))
    edit = st.tuples(place, place, st.one_of(st.just(None), st.sampled_from(PIECES)))

    def spoilt(edits) -> bytes:
        text = good
        for begin, end, piece in edits:
            begin, end = min(begin, end), max(begin, end)
            middle = text[begin:end] * 2 if piece is None else piece
            text = text[:begin] + middle + text[begin + (end - begin) % 9 :]
        return text

    return st.one_of(st.lists(edit, min_size=1, max_size=4).map(spoilt), BYTES)


def refuses_or_reads(read, path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        read(path)
    except InputError as error:
        others = (b"include", b"select")  # the file that is named there is the wrong one
        assert all(problem for problem in error.problems)
        assert path.name in str(error) or any(key in data for key in others), error
        assert max(map(len, error.problems)) < 2100


@pytest.mark.parametrize(
    "read", [read_yaml, config.check, lambda path: config.load(path, output_dir=path.parent)]
)
@fuzz
@given(data=near(yaml.safe_dump(RAW)))
def test_configurations(tmp_path, read, data):
    refuses_or_reads(read, tmp_path / "f.yaml", data)


@fuzz
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(KEYS.split()), st.sampled_from(ODD)), min_size=1, max_size=3
    )
)
def test_values_of_configurations(tmp_path, changes):
    raw = copy.deepcopy(RAW)
    for key, value in changes:
        *outer, last = key.split("/")
        block = raw
        for part in outer:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict):
            block[last] = copy.deepcopy(value)
    data = yaml.safe_dump(raw, allow_unicode=True).encode()
    for read in (config.check, lambda path: config.load(path, output_dir=path.parent)):
        refuses_or_reads(read, tmp_path / "f.yaml", data)


@fuzz
@given(data=BYTES, key=st.sampled_from(["a", "train.a", "a.b", "", ".", "seeds"]))
def test_assignments(data, key):
    text = data.decode("utf-8", "surrogateescape")  # as a command line gives them
    try:
        set_key({"a": {}, "train": 3}, f"{key}={text}")
    except InputError as error:
        assert str(error).startswith("--set ")


@pytest.mark.parametrize("name", ["cola", "stsb", "copa", "wsc"])
@fuzz
@given(data=st.data())
def test_task_files(tmp_path, name, data):
    good = "".join(json.dumps(GOOD[name]) + "\n" for _ in range(2))
    spoilt = data.draw(near(good))
    refuses_or_reads(lambda path: read_rows(path, TASKS[name]), tmp_path / "x.jsonl", spoilt)


@fuzz
@given(data=near(f"{'0' * 64}  cb/train.jsonl\n{'f' * 64} *cb/val.jsonl\n"))
def test_checksums(tmp_path, data):
    refuses_or_reads(lambda path: read_manifest(path.parent), tmp_path / SUMS, data)


@fuzz
@given(data=near(RECORD.model_dump_json(indent=1)))
def test_records(tmp_path, data):
    refuses_or_reads(record.read, tmp_path / record.FILE_NAME, data)


@fuzz
@given(data=near(MANIFEST.model_dump_json(indent=1)))
def test_plans(tmp_path, data):
    path = tmp_path / manifest.FILE_NAME
    refuses_or_reads(lambda path: Manifest.read(path.parent), path, data)


@fuzz
@given(data=near(LOCK.model_dump_json()))
def test_locks(tmp_path, data):
    """A lock that cannot be read is respected for a while: nothing is refused."""
    path = tmp_path / "lock-000000.json"
    path.write_bytes(data)
    assert lock_file.read(path).path == path
    str(lock_file.holder(tmp_path))
