"""Spoiled models and deltas: they work, or InputError names the file. Nothing else happens."""

import json
import shutil
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.host import features, model
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.delta_diff import diff


def fuzz(examples):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


SPECIAL_FLOATS = [float("nan"), float("inf"), -float("inf"), 1e308, 1e-320, -0.0]
TEXTS = st.sampled_from(["", "bert", "roberta", "[UNK]", "the", "\ud800", "\x1b[2J\n", "a" * 300])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.sampled_from([-(10**9), 10**9, 2**63, 10**400, *SPECIAL_FLOATS, 0.5]),
    TEXTS,
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2)
)
CONFIG_KEYS = [
    *("adapters", "auto_map", "architectures", "attn_implementation", "_attn_implementation"),
    *("attribute_map", "chunk_size_feed_forward", "configuration_files", "dtype", "embedding_size"),
    *("from_dict", "gradient_checkpointing", "hidden_act", "hidden_dropout_prob", "hidden_size"),
    *("id2label", "initializer_range", "intermediate_size", "is_decoder", "layer_norm_eps"),
    *("max_position_embeddings", "model_type", "num_attention_heads", "num_hidden_layers"),
    *("num_labels", "output_attentions", "pad_token_id", "position_embedding_type", "problem_type"),
    *("pruned_heads", "quantization_config", "return_dict", "tie_word_embeddings", "to_dict"),
    *("tokenizer_class", "torch_dtype", "torchscript", "type_vocab_size", "use_cache"),
    *("vocab_size", "attention_probs_dropout_prob", "use_return_dict", "name_or_path"),
]
TOKENIZER_KEYS = [
    *("added_tokens_decoder", "additional_special_tokens", "add_prefix_space", "auto_map"),
    *("bos_token", "chat_template", "cls_token", "do_basic_tokenize", "do_lower_case"),
    *("extra_special_tokens", "fast_tokenizer_files", "init_inputs", "mask_token", "merges_file"),
    *("model_max_length", "never_split", "pad_token", "sep_token", "split_special_tokens"),
    *("strip_accents", "tokenize_chinese_chars", "tokenizer_class", "unk_token", "vocab_file"),
    *("0", "5", "x"),
]


@pytest.fixture(scope="module")
def directories(bert_dir, roberta_dir, tmp_path_factory):
    """A BERT and a RoBERTa directory with every file that a tokenizer may have."""
    made = {}
    for kind, source in (("bert", bert_dir), ("roberta", roberta_dir)):
        made[kind] = shutil.copytree(source, tmp_path_factory.mktemp("fuzz") / kind)
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            if not (made[kind] / name).exists():
                (made[kind] / name).write_text("{}")
    return made


@pytest.fixture(scope="module")
def build(data_dir):
    """build(source): jiant's model of it, put to use once."""
    paths = {phase: data_dir / "cb" / f"{phase}.jsonl" for phase in ("train", "val", "test")}
    task = features.make_task("cb", paths)
    done = set()

    def call(source):
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


def resolve(path, build):
    """Whether the model is taken; if it is, it works."""
    try:
        source = model.resolve(str(path))
    except InputError as error:
        assert all(str(path) in problem for problem in error.problems), error
        assert len(str(error)) < 4000
        return False
    build(source)
    return True


def mutated(content, data):
    """Bytes with one stretch of them replaced, left out or doubled."""
    start = data.draw(st.just(0) | st.integers(0, max(len(content) - 1, 0)))
    length = data.draw(st.sampled_from([0, 1, 2, 7, len(content)]))
    new = data.draw(
        st.one_of(
            st.binary(max_size=4),
            st.sampled_from(
                [b"", b"\n", b'"', b"[" * 5000, b"9" * 5000, b"\xed\xa0\x80", b"1e999"]
            ),
            st.just(content[start : start + length] * 2),
        )
    )
    return content[:start] + new + content[start + length :]


@fuzz(110)
@given(data=st.data())
def test_values_of_json_files(data, directories, build):
    path = directories[data.draw(st.sampled_from(["bert", "roberta"]))]
    file = path / data.draw(
        st.sampled_from(["config.json", "tokenizer_config.json", "special_tokens_map.json"])
    )
    keys = st.sampled_from(CONFIG_KEYS if file.name == "config.json" else TOKENIZER_KEYS)
    changes = data.draw(st.dictionaries(keys, VALUES, min_size=1, max_size=2))
    with spoiled(file, json.dumps(json.loads(file.read_text()) | changes).encode()):
        resolve(path, build)


@fuzz(40)
@given(data=st.data())
def test_vocabularies_and_ids(data, directories, build):
    kind, name = data.draw(
        st.sampled_from([("bert", "added_tokens.json"), ("roberta", "vocab.json")])
    )
    file = directories[kind] / name
    ids = json.loads(file.read_text())
    tokens = st.sampled_from(["[CLS]", "<s>", "the", "!", "new", *list(ids)[:5]])
    ids |= data.draw(st.dictionaries(tokens, LEAVES, min_size=1, max_size=2))
    with spoiled(file, json.dumps(ids).encode()):
        resolve(directories[kind], build)


@fuzz(100)
@given(data=st.data())
def test_bytes_of_models(data, directories, build):
    path = directories[data.draw(st.sampled_from(["bert", "roberta"]))]
    file = path / data.draw(st.sampled_from(sorted(entry.name for entry in path.iterdir())))
    with spoiled(file, mutated(file.read_bytes(), data)):
        resolve(path, build)


@fuzz(40)
@given(data=st.data())
def test_headers_of_weights(data, directories, build):
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
        resolve(directories["bert"], build)


@pytest.fixture(scope="module")
def delta_file(bert_dir, tmp_path_factory):
    base = {name: p.detach() for name, p in AutoModel.from_pretrained(bert_dir).named_parameters()}
    names = [name for name in base if name.endswith("dense.bias")][:3]
    tuned = base | {name: base[name] + 1 for name in names} | {"head.weight": torch.ones(2, 2)}
    path = tmp_path_factory.mktemp("delta") / "delta.safetensors"
    settings = '{"name": "lora", "rank": 2, "alpha": 4}'
    delta.save(delta.extract(base, tuned, {"settings": settings}), path)
    return path


def use(path, bert_dir, directory):
    """Whether a delta is loaded; whatever is done with it then works or is refused."""
    try:
        found = delta.load(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ")
        return
    assert all(row.both == row.equal for row in diff(found, found))
    for command in (["inspect", path], ["apply", path, "--model", bert_dir, "--fold"]):
        options = ["--output-dir", directory] if command[0] == "apply" else []
        result = CliRunner().invoke(app, ["delta", *map(str, [*command, *options])])
        assert result.exit_code in (0, 2), result.exception
        assert result.exit_code == 0 or str(path) in result.stderr
        assert "\x1b" not in result.stdout + result.stderr
        shutil.rmtree(directory, ignore_errors=True)


@fuzz(60)
@given(data=st.data())
def test_bytes_of_deltas(data, delta_file, bert_dir, tmp_path_factory):
    with spoiled(delta_file, mutated(delta_file.read_bytes(), data)):
        use(delta_file, bert_dir, tmp_path_factory.getbasetemp() / "fuzz-made")


@fuzz(40)
@given(data=st.data())
def test_headers_and_tensors_of_deltas(data, delta_file, bert_dir, tmp_path_factory):
    """With digests that are right."""
    tensors = load_file(delta_file)
    with safe_open(delta_file, "pt") as file:
        header = json.loads(file.metadata()[delta._HEADER])
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(tensors)))
        dtype = data.draw(
            st.sampled_from(
                [torch.int64, torch.uint8, torch.uint16, torch.bool, torch.float8_e4m3fn]
                + [torch.float8_e8m0fnu, torch.float64, torch.complex64]
                + [torch.uint32, torch.uint64, torch.bfloat16]
            )
        )
        tensors[name] = torch.ones(tensors[name].shape).to(dtype)
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
    good = delta_file.read_bytes()
    with spoiled(delta_file, good):
        save_file(tensors, delta_file, metadata={delta._HEADER: json.dumps(header)})
        use(delta_file, bert_dir, tmp_path_factory.getbasetemp() / "fuzz-made")
