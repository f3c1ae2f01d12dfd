"""Deltas for others and from others: PEFT's adapters, patches, whole models, the Hub."""

import json
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.tuning import logits, make, same, state, tuned
from torch import nn
from transformers import BertForSequenceClassification

from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.errors import InputError

refused = partial(pytest.raises, InputError)
LINEAR = ["query.weight", "intermediate.dense.weight"]
QUERY = "bert.encoder.layer.0.attention.self.query"
fitting = partial(tuned, density=0.1, scope="per_tensor", target_modules=LINEAR)
BOTH = pytest.mark.parametrize("loaded", [False, True])


def maybe_loaded(model: SparseModel, loaded: bool, path: Path) -> SparseModel:
    """The model that trains, or its delta, loaded into a fresh base and on."""
    if not loaded:
        return model
    model.save_pretrained(path)
    return SparseModel.from_pretrained(make(), path)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


# --- export


@BOTH
def test_an_adapter_says_what_changed(loaded, tmp_path):
    model = maybe_loaded(fitting(), loaded, tmp_path / "delta")
    model.export(tmp_path / "new" / "peft")
    made, before = load_file(tmp_path / "new" / "peft" / "adapter_model.safetensors"), state(make())
    now = state(model.merge_and_unload())
    key = f"base_model.model.{QUERY}.supertuning_"
    index, values = made[f"{key}indices"], made[f"{key}values"]
    assert index.dtype == torch.int32 and values.dtype == torch.float32 and len(index) == 25
    old, new = (tensors[f"{QUERY}.weight"].view(-1) for tensors in (before, now))
    assert torch.equal((old != new).nonzero().view(-1), index.long())
    assert torch.equal(values, (new.double() - old.double())[index].float())
    assert torch.equal(made["base_model.model.classifier.bias"], now["classifier.bias"])
    assert len(made) == 2 * 4 + 2
    settings = json.loads((tmp_path / "new" / "peft" / "adapter_config.json").read_text())
    assert settings["modules_to_save"] == ["classifier"] and QUERY in settings["target_modules"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["peft"]


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peft_merges_an_adapter_to_our_weights(loaded, dtype, tmp_path):
    peft = pytest.importorskip("peft")
    model = get_sparse_model(
        make().to(dtype),
        SparseConfig("random", 0.1, "per_tensor", target_modules=LINEAR, modules_to_save=[]),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.01
    if loaded:
        model.save_pretrained(tmp_path / "delta")
        model = SparseModel.from_pretrained(make().to(dtype), tmp_path / "delta")
    model.export(tmp_path / "peft")
    theirs = peft.PeftModel.from_pretrained(make().to(dtype), tmp_path / "peft")
    merged, ours = state(theirs.merge_and_unload()), state(model.merge_and_unload())
    before = state(make().to(dtype))
    assert [*merged] == [*ours]
    for name, tensor in ours.items():
        assert torch.equal(merged[name] != before[name], tensor != before[name]), name
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(merged[name], tensor, rtol=eps, atol=eps * 0.01)


def test_peft_takes_the_head_too(tmp_path):
    peft = pytest.importorskip("peft")
    model = fitting()
    model.export(tmp_path / "peft")
    theirs = peft.PeftModel.from_pretrained(make(seed=0), tmp_path / "peft").eval()
    torch.testing.assert_close(logits(theirs), logits(model), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(logits(theirs.merge_and_unload()), logits(model))


def test_what_peft_cannot_hold_is_said_at_once(tmp_path):
    model = tuned(density=0.3, target_modules=["bert.embeddings", "layer.0", "layer.1.output"])
    with refused() as caught:
        model.export(tmp_path / "new" / "peft")
    said = "PEFT's Super-Tuning cannot hold this: "
    for text in (
        f"{QUERY}.bias is no weight of a linear layer (Linear)",
        "bert.embeddings.word_embeddings.weight is no weight of a linear layer (Embedding)",
        "bert.encoder.layer.1.output.LayerNorm.weight is no weight of a linear layer (LayerNorm)",
    ):
        assert said + text in caught.value.problems
    assert caught.value.problems[-1].startswith(f"{said}from 0.")
    assert "of a layer's weights have been chosen; PEFT has one density" in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("tied", {"target_modules": ["embed_tokens"]}, "no weight of a linear layer .Embedding"),
        ("gpt2", {"target_modules": ["c_attn.weight"]}, "no weight of a linear layer .Conv1D"),
        ("bert", {"method": "lora", "target_modules": "all-linear"}, "lora_A is a low-rank update"),
        ("bert", {"method": "frozen"}, "no weight of a linear layer has changed"),
        ("bert", {"modules_to_save": ["pooler.dense.bias"]}, "pooler.dense is saved whole by PEFT"),
        ("bert", {"modules_to_save": ["layer.1"]}, None),
    ],
)
def test_misfits(family, fields, message, tmp_path):
    if fields.get("method") is None:
        fields = {"scope": "per_tensor", "density": 0.2, "target_modules": LINEAR, **fields}
    model = tuned(family, **fields)
    if message is None:
        model.export(tmp_path / "peft")
        return
    with refused(match=message):
        model.export(tmp_path / "peft")
    assert not [*tmp_path.iterdir()]


def test_tied_and_ambiguous_layers_do_not_fit(tmp_path):
    inner, twin = nn.Linear(8, 8), nn.Linear(8, 8)
    twin.weight = inner.weight
    config = SparseConfig("random", 0.5, "per_tensor", target_modules=["a.weight"])
    tied = get_sparse_model(nn.ModuleDict({"a": inner, "b": twin}), config)
    with refused(match="a.weight is tied, and PEFT would change one layer alone"):
        tied.export(tmp_path / "x")
    nested = nn.ModuleDict({"a": nn.Linear(8, 8), "in": nn.ModuleDict({"a": nn.Linear(8, 8)})})
    config = SparseConfig("random", 0.5, "per_tensor", target_modules=r"a\.weight")
    with refused(match="PEFT would take in.a for a, the end of its name"):
        get_sparse_model(nested, config).export(tmp_path / "x")


@BOTH
@pytest.mark.parametrize("method", ["random", "lora", "bitfit"])
def test_a_patch_gives_the_tuned_tensors(loaded, method, tmp_path):
    model = maybe_loaded(tuned(method=method), loaded, tmp_path / "delta")
    model.export(tmp_path / "patch", format="patch")
    made, found = load_file(tmp_path / "patch" / "patch.safetensors"), state(make())
    with safe_open(tmp_path / "patch" / "patch.safetensors", framework="pt") as file:
        assert file.metadata() == {"jiant_sparse.patch": "1"}
    for name in [key.removesuffix(".value") for key in made if key.endswith(".value")]:
        assert made[f"{name}.shape"].tolist() == [*found[name].shape]
        index = made.get(f"{name}.index", torch.arange(found[name].numel(), dtype=torch.int32))
        assert index.dtype == torch.int32 and bool((index.diff() > 0).all())
        found[name].view(-1)[index.long()] = made[f"{name}.value"]
    assert "classifier.weight.value" in made and "classifier.weight.index" not in made
    assert same(found, state(model.merge_and_unload()))


@BOTH
def test_a_whole_model_is_the_merged_one(loaded, tmp_path):
    model = maybe_loaded(tuned(), loaded, tmp_path / "delta")
    before = logits(model)
    model.export(tmp_path / "full", format="full")
    plain = BertForSequenceClassification.from_pretrained(tmp_path / "full").eval()
    assert torch.equal(logits(model), before) and torch.equal(logits(plain), before)
    assert same(state(plain), state(model.merge_and_unload()))


def test_an_export_that_cannot_be_is_refused(tmp_path):
    model = fitting()
    (tmp_path / "old").mkdir()
    with refused(match="old: is there already; an export makes a new directory"):
        model.export(tmp_path / "old")
    with refused(match="format is 'onnx'; it must be peft or patch or full"):
        model.export(tmp_path / "new", format="onnx")
    with refused(match="0 deltas are active; say by name"):
        SparseModel(make()).export(tmp_path / "new", format="full")
    config = SparseConfig("random", 0.5)
    with refused(match="format is 'full', but Linear has no save_pretrained"):
        get_sparse_model(nn.Linear(4, 4), config).export(tmp_path / "new", format="full")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# --- import


def adapter(path: Path, kind: str = "SUPERTUNING", /, **tensors: torch.Tensor) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
    save_file({f"base_model.model.{k}": v for k, v in tensors.items()}, path / "adapter_model.safetensors")
    return path


@pytest.mark.parametrize("kind", ["Supertuning", "Shira"])
def test_an_adapter_of_peft_becomes_a_delta(kind, tmp_path):
    peft = pytest.importorskip("peft")
    fields = {"sparsity": 0.9} if kind == "Supertuning" else {"r": 2}
    config = getattr(peft, f"{kind}Config")(
        target_modules=["query"], modules_to_save=["classifier"], init_weights=False, **fields
    )
    theirs = peft.get_peft_model(make(), config).eval()
    theirs.save_pretrained(tmp_path / "peft")
    model = SparseModel.from_pretrained(make(), tmp_path / "peft")
    model.save_pretrained(tmp_path / "delta")
    again = SparseModel.from_pretrained(make(), tmp_path / "delta")
    merged = state(theirs.merge_and_unload())
    assert same(state(again.merge_and_unload()), merged)
    assert same(state(model.unload()), state(make()))


def test_our_adapter_comes_back(tmp_path):
    model = fitting()
    model.export(tmp_path / "peft")
    again = SparseModel.from_pretrained(make(), tmp_path / "peft")
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-6, atol=1e-6)
    assert again.deltas["default"].config.method == "mag_pruning"
    assert same(state(again.unload()), state(make()))


def test_rows_and_columns_are_positions(tmp_path):
    where = {f"{QUERY}.shira_indices": torch.tensor([[3, 0], [1, 2]], dtype=torch.int32)}
    values = {f"{QUERY}.shira_weight": torch.tensor([10.0, 20.0])}
    model = SparseModel.from_pretrained(make(), adapter(tmp_path / "a", "SHIRA", **where, **values))
    moved = state(model.get_base_model())[f"{QUERY}.weight"] - state(make())[f"{QUERY}.weight"]
    assert (moved[3, 1].round(), moved[0, 2].round(), (moved != 0).sum()) == (10, 20, 2)


def test_other_adapters_are_refused(tmp_path):
    key, at = f"{QUERY}.supertuning_", torch.tensor([5, 5], dtype=torch.int32)
    for number, (kind, tensors, message) in enumerate(
        (
            ("LORA", {}, "adapter_config.json: peft_type is 'LORA'; it must be SUPERTUNING or SHI"),
            ("SHIRA", {"x": at}, "has no values of a SHIRA adapter"),
            ("SUPERTUNING", {f"{key}values": at / 2}, f"{QUERY} has no positions; save the adap"),
            ("SUPERTUNING", {f"{key}values": at / 2, f"{key}indices": at}, "each must occur once"),
            ("SUPERTUNING", {f"{key}values": at / 2, f"{key}indices": at[:1]}, r"\[2\] values and"),
            ("SUPERTUNING", {"no.supertuning_values": at / 2}, "adapts no, which has no matrix in"),
        )
    ):
        path = adapter(tmp_path / f"{number}", kind, **tensors)
        with refused(match=message):
            SparseModel.from_pretrained(make(), path)
    (path / "adapter_config.json").write_text('{"peft_type": "SUPERTUNING", "r": 4}')
    with refused(match="r is 4; it must be null: a low-rank part is no sparse diff"):
        SparseModel.from_pretrained(make(), path)
    (path / "adapter_config.json").write_text('{"peft_type": "SUPERTUNING"}')
    (path / "adapter_model.safetensors").write_bytes(b"x")
    with refused(match="adapter_model.safetensors: not a readable safetensors file"):
        SparseModel.from_pretrained(make(), path)


# --- the Hub


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """A folder in the place of the Hub."""
    place, api = tmp_path / "hub", huggingface_hub.HfApi

    def create_repo(self, repo, *, private, exist_ok):
        assert exist_ok and private in (None, True)
        (place / repo).mkdir(parents=True, exist_ok=True)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo}")

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        for name, content in files_of(folder_path).items():
            (place / repo_id / name).write_bytes(content)

    def snapshot_download(self, repo, *, revision, allow_patterns):
        assert revision in (None, "v1") and "delta.safetensors" in allow_patterns
        return str(place / repo)

    monkeypatch.setattr(api, "create_repo", create_repo)
    monkeypatch.setattr(api, "upload_folder", upload_folder)
    monkeypatch.setattr(api, "snapshot_download", snapshot_download)
    return place


def test_the_hub_gets_what_is_saved_and_gives_it_back(hub, tmp_path):
    model = tuned()
    model.save_pretrained(tmp_path / "out", about={"pooling": "mean"})
    address = model.push_to_hub("me/out", about={"pooling": "mean"}, private=True, token="t")
    assert address == "https://huggingface.co/me/out"
    assert files_of(hub / "me/out") == files_of(tmp_path / "out")
    again = SparseModel.from_pretrained(make(), "me/out", revision="v1")
    assert torch.equal(logits(again), logits(model))
    again.load_delta("me/out", "twin")
    trains = SparseModel.from_pretrained(make(), "me/out", is_trainable=True)
    assert trains.method is not None and torch.equal(logits(trains.eval()), logits(model))
    with refused(match="revision is 'v1'; .*/out is no repository of the Hub"):
        SparseModel.from_pretrained(make(), tmp_path / "out", revision="v1")


def test_a_hub_that_is_out_of_reach_is_an_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with refused(match="me/nothing: no directory, and not to be had from the Hub: .*"):
        SparseModel.from_pretrained(make(), "me/nothing")
    with refused(match="me/out: cannot be pushed to the Hub: .*offline mode is enabled"):
        tuned().push_to_hub("me/out", token="t")
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with refused(match="me/out: cannot be pushed to the Hub: .*; pip install huggingfa"):
        tuned().push_to_hub("me/out")
