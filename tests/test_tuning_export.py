"""Deltas for others and from others: PEFT's adapters, patches, whole models, the Hub."""

import json
import shutil
import sys
from functools import partial
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tuning import logits, make, same, state, tuned
from torch import nn
from transformers import BertForSequenceClassification

from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.errors import InputError
from jiant_sparse.tuning import export

refused = partial(pytest.raises, InputError)
QUERY = "bert.encoder.layer.0.attention.self.query"
KEY = f"{QUERY}.supertuning_"
LINEAR = ["query.weight", "intermediate.dense.weight"]
fitting = partial(tuned, density=0.1, scope="per_tensor", target_modules=LINEAR)


def loaded(model: SparseModel, path: Path) -> SparseModel:
    """The delta of a model that trains, loaded into a fresh base and on."""
    model.save_pretrained(path)
    return SparseModel.from_pretrained(make().to(model.dtype), path)


BOTH = pytest.mark.parametrize("reading", [lambda model, _: model, loaded], ids=["own", "loaded"])


def plain(model: nn.Module, target: str | None = None) -> SparseModel:
    return get_sparse_model(model, SparseConfig("random", 0.5, target_modules=target))


# --- export


@BOTH
def test_an_adapter_says_what_changed(reading, tmp_path):
    model = reading(fitting(), tmp_path / "delta")
    model.export(tmp_path / "new" / "peft")
    made = load_file(tmp_path / "new" / "peft" / "adapter_model.safetensors")
    before, now = state(make()), state(model.merge_and_unload())
    index, values = (made[f"base_model.model.{KEY}{end}"] for end in ("indices", "values"))
    assert (index.dtype, values.dtype, len(index)) == (torch.int32, torch.float32, 25)
    old, new = (tensors[f"{QUERY}.weight"].view(-1) for tensors in (before, now))
    assert torch.equal((old != new).nonzero().view(-1), index.long())
    assert torch.equal(values, (new.double() - old.double())[index].float())
    assert torch.equal(made["base_model.model.classifier.bias"], now["classifier.bias"])
    assert len(made) == 2 * 4 + 2
    settings = json.loads((tmp_path / "new" / "peft" / "adapter_config.json").read_text())
    assert settings["modules_to_save"] == ["classifier"] and QUERY in settings["target_modules"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["peft"]
    again = SparseModel.from_pretrained(make(), tmp_path / "new" / "peft")
    for name, tensor in state(again.get_base_model()).items():
        torch.testing.assert_close(tensor, now[name], rtol=1e-6, atol=1e-8)
    assert same(state(again.unload()), before)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_peft_merges_an_adapter_to_our_weights(reading, dtype, tmp_path):
    peft = pytest.importorskip("peft")
    config = SparseConfig("random", 0.1, "per_tensor", target_modules=LINEAR)
    model = get_sparse_model(make().to(dtype), config)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter += 0.01
    model = reading(model, tmp_path / "delta")
    model.export(tmp_path / "peft")
    theirs = peft.PeftModel.from_pretrained(make().to(dtype), tmp_path / "peft").eval()
    torch.testing.assert_close(logits(theirs), logits(model))
    merged, ours = state(theirs.merge_and_unload()), state(model.merge_and_unload())
    eps, before = torch.finfo(dtype).eps, state(make().to(dtype))
    assert [*merged] == [*ours]
    for name, tensor in ours.items():
        assert torch.equal(merged[name] != before[name], tensor != before[name]), name
        torch.testing.assert_close(merged[name].to(dtype), tensor, rtol=eps, atol=eps * 0.01)


def test_what_peft_cannot_hold_is_said_at_once(tmp_path):
    model = tuned(density=0.3, target_modules=["bert.embeddings", "layer.0", "layer.1.output"])
    with refused() as caught:
        model.export(tmp_path / "new" / "peft")
    said, no = "PEFT's Super-Tuning cannot hold this: ", "is no weight of a linear layer"
    assert {
        f"{said}{QUERY}.bias {no} (Linear)",
        f"{said}bert.embeddings.word_embeddings.weight {no} (Embedding)",
        f"{said}bert.encoder.layer.1.output.LayerNorm.weight {no} (LayerNorm)",
    } <= {*caught.value.problems}
    assert caught.value.problems[-1].startswith(f"{said}from 0.")
    assert "weights have been chosen, and PEFT has one density for all" in str(caught.value)
    assert not [*tmp_path.iterdir()]


def test_misfits(tmp_path):
    for family, method, target, head, message in (
        ("tied", "random", "model.embed_tokens", None, "no weight of a linear .*Embedding"),
        ("gpt2", "random", r".*c_attn\.weight", None, "no weight of a linear .*Conv1D"),
        ("bert", "lora", "all-linear", None, "lora_A is a low-rank update"),
        ("bert", "frozen", None, None, "no weight of a linear layer has changed"),
        ("bert", "frozen", None, ["pooler.dense.bias"], "dense is saved whole by PEFT, but bert"),
    ):
        with refused(match=message):
            fields = {"target_modules": target, "modules_to_save": head}
            tuned(family, method, **fields).export(tmp_path / "peft")
    tied = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    tied.b.weight = tied.a.weight
    nested = nn.ModuleDict({"a": nn.Linear(8, 8), "in": nn.ModuleDict({"a": nn.Linear(8, 8)})})
    for model, message in (
        (plain(tied, r"a\.weight"), "a.weight is tied, and PEFT would change one layer alone"),
        (plain(nested, r"a\.weight"), "PEFT would take in.a for a, the end of its name"),
        (plain(nn.Linear(8, 8)), "weight is no weight of a linear layer .Linear."),
        (plain(nn.Sequential(nn.Linear(8, 8).double())), "0.weight is float64 .*; PEFT has float"),
    ):
        with refused(match=message):
            model.export(tmp_path / "peft")
    assert not [*tmp_path.iterdir()]


@BOTH
@pytest.mark.parametrize("method", ["random", "lora", "bitfit"])
def test_patches_and_whole_models_have_the_tuned_tensors(reading, method, tmp_path):
    model = reading(tuned(method=method), tmp_path / "delta")
    before = logits(model)
    model.export(tmp_path / "patch", format="patch")
    model.export(tmp_path / "full", format="full")
    assert torch.equal(logits(model), before)
    made, found = load_file(tmp_path / "patch" / "patch.safetensors"), state(make())
    for name in [key.removesuffix(".value") for key in made if key.endswith(".value")]:
        assert made[f"{name}.shape"].tolist() == [*found[name].shape]
        index = made.get(f"{name}.index", torch.arange(found[name].numel(), dtype=torch.int32))
        assert index.dtype == torch.int32 and bool((index.diff() > 0).all())
        found[name].view(-1)[index.long()] = made[f"{name}.value"]
    assert "classifier.weight.value" in made and "classifier.weight.index" not in made
    merged = state(model.merge_and_unload())
    assert same(found, merged)
    assert same(state(BertForSequenceClassification.from_pretrained(tmp_path / "full")), merged)


def test_an_export_that_fails_leaves_nothing(monkeypatch, tmp_path):
    (tmp_path / "old").mkdir()
    for model, name, format, message in (
        (fitting(), "old", "peft", "old: is there already; an export makes a new directory"),
        (fitting(), "new", "onnx", "format is 'onnx'; it must be peft or patch or full"),
        (SparseModel(make()), "new", "full", "0 deltas are active; say by name"),
        (plain(nn.Linear(4, 4)), "new", "full", "format is 'full', but Linear has no save_pr"),
    ):
        with refused(match=message):
            model.export(tmp_path / name, format)
    monkeypatch.setattr(export, "save_file", lambda *_, **__: (tmp_path / "none").read_bytes())
    for format in ("peft", "patch"):
        with pytest.raises(OSError, match="No such file"):
            fitting().export(tmp_path / "new", format)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


# --- import


def adapter(path: Path, kind: str, tensors: dict[str, torch.Tensor], r: int | None = None) -> Path:
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "r": r}))
    state = {f"base_model.model.{name}": tensor for name, tensor in tensors.items()}
    save_file(state, path / "adapter_model.safetensors")
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


def test_rows_and_columns_are_positions(tmp_path):
    tensors = {
        f"{QUERY}.shira_indices": torch.tensor([[3, 0], [1, 2]], dtype=torch.int32),
        f"{QUERY}.shira_weight": torch.tensor([10.0, 20.0]),
    }
    model = SparseModel.from_pretrained(make(), adapter(tmp_path / "a", "SHIRA", tensors, 1))
    moved = state(model.get_base_model())[f"{QUERY}.weight"] - state(make())[f"{QUERY}.weight"]
    assert (moved[3, 1].round(), moved[0, 2].round(), (moved != 0).sum()) == (10, 20, 2)


def test_other_adapters_are_refused(tmp_path):
    at, values, indices = torch.tensor([5, 5]), f"{KEY}values", f"{KEY}indices"
    ours, theirs, half, path = "SUPERTUNING", "SHIRA", at / 2, tmp_path
    for kind, rank, tensors, message in (
        (
            "LORA",
            4,
            {},
            "config.json: peft_type is 'LORA' with r 4; it must be SUPERTUNING without",
        ),
        (ours, 4, {}, "peft_type is 'SUPERTUNING' with r 4; it must be SUPERTUNING without r"),
        (theirs, 4, {"x": at}, "has no values of a SHIRA adapter"),
        (theirs, 4, {"no.shira_weight": half}, "no has values, but no matrix in the"),
        (ours, None, {values: half}, f"{QUERY} has no positions; save with save_precomputed"),
        (ours, None, {values: half, indices: at}, "2. positions; they must be equally many, each"),
        (ours, None, {values: half[:1], indices: at[:1] * 99}, "within the model's float32 .16, "),
        (ours, None, {values: half, indices: at[:1]}, "float32 .2. values and int64 .1. positio"),
    ):
        path = adapter(path / "next", kind, tensors, r=rank)
        with refused(match=message):
            SparseModel.from_pretrained(make(), path)
    (path / "adapter_model.safetensors").write_bytes(b"x")
    with refused(match="adapter_model.safetensors: no readable safetensors file"):
        SparseModel.from_pretrained(make(), path)


# --- the Hub


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """A folder in the place of the Hub."""
    place, api = tmp_path / "hub", huggingface_hub.HfApi

    def create_repo(self, repo, *, private, exist_ok):
        assert (self.token, private, exist_ok) == ("t", True, True)
        (place / repo).mkdir(parents=True)
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo}")

    def snapshot_download(self, repo, *, revision, allow_patterns):
        assert revision in (None, "v1") and "delta.safetensors" in allow_patterns
        return str(place / repo)

    def upload_folder(self, *, repo_id, folder_path):
        shutil.copytree(folder_path, place / repo_id, dirs_exist_ok=True)

    for method in (create_repo, snapshot_download, upload_folder):
        monkeypatch.setattr(api, method.__name__, method)
    return place


def test_the_hub_gets_what_is_saved_and_gives_it_back(hub, tmp_path):
    model = tuned()
    model.save_pretrained(tmp_path / "out", about={"pooling": "mean"})
    address = model.push_to_hub("me/out", about={"pooling": "mean"}, private=True, token="t")
    assert address == "https://huggingface.co/me/out"
    sent, saved = (
        {path.name: path.read_bytes() for path in place.iterdir()}
        for place in (hub / "me/out", tmp_path / "out")
    )
    assert sent == saved
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
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with refused(match="me/out: cannot be pushed to the Hub: .*; pip install huggingfa"):
        tuned().push_to_hub("me/out")
