"""`delta apply`: a model directory of a delta, right or not at all."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.models import file_sizes_up_to
from support.refusals import refusal
from transformers import AutoModel
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.host import model
from jiant_sparse.host.export import export
from jiant_sparse.sparse import delta

LAYER = "encoder.layer.0.attention.self.query"
SETTINGS = {"name": "lora", "rank": 2, "alpha": 6.0}


@pytest.fixture
def base(bert_dir):
    return {name: p.detach() for name, p in AutoModel.from_pretrained(bert_dir).named_parameters()}


@pytest.fixture
def lora(base):
    """The delta of a LoRA of rank 2 beside one layer."""
    generator = torch.Generator().manual_seed(0)
    new = {
        f"{LAYER}.lora_A": torch.randn(2, 16, generator=generator),
        f"{LAYER}.lora_B": torch.randn(16, 2, generator=generator),
        "head.dense.bias": torch.ones(3),
    }
    return delta.extract(base, base | new, {"settings": json.dumps(SETTINGS)})


@pytest.fixture
def apply(bert_dir, tmp_path):
    """apply(delta, --fold or nothing) -> what the command says; its directory is `made`."""

    def call(found, *options):
        delta.save(found, tmp_path / "d.safetensors")
        arguments = ["delta", "apply", tmp_path / "d.safetensors", "--model", bert_dir]
        arguments += ["--output-dir", tmp_path / "made", *options]
        return CliRunner().invoke(app, [*map(str, arguments)])

    return call


def test_folding_rounds_once(lora, base, apply, tmp_path):
    assert apply(lora, "--fold").exit_code == 0
    found = load_file(tmp_path / "made" / "model.safetensors")
    a, b = (lora.new[f"{LAYER}.lora_{part}"].double() for part in "AB")
    weight = f"{LAYER}.weight"
    assert torch.equal(found[weight], (base[weight].double() + 3 * (b @ a)).float())
    assert all(torch.equal(found[name], base[name]) for name in base if name != weight)
    assert not (tmp_path / "made" / "added.safetensors").exists()
    model.resolve(str(tmp_path / "made"))


WRONG_META = {
    "": "meta settings is not JSON: ",
    "[" * 100_000: "meta settings is not JSON: ",
    "[]": "meta settings is []; it must be an object",
    "{}": "has nothing that can be folded: its method is None",
    '{"name": "sam"}': "has nothing that can be folded: its method is 'sam'",
    '{"name": "lora", "rank": 2}': "meta settings: alpha is None; it must be a number in ",
    '{"name": "lora", "rank": 2, "alpha": NaN}': "meta settings: alpha is nan; it must be ",
    '{"name": "lora", "rank": 2, "alpha": 0}': "meta settings: alpha is 0; it must be ",
    '{"name": "lora", "rank": 0, "alpha": 6}': "meta settings: rank is 0; it must be a whole ",
    '{"name": "lora", "rank": 3, "alpha": 6}': f"{LAYER}.lora_A is float32 [2, 16]; it must be "
    "float32 [3, 16]",
}


@pytest.mark.parametrize("settings", WRONG_META, ids=lambda text: text[:40])
def test_folding_needs_fields(settings, lora, apply, tmp_path):
    result = apply(replace(lora, meta={"settings": settings}), "--fold")
    assert result.exit_code == 2
    expected = f"error: {tmp_path / 'd.safetensors'}: {WRONG_META[settings]}"
    assert result.stderr.startswith(expected)
    assert not (tmp_path / "made").exists()


A, B = f"{LAYER}.lora_A", f"{LAYER}.lora_B"
WRONG_TENSORS = [
    ({A: None}, f"{A} is missing; it must be float32 [2, 16]"),
    ({A: None, B: None}, "has nothing that can be folded: no tensor is a lora_A"),
    ({B: torch.ones(16, 1)}, f"{B} is float32 [16, 1]; it must be float32 [16, 2]"),
    ({A: torch.ones(2, 16).half()}, f"{A} is float16 [2, 16]; it must be float32 [2, 16]"),
    (
        {"x.lora_A": torch.ones(2, 2), "x.lora_B": torch.ones(2, 2)},
        "x.weight is missing; LoRA changes matrices only",
    ),
    (
        {"embeddings.LayerNorm.lora_A": torch.ones(2, 16)},
        "embeddings.LayerNorm.weight is float32 [16]; LoRA changes matrices only",
    ),
    ({A: torch.full((2, 16), 3e38)}, f"{LAYER}.weight would hold NaN or infinity"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_TENSORS)
def test_folding_needs_pairs(changes, message, lora, apply, tmp_path):
    new = {name: t for name, t in (lora.new | changes).items() if t is not None}
    result = apply(replace(lora, new=new), "--fold")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'd.safetensors'}: {message}")
    assert not (tmp_path / "made").exists()


def test_weights_are_finite(base, apply):
    spoiled = {name: tensor.clone() for name, tensor in base.items()}
    spoiled["pooler.dense.bias"][3] = float("inf")
    result = apply(delta.extract(base, spoiled))
    assert result.exit_code == 2
    assert "pooler.dense.bias would hold NaN or infinity; every weight must" in result.stderr


def test_deltas_of_other_models(lora, bert_dir, roberta_dir, tmp_path):
    other = shutil.copytree(bert_dir, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"][3] += 1
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    delta.save(lora, tmp_path / "d")
    for base, message in (
        (roberta_dir, "does not belong to model .*: base lacks pooler.dense"),
        (other, "encoder.layer.1.output.dense.bias"),
    ):
        with pytest.raises(InputError, match=message):
            export(tmp_path / "d", str(base), tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert "exists already" in refusal(export, tmp_path / "d", str(bert_dir), tmp_path)


@pytest.mark.parametrize("pooler", [{}, {"pooler.dense.weight": torch.ones(1)}])
def test_pooler_in_the_delta(pooler, roberta_dir, tmp_path):
    drawn = AutoModel.from_pretrained(roberta_dir)
    base = {n: p.detach() for n, p in drawn.named_parameters() if not n.startswith("pooler.")}
    delta.save(delta.extract(base, base | pooler), tmp_path / "d")
    got = "float32 [1]" if pooler else "missing"
    assert refusal(export, tmp_path / "d", str(roberta_dir), tmp_path / "made") == (
        f"{tmp_path / 'd'}: pooler.dense.weight is {got}; it must be float32 [16, 16]"
    )


def test_modes_of_files(lora, apply, tmp_path):
    assert apply(lora).exit_code == 0
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    made = tmp_path / "made"
    assert made.stat().st_mode == (tmp_path / "folder").stat().st_mode
    names = {path.name for path in made.iterdir()}
    assert names >= {"config.json", "model.safetensors", "added.safetensors", "head.safetensors"}
    modes = {path.stat().st_mode for path in made.iterdir()}
    assert modes == {(tmp_path / "plain").stat().st_mode}


def test_tokenizer_goes_along_and_no_path(lora, bert_dir, tmp_path):
    source = shutil.copytree(bert_dir, tmp_path / "source")
    (source / "special_tokens_map.json").write_text('{"additional_special_tokens": ["the"]}')
    (source / "added_tokens.json").write_text('{"the": 3}')
    (source / "vocab.txt").chmod(0o400)
    tokens = (source / "vocab.txt").read_text().splitlines()
    (source / "added_tokens.json").write_text(json.dumps({tokens[9]: 9}))
    delta.save(lora, tmp_path / "d")
    for made in (tmp_path / "one", tmp_path / "two"):
        export(tmp_path / "d", str(source), made)
        for name in ("vocab.txt", "special_tokens_map.json", "added_tokens.json"):
            assert (made / name).read_bytes() == (source / name).read_bytes()
    one, two = ((tmp_path / name / "config.json").read_text() for name in ("one", "two"))
    assert one == two
    assert "tmp" not in one


@pytest.mark.parametrize("most", [100, 20_000])
def test_full_disk(most, lora, apply, bert_dir, tmp_path):
    assert "its method is None" in apply(replace(lora, meta={}), "--fold").stderr
    arguments = ["delta", "apply", tmp_path / "d.safetensors", "--model", bert_dir]
    arguments += ["--output-dir", tmp_path / "made"]
    with file_sizes_up_to(most):
        result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 1
    assert re.fullmatch(r"error: \[Errno 27\] File too large(: '.*')?\n", result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]
