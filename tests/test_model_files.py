"""What a model directory may hold: every wrong file is one error that names it, before a run."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.host import features, model

BERT_FILES = ("config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json")
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@pytest.fixture
def copy(bert_dir, tmp_path):
    """A BERT directory that a test may spoil."""
    return shutil.copytree(bert_dir, tmp_path / "copy")


@pytest.fixture
def roberta(roberta_dir, tmp_path):
    """A RoBERTa directory that a test may spoil."""
    return shutil.copytree(roberta_dir, tmp_path / "roberta")


def failure(path) -> str:
    with pytest.raises(InputError) as caught:
        model.resolve(str(path))
    return str(caught.value)


def change(path, **fields):
    """Set fields of a JSON file, which need not exist."""
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | fields))


def change_weights(path, edit):
    tensors = load_file(path / "model.safetensors")
    edit(tensors)
    save_file(tensors, path / "model.safetensors", {"format": "pt"})


# --- any file


def test_a_wrong_model_ends_the_command_with_exit_code_2(copy, data_dir, tmp_path):
    change(copy / "config.json", hidden_size=10**9)
    message = (
        f"error: {copy}/config.json: hidden_size is 1000000000; "
        "it must be a whole number in [1, 16384]\n"
    )
    run = ["run", "--task", "cb", "--method", "sam", "--data-dir", data_dir]
    run += ["--output-dir", tmp_path / "out"]
    for command in (run, ["methods"]):
        result = CliRunner().invoke(app, [str(part) for part in (*command, "--model", copy)])
        assert (result.exit_code, result.stderr) == (2, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [*BERT_FILES, "special_tokens_map.json", "added_tokens.json"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read: Too many levels of symbolic links"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read: No such file or directory"),
    ],
)
def test_only_regular_files_are_read(name, make, message, copy):
    (copy / name).unlink(missing_ok=True)
    make(copy / name)
    assert failure(copy) == f"{copy / name}: {message}"


def test_files_of_any_size_are_not_read(copy):
    with open(copy / "config.json", "ab") as file:
        file.truncate(2**30)
    assert "config.json: has 1,073,741,824 bytes; at most " in failure(copy)


@pytest.mark.parametrize("name", ["config.json", *TOKENIZER_FILES])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "is not UTF-8: "),
        (b"", "not JSON: "),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "not JSON: Exceeds the limit"),
        (b"[" * 100_000, "not JSON: it is nested too deeply"),
        (b"[1]", "holds a list; it must be an object"),
        (b"null", "holds a NoneType; it must be an object"),
        (b'{"vocab_size": 1, "vocab_size": 2}', "not JSON: key 'vocab_size' is given twice"),
    ],
)
def test_json_that_is_no_object_of_plain_size(name, content, message, copy):
    (copy / name).write_bytes(content)
    assert failure(copy).startswith(f"{copy / name}: {message}")


def test_a_link_that_goes_round_is_no_directory(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (tmp_path / "loop", "x" * 5000, "a\0b", "\ud800"):
        assert "no such directory" in failure(name) or "cannot be had" in failure(name)


def test_an_adapter_is_no_model(copy):
    (copy / "adapter_config.json").write_text("{}")
    assert failure(copy) == (
        f"{copy}/adapter_config.json: the directory holds an adapter; it must hold a whole model: "
        "merge the adapter and save it without adapter_config.json"
    )


def test_what_lies_beside_decides_nothing(copy, make_job):
    """Neither a directory's other files nor unknown fields reach transformers."""
    first = model.resolve(str(copy)).sha256
    token = {"content": "the", "lstrip": False, "rstrip": False, "normalized": False}
    token |= {"single_word": False, "special": True, "id": 0}
    (copy / "tokenizer.json").write_text(json.dumps({"added_tokens": [token]}))
    os.mkfifo(copy / "chat_template.jinja")
    (copy / "generation_config.json").write_text("{")
    assert model.resolve(str(copy)).sha256 == first
    change(copy / "config.json", to_dict=3, num_labels=10**9, dtype="float16", id2label=5)
    change(copy / "tokenizer_config.json", vocab_file="/nowhere", init_inputs=[1], auto_map=[])
    job = make_job(model=str(copy))
    built = model.build(job.source, features.make_task("cb", job.data.paths), "pooler")
    assert built.tokenizer.convert_tokens_to_ids("the") != 0
    assert next(built.parameters()).dtype == torch.float32


# --- config.json


WRONG_FIELDS = [
    ("num_hidden_layers", 10**9, "a whole number in [1, 1024]"),
    ("num_hidden_layers", 0, "a whole number in [1, 1024]"),
    ("num_hidden_layers", 2.0, "a whole number in [1, 1024]"),
    ("hidden_size", True, "a whole number in [1, 16384]"),
    ("hidden_size", "16", "a whole number in [1, 16384]"),
    ("hidden_size", None, "a whole number in [1, 16384]"),
    ("vocab_size", 10**400, "a whole number in [5, 1048576]"),
    ("type_vocab_size", 1, "a whole number in [2, 1024]"),
    ("max_position_embeddings", -1, "a whole number in [3, 1048576]"),
    ("hidden_dropout_prob", float("nan"), "a number in [0, 0.9]"),
    ("hidden_dropout_prob", 1, "a number in [0, 0.9]"),
    ("attention_probs_dropout_prob", -0.1, "a number in [0, 0.9]"),
    ("layer_norm_eps", 0, "a number in [1e-15, 0.1]"),
    ("initializer_range", 10**400, "a number in [1e-06, 1]"),
    ("position_embedding_type", "absolut", "'absolute' or 'relative_key' or "),
    ("pad_token_id", 1, "0"),
    ("chunk_size_feed_forward", 4, "0"),
    ("output_attentions", True, "False"),
    ("output_hidden_states", True, "False"),
    ("torchscript", True, "False"),
    ("return_dict", False, "True"),
    ("is_decoder", True, "False"),
    ("is_encoder_decoder", True, "False"),
    ("add_cross_attention", True, "False"),
    ("pruned_heads", {"0": [1]}, "{}"),
    ("quantization_config", {"quant_method": "fp8"}, "absent"),
    ("auto_map", {"AutoModel": "modeling.Model"}, "absent"),
    ("adapters", {"adapters": {"x": "y"}}, "absent"),
    ("configuration_files", ["config.4.0.0.json"], "absent"),
    ("tokenizer_class", "GPT2Tokenizer", "'BertTokenizer'"),
]


@pytest.mark.parametrize(("field", "value", "allowed"), WRONG_FIELDS)
def test_fields_that_change_what_jiant_gets(field, value, allowed, copy):
    change(copy / "config.json", **{field: value})
    text = failure(copy)
    assert text.startswith(f"{copy}/config.json: {field} is ")
    assert f"; it must be {allowed}" in text
    assert len(text) < 300


def test_every_wrong_field_is_named_at_once(copy):
    change(copy / "config.json", hidden_size=0, torchscript=True, chunk_size_feed_forward=[[]])
    with pytest.raises(InputError) as caught:
        model.resolve(str(copy))
    assert len(caught.value.problems) == 3


def test_fields_as_real_models_have_them(copy):
    """Those of bert-base-uncased's and of older configurations."""
    old = model.resolve(str(copy))
    change(
        copy / "config.json",
        architectures=["BertForMaskedLM"], gradient_checkpointing=False, output_past=True,
        pruned_heads={}, torchscript=False, xla_device=None, finetuning_task=None, num_labels=2,
        id2label={"0": "a"}, label2id={"a": 0}, directionality="bidi", pooler_size_per_head=128,
        torch_dtype="float32", transformers_version="4.6.0.dev0", hidden_dropout_prob=0,
        is_decoder=None, tokenizer_class="BertTokenizerFast", quantization_config=None,
        _attn_implementation_autoset=True,
    )  # fmt: skip
    assert model.resolve(str(copy)).longest_sequence == old.longest_sequence


# --- weights


def test_surplus_layers_are_other_weights(copy):
    change(copy / "config.json", num_hidden_layers=1)
    assert failure(copy) == (
        f"{copy}/model.safetensors: has 16 tensors that an encoder of {copy}/config.json has not, "
        "first encoder.layer.1.attention.output.LayerNorm.bias"
    )


def test_weights_as_the_hub_has_them(copy):
    """bert-base-uncased: a prefix, old names, a buffer, and the heads of pretraining."""
    good = load_file(copy / "model.safetensors")

    def older(tensors):
        for name in list(tensors):
            old = f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(130).view(1, -1)
        tensors["cls.predictions.bias"] = torch.full((3,), float("nan"))
        tensors["classifier.weight"] = torch.ones(2, 16, dtype=torch.int8)

    change_weights(copy, older)
    assert model.resolve(str(copy)).initialised == ()
    with model.seen(copy) as directory:
        loaded = AutoModel.from_pretrained(directory).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in good.items())


BIAS = "encoder.layer.0.output.dense.bias"


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.int8, "I8"),
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.complex64, "C64"),
        (torch.float64, "F64"),
    ],
)
def test_weights_of_other_types(dtype, name, copy):
    change_weights(copy, lambda tensors: tensors.update({BIAS: tensors[BIAS].to(dtype)}))
    assert failure(copy) == (
        f"{copy}/model.safetensors: {BIAS} is of type {name}; it must be one of F32, F16, BF16"
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_16_bits(dtype, copy):
    def narrow(tensors):
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(dtype)

    change_weights(copy, narrow)
    model.resolve(str(copy))
    change_weights(copy, lambda tensors: tensors[BIAS].fill_(float("inf")))
    assert f"{BIAS} holds NaN or infinity" in failure(copy)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(value, copy):
    def spoil(tensors):
        tensors[BIAS][3] = value

    change_weights(copy, spoil)
    assert failure(copy) == (
        f"{copy}/model.safetensors: {BIAS} holds NaN or infinity; every weight must be a number"
    )


def test_one_tensor_under_two_names(copy):
    def both(tensors):
        tensors[f"bert.{BIAS}"] = tensors[BIAS] + 1

    change_weights(copy, both)
    assert "has tensors with and without the prefix bert., such as " in failure(copy)
    change_weights(copy, lambda tensors: tensors.update(berthead=tensors.pop(f"bert.{BIAS}")))
    assert "has tensors with and without the prefix bert., such as berthead" in failure(copy)


def test_one_tensor_under_an_old_and_a_new_name(copy):
    def both(tensors):
        tensors["embeddings.LayerNorm.gamma"] = tensors["embeddings.LayerNorm.weight"] + 1

    change_weights(copy, both)
    assert "embeddings.LayerNorm.weight has two names: " in failure(copy)


def test_weights_of_another_framework(copy):
    tensors = load_file(copy / "model.safetensors")
    for metadata, got in (({"format": "tf"}, "'tf'"), ({"a": "b"}, "None")):
        save_file(tensors, copy / "model.safetensors", metadata)
        assert failure(copy) == (
            f"{copy}/model.safetensors: its metadata say format {got}; it must be 'pt'"
        )


# --- tokenizers


def lines(path):
    return path.read_text().splitlines()


def rewrite(path, tokens):
    path.write_text("".join(f"{token}\n" for token in tokens))


def test_spoiled_vocabularies_of_bert(copy):
    file = copy / "vocab.txt"
    good = lines(file)
    config = f"{copy}/config.json"
    file.write_text("")
    assert failure(copy).startswith(f"{file}: has 0 tokens; {config} says vocab_size {len(good)}")
    rewrite(file, ["a", "b", "c", "d", "e", *good[5:]])
    assert failure(copy) == f"{file}: has no [PAD], [UNK], [CLS], [SEP], [MASK]"
    rewrite(file, good[: len(good) // 2])
    few = f"{file}: has {len(good) // 2} tokens; {config} says vocab_size {len(good)}"
    assert failure(copy).startswith(few)
    rewrite(file, good[::-1])
    assert failure(copy) == f"{file}: [PAD] has id {len(good) - 1}; jiant pads BERT's input with 0"
    rewrite(file, [token for token in good if token != "[MASK]"])
    assert failure(copy) == f"{file}: has no [MASK]"
    rewrite(file, [*good, "more"])
    many = f"{file}: has {len(good) + 1} tokens; {config} says vocab_size {len(good)}"
    assert failure(copy).startswith(many)
    rewrite(file, ["\ufeff[PAD]", *good[1:]])
    assert failure(copy) == f"{file}: has no [PAD]"
    file.write_bytes(b"\xff")
    assert failure(copy).startswith(f"{file}: is not UTF-8: ")


def test_a_few_rows_of_the_embedding_may_be_unused(copy):
    file = copy / "vocab.txt"
    good = lines(file)
    rewrite(file, good[: -(len(good) // 10)])
    model.resolve(str(copy))
    rewrite(file, good[: -(len(good) // 10) - 1])
    assert "vocab_size" in failure(copy)


def test_separators_that_are_no_line_ends_are_tokens(copy):
    """transformers reads a vocabulary by lines, and so do we."""
    file = copy / "vocab.txt"
    good = lines(file)
    good[-1] = "a\u2028b\x85c"
    rewrite(file, good)
    model.resolve(str(copy))


def test_spoiled_tokenizer_settings(copy):
    file = copy / "tokenizer_config.json"
    cases = {
        "do_lower_case": ("false", "'false'; it must be True or False"),
        "strip_accents": (1, "1; it must be True or False or None"),
        "do_basic_tokenize": (False, "False; it must be True"),
        "never_split": ("ab", "'ab'; it must be a list of texts or None"),
        "tokenizer_class": ("GPT2Tokenizer", "'GPT2Tokenizer'; it must be 'BertTokenizer'"),
        "cls_token": ("[SEP]", "'[SEP]'; it must be [CLS]"),
        "sep_token": (None, "None; it must be [SEP]"),
    }
    original = file.read_text()
    for key, (value, message) in cases.items():
        file.write_text(original)
        change(file, **{key: value})
        assert f": {key} is {message}" in failure(copy)
    file.write_text(original)
    change(copy / "special_tokens_map.json", unk_token={"content": "[PAD]"})
    assert "unk_token is '[PAD]'; it must be [UNK]" in failure(copy)
    for value in (1, [], {}, {"contents": "a"}, {"content": 1}, {"content": "a", "special": 1}):
        change(copy / "special_tokens_map.json", unk_token=value)
        assert f"{copy}/special_tokens_map.json: unk_token is " in failure(copy)
        assert failure(copy).endswith("; it must be a token")
    (copy / "special_tokens_map.json").write_text('{"additional_special_tokens": [1]}')
    assert "additional_special_tokens is [1]; it must be a list of tokens" in failure(copy)


def test_added_tokens_have_ids_of_the_embedding(copy):
    size = json.loads((copy / "config.json").read_text())["vocab_size"]
    file = copy / "added_tokens.json"
    for index in ("7", 2.0, True):
        file.write_text(json.dumps({"new": index}))
        assert failure(copy) == f"{file}: the id of 'new' is {index!r}; it must be a whole number"
    for index in (size, -1):
        file.write_text(json.dumps({"new": index}))
        assert f"{copy}: added token 'new' has id {index}; " in failure(copy)
    file.write_text(json.dumps({"[CLS]": 7}))
    assert f"{copy}: added token '[CLS]' has id 7; vocab.txt says 2" in failure(copy)
    file.write_text(json.dumps({"[CLS]": 2}))
    model.resolve(str(copy))
    file.unlink()
    token = {"content": "new", "special": False}
    change(copy / "tokenizer_config.json", added_tokens_decoder={str(size): token})
    assert f"{copy}: added token 'new' has id {size}; " in failure(copy)
    change(copy / "tokenizer_config.json", added_tokens_decoder={"x": token})
    assert "transformers cannot build its tokenizer: ValueError" in failure(copy)


def test_spoiled_vocabularies_of_roberta(roberta):
    file = roberta / "vocab.json"
    good = json.loads(file.read_text())
    size = len(good)

    def spoiled(vocabulary):
        file.write_text(json.dumps(vocabulary))
        return failure(roberta)

    assert spoiled({}).startswith(f"{file}: has 0 tokens; ")
    lacking = {token: index for token, index in good.items() if token != "<mask>"}
    assert spoiled(lacking) == f"{file}: has no <mask>"
    half = dict(sorted(good.items(), key=lambda item: item[1])[: size // 2])
    assert f"has {size // 2} tokens; " in spoiled(half)
    backwards = {token: size - 1 - index for token, index in good.items()}
    assert spoiled(backwards) == (
        f"{file}: <pad> has id {size - 2}; jiant pads RoBERTa's input with 1"
    )
    assert "the id of '!' is 'a'; it must be a whole number" in spoiled(good | {"!": "a"})
    assert f"'!' has id {size}" in spoiled(good | {"!": size})
    assert "'!' and 'a' have the same id" in spoiled(good | {"a": good["!"]})


def test_spoiled_merges(roberta):
    file = roberta / "merges.txt"
    head, *good = lines(file)
    assert len(good) > 60

    def spoiled(merges):
        rewrite(file, [head, *merges])
        return failure(roberta)

    assert "merges.txt: line " in spoiled(good[::-1])
    assert ", but no line before it makes" in failure(roberta)
    assert (
        f"merges.txt: {len(good) - len(good) // 2} tokens of vocab.json are made by no line"
        in spoiled(good[: len(good) // 2])
    )
    assert "merges.txt: " in spoiled([])
    assert "line 2 is 'a b c'; it must be two tokens" in spoiled(["a b c", *good])
    assert "line 2 is 'zz qq'; vocab.json has no 'zz'" in spoiled(["zz qq", *good])
    for text in ("\n".join(good) + "\n", "\n".join([head, *good]), ""):
        file.write_text(text)
        assert f"{file}: must begin with the line #version and end with a line" in failure(roberta)
    file.write_bytes(b"\xff")
    assert failure(roberta).startswith(f"{file}: is not UTF-8: ")


def test_a_vocabulary_that_knows_little_of_the_data(copy, data_dir, tmp_path):
    good = lines(copy / "vocab.txt")
    strange = [f"q{number}q" for number in range(len(good) - 5)]
    rewrite(copy / "vocab.txt", [*good[:5], *strange])
    arguments = ["run", "--task", "cb", "--method", "bitfit", "--model", copy]
    arguments += ["--data-dir", data_dir, "--output-dir", tmp_path / "out"]
    arguments += ["--set", "train.max_seq_length=64", "--set", "split=files"]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {data_dir}/cb/test.jsonl: 100 % of the tokens of its first 12 rows are unknown to "
        f"the tokenizer of {copy}; at most half may be\n"
    )
    assert not (tmp_path / "out").exists()
