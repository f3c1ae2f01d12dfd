"""The library on models of several families: attach, train, save, load, take off again."""

import json
from functools import partial

import pytest
import torch
from support.models import quick_fields
from support.tuning import FAMILIES, IDS, logits, make, same, state, tune, tuned
from torch import nn

import jiant_sparse
from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base, fields
from jiant_sparse.sparse import delta
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step

refused = partial(pytest.raises, InputError)
FITTING = [name for name in base.names() if name != "adapter"]
# What these need to train on is more than the values of a delta.
LOST = {
    *("child_pruning", "diff_pruning", "dps_dense", "dps_mix"),
    *("random_per_step", "stochastic_tuning", "top_tuning"),
}


def settings(name: str) -> dict:
    given = {key: min(value, 2) for key, value in quick_fields(name).items()}
    return {"method_kwargs": given} | (
        {"density": 0.1} if "density" in fields.of(base.find(name)) else {}
    )


@pytest.mark.parametrize("name", FITTING)
def test_every_method_trains_saves_loads_and_comes_off(name, tmp_path):
    fresh = state(make())
    model = tuned("bert", name, **settings(name))
    trained = logits(model)
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("README.md", "delta.safetensors", "sparse_config.json")
    ]
    assert torch.equal(logits(model), trained) and not torch.equal(trained, logits(make()))
    for other in (model, SparseModel.from_pretrained(make(), tmp_path)):
        # LoRA's update is added to a weight once, and not to each output.
        torch.testing.assert_close(
            logits(other), trained, rtol=0, atol=1e-7 if name == "lora" else 0
        )
        with other.disable_delta():
            assert torch.equal(logits(other), logits(make()))
        torch.testing.assert_close(
            logits(other), trained, rtol=0, atol=1e-7 if name == "lora" else 0
        )
        plain = other.unload()
        assert same(state(plain), fresh)
        assert all(parameter.requires_grad for parameter in plain.parameters())
    get_sparse_model(plain, SparseConfig("random"))


@pytest.mark.parametrize("name", FITTING)
def test_a_saved_method_trains_on(name, tmp_path):
    model = tuned("bert", name, **settings(name))
    model.save_pretrained(tmp_path / "a")
    if name in LOST:
        with refused(match=f"{name} cannot train on from a delta alone; resume"):
            SparseModel.from_pretrained(make(), tmp_path / "a", is_trainable=True)
        return
    again = SparseModel.from_pretrained(make(), tmp_path / "a", is_trainable=True)
    assert torch.equal(logits(again), logits(model))
    again.save_pretrained(tmp_path / "b")
    one, two = (delta.load(tmp_path / part / "delta.safetensors") for part in "ab")
    assert one.entries.keys() == two.entries.keys() and one.base == two.base
    assert same(
        {n: v for n, (_, v) in one.entries.items()}, {n: v for n, (_, v) in two.entries.items()}
    )
    assert again.get_nb_trainable_parameters() == model.get_nb_trainable_parameters()
    before = logits(again)
    assert not torch.equal(logits(tune(again)), before)
    assert same(state(again.unload()), state(make()))


def test_adapters_are_refused_before_anything_is_edited():
    model = make()
    with refused(match="adapter: AdapterHub edits whole models of its own kinds"):
        get_sparse_model(model, SparseConfig("adapter"))
    assert same(state(model), state(make()))


HEADS = {
    "bert": ["classifier.weight", "classifier.bias"],
    "roberta": [
        f"classifier.{n}"
        for n in ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
    ],
    "choice": ["classifier.weight", "classifier.bias"],
    "vit": ["classifier.weight", "classifier.bias"],
    "resnet": ["classifier.1.weight", "classifier.1.bias"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_saves_loads_and_comes_off(family, tmp_path):
    fresh = state(make(family))
    model = tuned(family, "random", density=0.05)
    assert sorted(model.origin.head) == sorted(HEADS.get(family, []))
    trained = logits(model, family)
    assert not torch.equal(trained, logits(make(family), family))
    model.save_pretrained(tmp_path)
    loaded = SparseModel.from_pretrained(make(family), tmp_path)
    assert torch.equal(logits(loaded, family), trained)
    for other in (model, loaded):
        with other.disable_delta():
            assert torch.equal(logits(other, family), logits(make(family), family))
        assert same(state(other.unload()), fresh)


@pytest.mark.parametrize("family", ["llama", "gpt2", "vit"])
def test_all_linear_layers_by_gradient(family):
    model = tuned(
        family, "sam", density=0.02, target_modules="all-linear", method_kwargs={"burn_in": 2}
    )
    plain = make(family)
    linear = {
        f"{path}.{leaf}"
        for path, module in plain.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and path not in ("lm_head", "classifier")
        for leaf, _ in module.named_parameters()
    }
    assert {name for name, _ in model.view.named_parameters()} & linear
    assert {*model.method.chosen} == linear
    k = sum(index.numel() for index in model.method.chosen.values())
    assert k == int(0.02 * sum(plain.get_parameter(name).numel() for name in linear))


def test_a_tied_weight_stays_tied_and_is_saved_once(tmp_path):
    model = tuned("tied", density=0.5)
    name = "model.embed_tokens.weight"
    assert name in model.method.chosen and "lm_head.weight" not in model.method.chosen
    head, table = (
        model.get_submodule(f"base_model.{path}").weight
        for path in ("lm_head", "model.embed_tokens")
    )
    assert torch.equal(head, table)
    model.save_pretrained(tmp_path)
    merged = model.merge_and_unload()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    loaded = SparseModel.from_pretrained(make("tied"), tmp_path)
    assert torch.equal(logits(loaded, "tied"), logits(merged, "tied"))


def test_a_plain_module_with_a_loss_function(tmp_path):
    def fresh() -> nn.Module:
        torch.manual_seed(5)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    def loss(model, batch):
        x, y = batch
        return nn.functional.cross_entropy(model(x), y)

    x, y = torch.randn(4, 6), torch.tensor([0, 1, 2, 0])
    config = SparseConfig("sam", density=0.2, modules_to_save=["3"], method_kwargs={"burn_in": 3})
    model = get_sparse_model(fresh(), config, calibration=[(x, y)], loss_fn=loss)
    optimizer = AdamW(model.optimizer_groups(0.1), lr=1e-2)
    for step in (1, 2):
        loss(model, (x, y)).backward()
        optimizer_step(model, model.method, optimizer, step)
    trained = model.eval()(x)
    model.save_pretrained(tmp_path)
    found = delta.load(tmp_path / "delta.safetensors")
    assert {*found.new} == {"3.weight", "3.bias"}
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} <= {*found.entries}
    loaded = SparseModel.from_pretrained(fresh(), tmp_path).eval()
    assert torch.equal(loaded(x), trained)
    for other in (loaded, model):
        assert same(state(other.unload()), state(fresh()))


def test_sixteen_bit_models_train_chosen_entries_in_float32(tmp_path):
    model = get_sparse_model(make().bfloat16(), SparseConfig("random", density=0.1))
    values = [p for name, p in model.named_parameters() if name.endswith("0.values")]
    assert {p.dtype for p in values} == {torch.float32}
    tune(model)
    assert any(not torch.equal(p, p.bfloat16().float()) for p in values)
    trained = logits(model)
    model.save_pretrained(tmp_path)
    loaded = SparseModel.from_pretrained(make().bfloat16(), tmp_path)
    assert torch.equal(logits(loaded), trained)
    for other in (loaded, model):
        assert same(state(other.unload()), state(make().bfloat16()))
    narrow = get_sparse_model(make().bfloat16(), SparseConfig("random", values_dtype=None))
    assert {p.dtype for p in narrow.parameters()} == {torch.bfloat16}
    plain = make().bfloat16()
    with refused(match="bitfit: bert.*bias trains as a whole, in torch.bfloat16; fl"):
        get_sparse_model(plain, SparseConfig("bitfit"))
    with refused(match="lora: bert.*lora_A trains as a whole, in torch.bfloat16; fl"):
        get_sparse_model(plain, SparseConfig("lora"))
    assert all(p.requires_grad for p in plain.parameters())
    assert same(state(plain), state(make().bfloat16()))
    get_sparse_model(plain, SparseConfig("bitfit", values_dtype=None))


def test_the_numbers_that_train(capsys):
    model = get_sparse_model(make(), SparseConfig("random", density=0.1))
    plain = make()
    encoder, head = (
        sum(p.numel() for p in part.parameters()) for part in (plain.bert, plain.classifier)
    )
    assert model.get_nb_trainable_parameters() == (encoder // 10 + head, encoder + head)
    model.print_trainable_parameters()
    k, m = encoder // 10 + head, encoder + head
    assert capsys.readouterr().out == (
        f"trainable params: {k:,} || all params: {m:,} || trainable%: {100 * k / m:.4f}\n"
    )
    lora = get_sparse_model(make(), SparseConfig("lora"))
    trainable, total = lora.get_nb_trainable_parameters()
    assert total - m == trainable - head == 4 * 8 * (16 + 16)


def test_what_is_saved_tells_a_colleague_everything(tmp_path):
    model = tuned(density=0.1)
    model.config._name_or_path = "someone/tiny-bert"
    model.save_pretrained(tmp_path, about={"max_length": 128, "pooling": "first"})
    document = json.loads((tmp_path / "sparse_config.json").read_text())
    assert SparseConfig.from_pretrained(tmp_path) == model.sparse_config
    assert document["base"]["name"] == "someone/tiny-bert"
    assert document["base"]["class"] == "BertForSequenceClassification"
    assert document["task"]["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert document["about"] == {"max_length": 128, "pooling": "first"}
    card = (tmp_path / "README.md").read_text()
    k = sum(index.numel() for index in model.method.chosen.values())
    assert "base_model: someone/tiny-bert" in card and f"{k:,} of the base model's values" in card
    found = delta.load(tmp_path / "delta.safetensors")
    assert {*found.base} == {n for n, _ in make().named_parameters() if "classifier" not in n}
    assert found.base == delta.fingerprint(
        {n: dict(make().named_parameters())[n] for n in found.base}
    )


def test_the_public_names_are_lazy():
    assert {*jiant_sparse.__all__} == {
        *("SparseConfig", "SparseModel", "SparseTrainerMixin", "get_sparse_model")
    }
    assert all(getattr(jiant_sparse, name).__name__ == name for name in jiant_sparse.__all__)
    with pytest.raises(AttributeError, match="module 'jiant_sparse' has no attribute 'nothing'"):
        jiant_sparse.nothing  # noqa: B018


def test_a_model_generates_with_its_delta(tmp_path):
    model = tuned("llama", density=0.2)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    words = model.generate(input_ids=IDS, **options)
    model.save_pretrained(tmp_path)
    loaded = SparseModel.from_pretrained(make("llama"), tmp_path)
    assert torch.equal(loaded.generate(input_ids=IDS, **options), words)
