"""Whatever stands in a file: it is read and works, or InputError names the file, and soon."""

import copy
import json
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.documents import MANIFEST, RECORD
from support.rows import GOOD
from transformers import AutoModel, BertConfig
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.config import load as config
from jiant_sparse.config.yaml_file import set_key
from jiant_sparse.data.store import MANIFEST as SUMS
from jiant_sparse.data.store import read_manifest
from jiant_sparse.data.tasks import TASKS, read_rows
from jiant_sparse.errors import InputError
from jiant_sparse.grid import lock_file
from jiant_sparse.host import features, model, tokenizer
from jiant_sparse.host.model_files import TOKENIZER
from jiant_sparse.schema import manifest, record
from jiant_sparse.schema.control import Progress
from jiant_sparse.schema.manifest import Manifest
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.delta_diff import diff


def fuzz(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=timedelta(seconds=10),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


# What may stand between the bytes of a good file, or make up a bad one.
PIECES = (
    *(b"\n", b"\r", b" ", b"\t", b"  - ", b": ", b",", b"[", b"]", b"{", b"}", b'"', b"'", b"#"),
    *(b"&a ", b"*a", b"<<: *a", b"? ", b"| ", b"> ", b"---", b"...", b"%YAML 9", b"!!int ", b"!x "),
    *(b"\\u0000", b"\\ud800", b"\\U00110000", b"\\x", b"\0", b"\xff", b"\xef\xbb\xbf", b"\x85"),
    *(b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b"null", b"true", b"yes", b"-1", b"0"),
    *(b"1.5", b"1e999", b"NaN", b"Infinity", b"9" * 30, b"9" * 5000, b"[" * 400, b'{"a":' * 400),
    *(b"{a: " * 400, b"a: ", b"seeds: ", b"tasks: ", b"methods: ", b"include: ", b"select: "),
    *(b"sweep: ", b"cb", b"sam", b"train: ", b"label", b"idx", b"..", b"/dev/zero", b"x" * 300),
)  # fmt: skip
PIECE = st.sampled_from(PIECES) | st.binary(max_size=4)
BYTES = st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(b"".join)


def near(good: bytes) -> st.SearchStrategy[bytes]:
    """The good content with up to four stretches replaced, cut or doubled, or something else."""
    length = st.sampled_from([0, 1, 2, 7, len(good)])
    edit = st.tuples(st.integers(0, len(good)), length, st.none() | st.just(b"") | PIECE)

    def spoilt(edits) -> bytes:
        text = good
        for begin, length, piece in edits:
            middle = text[begin : begin + length] * 2 if piece is None else piece
            text = text[:begin] + middle + text[begin + length :]
        return text

    return st.lists(edit, min_size=1, max_size=4).map(spoilt) | BYTES


WORDS = [
    "",
    "bert",
    "roberta",
    "[UNK]",
    "the",
    "\ud800",
    "\x1b[2J\n",
    "a" * 300,
    "010",
    "cb",
    "a\0b",
]
TEXTS = st.sampled_from([*WORDS, "sam", "../x", "[" * 40])
NUMBERS = [-(10**9), 10**9, 2**63, 10**400, 1e308, 5e-324, -0.0, 0.5]
FLOATS = [float("nan"), float("inf"), -float("inf")]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.sampled_from([*NUMBERS, *FLOATS]), TEXTS
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2)
)


# --- documents


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


def load_configuration(path):
    return config.load(path, output_dir=path.parent)


def read_task(name):
    rows = "".join(json.dumps(GOOD[name]) + "\n" for _ in range(2))
    return "x.jsonl", rows, lambda path: read_rows(path, TASKS[name])


# (file name, good content, reader)
DOCUMENTS = {
    "check": ("f.yaml", yaml.safe_dump(RAW), config.check),
    "load": ("f.yaml", yaml.safe_dump(RAW), load_configuration),
    **{name: read_task(name) for name in ("cola", "stsb", "copa", "wsc")},
    "checksums": (
        SUMS,
        f"{'0' * 64}  cb/train.jsonl\n{'f' * 64} *cb/val.jsonl\n",
        lambda path: read_manifest(path.parent),
    ),
    "record": (record.FILE_NAME, RECORD.model_dump_json(indent=1), record.read),
    "plan": (
        manifest.FILE_NAME,
        MANIFEST.model_dump_json(indent=1),
        lambda path: Manifest.read(path.parent),
    ),
}


def refuses_or_reads(read, path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        read(path)
    except InputError as error:
        others = (b"include", b"select")  # the file that is named there is the wrong one
        assert all(problem for problem in error.problems)
        assert path.name in str(error) or any(key in data for key in others), error
        assert max(map(len, error.problems)) < 2100


@pytest.mark.parametrize("name", DOCUMENTS)
@fuzz(80)
@given(data=st.data())
def test_bytes_of_documents(tmp_path, name, data):
    file, good, read = DOCUMENTS[name]
    refuses_or_reads(read, tmp_path / file, data.draw(near(good.encode())))


@fuzz(80)
@given(data=near(LOCK.model_dump_json().encode()))
def test_bytes_of_locks(tmp_path, data):
    """A lock that cannot be read is respected for a while: nothing is refused."""
    path = tmp_path / "lock-000000.json"
    path.write_bytes(data)
    assert lock_file.read(path).path == path
    str(lock_file.holder(tmp_path))


# Keys at which another value may stand.
KEYS = """
benchmark model data_dir seeds train sweep tasks methods new split threads sweep/a train/max_steps
train/new train/reshuffle tasks/cb tasks/new tasks/nli/like tasks/nli/seeds tasks/nli/metric
methods/sam methods/new methods/sam/burn_in methods/sam/method methods/sam/clip methods/../x
methods/sam/sweep/burn_in methods/sam/sweep methods/lora/modules methods/lora/train
methods/lora/train/learning_rate methods/lora/train/sweep
"""
BLOCKS = [{"seeds": [[]]}, {"sweep": {"burn_in": [1, 2]}}, {"burn_in": list(range(300))}]
SELECTS = [{"select": value} for value in ("f.yaml", 3, "a\0", {})] + [{"select": "x", "a": 1}]
BLOCKS += [*SELECTS, {"train.batch_size": [1]}, {"cb": 1}, {"cb": {}, "nli": None}]
CHANGE = st.tuples(st.sampled_from(KEYS.split()), VALUES | st.sampled_from(BLOCKS))


@fuzz(80)
@given(changes=st.lists(CHANGE, min_size=1, max_size=3))
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
    for read in (config.check, load_configuration):
        refuses_or_reads(read, tmp_path / "f.yaml", data)


@fuzz(80)
@given(data=BYTES, key=st.sampled_from(["a", "train.a", "a.b", "", ".", "seeds"]))
def test_assignments(data, key):
    text = data.decode("utf-8", "surrogateescape")  # as a command line gives them
    try:
        set_key({"a": {}, "train": 3}, f"{key}={text}")
    except InputError as error:
        assert str(error).startswith("--set ")


# --- models


CONFIG_KEYS = [
    *BertConfig().to_dict(),
    *("adapters", "attn_implementation", "attribute_map", "auto_map", "configuration_files"),
    *("embedding_size", "from_dict", "name_or_path", "pruned_heads", "quantization_config"),
    *("to_dict", "tokenizer_class", "torch_dtype", "torchscript", "use_return_dict"),
]
TOKENIZER_KEYS = [
    *tokenizer._SETTINGS,
    *("auto_map", "chat_template", "fast_tokenizer_files", "init_inputs", "merges_file"),
    *("model_max_length", "tokenizer_class", "vocab_file", "0", "5", "x"),
]
KINDS = st.sampled_from(["bert", "roberta"])


@pytest.fixture(scope="module")
def directories(bert_dir, roberta_dir, tmp_path_factory):
    """A BERT and a RoBERTa directory with every file that a tokenizer may have."""
    made = {}
    for kind, source in (("bert", bert_dir), ("roberta", roberta_dir)):
        made[kind] = shutil.copytree(source, tmp_path_factory.mktemp("fuzz") / kind)
        for name in TOKENIZER:
            if not (made[kind] / name).exists():
                (made[kind] / name).write_text("{}")
    return made


@pytest.fixture(scope="module")
def resolve(data_dir):
    """resolve(path): refuses the model, or builds jiant's model of it and puts it to use."""
    paths = {phase: data_dir / "cb" / f"{phase}.jsonl" for phase in ("train", "val", "test")}
    task = features.make_task("cb", paths)
    done = set()

    def call(path):
        try:
            source = model.resolve(str(path))
        except InputError as error:
            assert all(str(path) in problem for problem in error.problems), error
            assert len(str(error)) < 4000
            return
        with model.seen(source.path) as directory:
            seen = model.digest(directory)
        if seen in done:  # most wrong values never reach transformers
            return
        done.add(seen)
        made = model.build(source, task, "pooler")
        ids = made.tokenizer.convert_tokens_to_ids(made.tokenizer.tokenize("the end [UNK] <s> ."))
        made.encoder(input_ids=torch.tensor([ids]))

    return call


@contextmanager
def spoiled(file, content):
    good = file.read_bytes()
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(good)


@fuzz(100)
@given(data=st.data(), kind=KINDS)
def test_bytes_of_models(data, kind, directories, resolve):
    path = directories[kind]
    file = path / data.draw(st.sampled_from(sorted(entry.name for entry in path.iterdir())))
    with spoiled(file, data.draw(near(file.read_bytes()))):
        resolve(path)


@fuzz(110)
@given(data=st.data(), kind=KINDS, name=st.sampled_from(["config.json", *TOKENIZER[:2]]))
def test_values_of_json_files(data, kind, name, directories, resolve):
    file = directories[kind] / name
    keys = st.sampled_from(CONFIG_KEYS if name == "config.json" else TOKENIZER_KEYS)
    changes = data.draw(st.dictionaries(keys, VALUES, min_size=1, max_size=2))
    with spoiled(file, json.dumps(json.loads(file.read_text()) | changes).encode()):
        resolve(directories[kind])


@pytest.mark.parametrize(("kind", "name"), [("bert", TOKENIZER[2]), ("roberta", "vocab.json")])
@fuzz(20)
@given(data=st.data())
def test_ids_of_tokens(data, kind, name, directories, resolve):
    file = directories[kind] / name
    ids = json.loads(file.read_text())
    tokens = st.sampled_from(["[CLS]", "<s>", "the", "!", "new", *list(ids)[:5]])
    ids |= data.draw(st.dictionaries(tokens, LEAVES, min_size=1, max_size=2))
    with spoiled(file, json.dumps(ids).encode()):
        resolve(directories[kind])


@fuzz(40)
@given(data=st.data())
def test_headers_of_weights(data, directories, resolve):
    file = directories["bert"] / "model.safetensors"
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    name = data.draw(st.sampled_from(sorted(header)))
    if data.draw(st.booleans()):
        header[data.draw(TEXTS) + name] = header.pop(name)
    else:
        dtypes = ["F16", "BF16", "I32", "F8_E4M3", "C64", "F4", "X"]
        field, value = data.draw(
            st.tuples(st.just("dtype"), st.sampled_from(dtypes))
            | st.tuples(st.sampled_from(["dtype", "shape", "data_offsets", "format"]), VALUES)
        )
        header[name] = header[name] | {field: value}
    text = json.dumps(header).encode()
    with spoiled(file, len(text).to_bytes(8, "little") + text + content[end:]):
        resolve(directories["bert"])


# --- deltas


@pytest.fixture(scope="module")
def delta_file(bert_dir, tmp_path_factory):
    base = {name: p.detach() for name, p in AutoModel.from_pretrained(bert_dir).named_parameters()}
    names = [name for name in base if name.endswith("dense.bias")][:3]
    tuned = base | {name: base[name] + 1 for name in names} | {"head.weight": torch.ones(2, 2)}
    path = tmp_path_factory.mktemp("delta") / "delta.safetensors"
    settings = '{"name": "lora", "rank": 2, "alpha": 4}'
    delta.save(delta.extract(base, tuned, {"settings": settings}), path)
    return path


@pytest.fixture(scope="module")
def use(delta_file, bert_dir):
    """use(): refuses the delta; or whatever is done with it works or is refused."""
    made = delta_file.parent / "made"
    apply = ["apply", delta_file, "--model", bert_dir, "--fold", "--output-dir", made]

    def call():
        try:
            found = delta.load(delta_file)
        except InputError as error:
            assert str(error).startswith(f"{delta_file}: ")
            return
        assert all(row.both == row.equal for row in diff(found, found))
        for command in (["inspect", delta_file], apply):
            result = CliRunner().invoke(app, ["delta", *map(str, command)])
            assert result.exit_code in (0, 2), result.exception
            assert result.exit_code == 0 or str(delta_file) in result.stderr
            assert "\x1b" not in result.stdout + result.stderr
            shutil.rmtree(made, ignore_errors=True)

    return call


@fuzz(60)
@given(data=st.data())
def test_bytes_of_deltas(data, delta_file, use):
    with spoiled(delta_file, data.draw(near(delta_file.read_bytes()))):
        use()


DTYPES = "int64 uint8 uint16 uint32 uint64 bool bfloat16 float64 complex64 float8_e4m3fn"


@fuzz(40)
@given(data=st.data())
def test_headers_and_tensors_of_deltas(data, delta_file, use):
    """With digests that are right."""
    tensors = load_file(delta_file)
    with safe_open(delta_file, "pt") as file:
        header = json.loads(file.metadata()[delta._HEADER])
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(tensors)))
        dtype = data.draw(st.sampled_from([*DTYPES.split(), "float8_e8m0fnu"]))
        tensors[name] = torch.ones(tensors[name].shape).to(getattr(torch, dtype))
        header["stored"] = delta.fingerprint(tensors)
    else:
        field = data.draw(st.sampled_from(sorted(header)))
        inner = header[field]
        if isinstance(inner, dict) and data.draw(st.booleans()):
            keys = st.sampled_from([*inner, "settings", "\x1b[2J", "\ud800"])
            inner |= data.draw(st.dictionaries(keys, VALUES | TEXTS, min_size=1, max_size=2))
        else:
            header[field] = data.draw(VALUES)
    header["digest"] = delta.header_digest(header)
    with spoiled(delta_file, delta_file.read_bytes()):
        save_file(tensors, delta_file, metadata={delta._HEADER: json.dumps(header)})
        use()
