"""Which weights are eligible, which batches give gradients, and settings: right or an error."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from support.tuning import FAMILIES, IDS, LABELS, make, same, state
from torch import nn
from torch.utils.data import DataLoader

from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.methods import base
from jiant_sparse.sparse import surgery
from jiant_sparse.tuning import scope
from jiant_sparse.tuning.calibration import Calibration

refused = partial(pytest.raises, InputError)
BATCH = {"input_ids": IDS, "labels": LABELS}


def eligible(family: str = "bert", **fields) -> set[str]:
    view, _ = scope.select(make(family), SparseConfig("random", **fields))
    return {*dict(view.named_parameters())}


def all_names(family: str = "bert") -> set[str]:
    return {*dict(make(family).named_parameters())}


# --- which weights


def test_by_default_the_encoder_is_eligible_and_the_head_trains_whole():
    assert eligible() == {name for name in all_names() if name.startswith("bert.")}
    assert eligible("t5") == all_names("t5")
    assert eligible("tied") == all_names("tied")
    assert eligible("llama") == all_names("llama") - {"lm_head.weight"}
    model = make()
    model.__class__ = type("Mine", (type(model),), {})
    assert {*scope.select(model, SparseConfig("random"))[1]} == {
        *("classifier.weight", "classifier.bias")
    }


@pytest.mark.parametrize(
    ("targets", "chosen"),
    [
        (["query"], lambda n: ".query." in n),
        (["query.bias", "bert.pooler"], lambda n: n.endswith("query.bias") or "pooler" in n),
        (r".*\.layer\.1\..*dense", lambda n: ".layer.1." in n and ".dense." in n),
        ("bert.embeddings", lambda n: n.startswith("bert.embeddings.")),
        ("all-linear", lambda n: any(f".{p}." in n for p in ("query", "key", "value", "dense"))),
        (["bert", "classifier"], lambda n: n.startswith("bert")),
    ],
)
def test_targets_by_name_end_and_expression(targets, chosen):
    assert eligible(target_modules=targets) == {name for name in all_names() if chosen(name)}


def test_what_is_excluded_or_saved_whole_is_not_eligible():
    found = eligible(exclude_modules=["embeddings", "bias"])
    assert found == {n for n in eligible() if "embeddings" not in n and not n.endswith("bias")}
    assert eligible(exclude_modules=r".*LayerNorm.*") == {n for n in eligible() if "Norm" not in n}
    assert eligible(modules_to_save=["pooler", "classifier"]) == {
        n for n in eligible() if "pooler" not in n
    }
    assert eligible(modules_to_save=[], target_modules=["classifier"]) == {
        *("classifier.weight", "classifier.bias")
    }


def test_only_eligible_weights_and_the_head_train():
    config = SparseConfig("full_tuning", target_modules=["value.weight"])
    model = get_sparse_model(make(), config)
    training = {name for name, p in model.get_base_model().named_parameters() if p.requires_grad}
    assert training == {n for n in all_names() if n.endswith("value.weight") or "classifier" in n}
    assert all(p.requires_grad for p in model.unload().parameters())


def test_the_view_has_every_holder_of_a_tied_weight_but_not_its_bias():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.decoder = nn.Embedding(5, 3), nn.Linear(3, 5)
            self.decoder.weight = self.table.weight

    model = Tied()
    config = SparseConfig("random", density=0.5, target_modules=["decoder.weight"])
    wrapped = get_sparse_model(model, config)
    assert {*wrapped.method.chosen} == {"table.weight"}
    assert not model.decoder.bias.requires_grad
    wrapped.view.get_parameter("table.parametrizations.weight.0.values").data.fill_(7)
    assert torch.equal(model.table.weight, model.decoder.weight) and model.table.weight.max() == 7
    assert wrapped.unload().decoder.weight is model.table.weight


def test_stochastic_tuning_knows_padding_without_the_embeddings():
    model = make("roberta")
    config = SparseConfig("top_tuning", density=0.01, target_modules="all-linear")
    wrapped = get_sparse_model(model, config)
    ids = IDS.clone()
    ids[:, 4:] = 1  # padding
    wrapped.train()(input_ids=ids, labels=LABELS).loss.backward()
    importance = wrapped.method.importance
    assert int(importance.real.sum()) == 4 * 4
    assert not {n for n in importance.weights if "embeddings" in n}


NAMES = (
    "modules: bert.embeddings.word_embeddings, bert.embeddings.position_embeddings, "
    "bert.embeddings.token_type_embeddings, bert.embeddings.LayerNorm, "
    "bert.encoder.layer.0.attention.self.query, bert.encoder.layer.0.attention.self.key, "
    "bert.encoder.layer.0.attention.self.value, bert.encoder.layer.0.attention.output.dense, "
    "bert.encoder.layer.0.attention.output.LayerNorm, bert.encoder.layer.0.intermediate.dense "
    "and 12 more"
)
NOTHING_LEFT = "target_modules without exclude_modules and modules_to_save leaves no weight; "
NOTHING_TO = "nothing to repeat at position 0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"target_modules": ["key", "quary"]},
            "target_modules: nothing is called 'quary'; " + NAMES,
        ),
        ({"target_modules": "query"}, "target_modules: nothing is called 'query'; " + NAMES),
        ({"exclude_modules": ["x"]}, "exclude_modules: nothing is called 'x'; " + NAMES),
        ({"modules_to_save": ["head"]}, "modules_to_save: nothing is called 'head'; " + NAMES),
        ({"target_modules": ["key"], "exclude_modules": ["encoder"]}, NOTHING_LEFT + NAMES),
        ({"target_modules": "*"}, "target_modules is '*': no regular expression: " + NOTHING_TO),
        ({"density": 1e-9}, "the fraction to tune is too small: no weight of 7,664 would train"),
    ],
)
def test_targets_that_do_not_fit_are_refused_before_anything_is_edited(fields, message):
    model = make()
    with refused() as caught:
        get_sparse_model(model, SparseConfig("random", **fields))
    assert str(caught.value) == message
    assert same(state(model), state(make()))
    assert all(p.requires_grad for p in model.parameters())
    get_sparse_model(model, SparseConfig("random"))


def test_an_optimizer_from_before_is_refused_at_its_first_step():
    model = make()
    optimizer = torch.optim.SGD(model.bert.parameters(), lr=1.0)
    wrapped = get_sparse_model(model, SparseConfig("random"))
    wrapped(**BATCH).loss.backward()
    with refused(match="the optimizer was made before the method was attached"):
        optimizer.step()


def test_a_model_without_linear_layers():
    with refused(match="target_modules is 'all-linear'; the model has no linear"):
        get_sparse_model(nn.LayerNorm(3), SparseConfig("random", target_modules="all-linear"))


def test_quantised_layers_are_refused_and_can_be_left_out():
    class Linear4bit(nn.Linear):
        pass

    class QuantLinear(nn.Module):
        pass

    for packed in (Linear4bit(2, 2), QuantLinear()):
        model = nn.Sequential(nn.Linear(4, 4), packed)
        with refused() as caught:
            get_sparse_model(model, SparseConfig("random", density=0.5))
        assert str(caught.value) == (
            f"1 is quantised ({type(packed).__name__}), and entries of packed weights cannot train;"
            " load the model unquantised, or name such layers in exclude_modules"
        )
        get_sparse_model(model, SparseConfig("random", density=0.5, target_modules=["0"]))
    packed = nn.Linear(2, 2)
    packed.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.uint8), requires_grad=False)
    with refused(match="^1 is quantised"):
        get_sparse_model(nn.Sequential(nn.Linear(4, 4), packed), SparseConfig("random"))


def test_what_is_no_plain_model_is_refused():
    model = make()
    wrapped = get_sparse_model(model, SparseConfig("random"))
    with refused(match="the model is a SparseModel; it must be a plain torch mod"):
        get_sparse_model(wrapped, SparseConfig("random"))
    with refused(match="random: the encoder has a method already, random; fold"):
        get_sparse_model(model, SparseConfig("random"))
    with refused(match="config is {'method': 'random'}; it must be a SparseConf"):
        get_sparse_model(make(), {"method": "random"})
    frozen = make()
    surgery.freeze(frozen.bert.pooler)
    with refused(match="random: 2 tensors of the encoder are frozen, first bert"):
        get_sparse_model(frozen, SparseConfig("random"))
    get_sparse_model(frozen, SparseConfig("random", exclude_modules=["pooler"]))


# --- calibration


def probe_of(model, batches, loss_fn=None) -> Calibration:
    return Calibration(model, batches, loss_fn, seed=0, method="sam")


def test_the_probe_gives_each_batch_its_mean_gradient_and_weight():
    model = make()
    batches = [BATCH, {name: tensor[:1] for name, tensor in BATCH.items()}]
    found = [
        (share, model.classifier.weight.grad.clone()) for share in probe_of(model, batches)(None)
    ]
    assert [share for share, _ in found] == [1.0, 0.25]
    for batch, (_, gradient) in zip(batches, found, strict=True):
        model.zero_grad()
        model(**batch).loss.backward()
        assert torch.equal(model.classifier.weight.grad, gradient)
    one_by_one = [*probe_of(model, [BATCH])(3, batch_size=1)]
    assert (
        one_by_one == [1.0] * 3
        and len([*probe_of(model, batches)(9, batch_size=1, repeat=False)]) == 5
    )
    assert (
        len([*probe_of(model, batches)(5)]) == 5 and len([*probe_of(model, iter(batches))(2)]) == 2
    )
    for _ in probe_of(model, [BATCH])(1, max_grad_norm=1e-3):
        norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        assert norm == pytest.approx(1e-3, rel=1e-2)


def test_the_probe_restores_modes_gradients_buffers_and_generators():
    model = make("resnet").train()
    model.classifier.eval()
    kept = torch.ones_like(model.classifier[1].bias)
    model.classifier[1].bias.grad = kept
    before = state(model)
    rows = [
        {"pixel_values": x, "labels": y}
        for x, y in zip(FAMILIES["resnet"][1]["pixel_values"], LABELS, strict=True)
    ]
    loader = DataLoader(
        rows, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(1)
    )
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    drawn = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    order = loader.generator.get_state()
    for share in probe_of(model, loader)(3, dropout=True):
        assert share == 1.0 and model.classifier.training
    assert same(state(model), before)
    assert model.training and not model.classifier.training
    assert model.classifier[1].bias.grad is kept and model.classifier[1].weight.grad is None
    assert torch.equal(torch.get_rng_state(), drawn[0]) and random.getstate() == drawn[2]
    assert np.random.get_state()[1].tolist() == drawn[1]
    assert torch.equal(loader.generator.get_state(), order)


NO_LABELS = {"input_ids": IDS}

NONE_LEFT = "calibration has fewer batches than sam asks for, or none, and cannot start again; it"


@pytest.mark.parametrize(
    ("batches", "loss_fn", "message"),
    [
        (None, None, "sam looks at gradients before training, but calibration is None; it must be"),
        ([NO_LABELS], None, "returns no loss for a calibration batch of input_ids; add labels to"),
        (
            [(IDS, LABELS)],
            None,
            "a calibration batch is a tuple; it must be a mapping of the model",
        ),
        ([BATCH], lambda *_: 1.5, "the loss of a calibration batch is 1.5; it must be a tensor of"),
        ([], None, NONE_LEFT),
        (iter([BATCH]), None, NONE_LEFT),
    ],
)
def test_batches_that_give_no_gradient_are_refused(batches, loss_fn, message):
    model = make()
    with refused() as caught:
        get_sparse_model(model, SparseConfig("sam", method_kwargs={"burn_in": 2}), batches, loss_fn)
    assert message in str(caught.value)
    assert same(state(model), state(make()))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_loss_that_is_no_number_and_steps_of_the_head():
    with pytest.raises(NotFinite, match="the loss is nan while weights are being chosen"):
        get_sparse_model(make(), SparseConfig("sam"), [BATCH], lambda m, b: m(**b).loss * torch.nan)
    with refused(match="sam: head_steps is 3; it must be 0 in the library, which"):
        get_sparse_model(make(), SparseConfig("sam", method_kwargs={"head_steps": 3}), [BATCH])


def test_the_choice_of_a_model_is_the_choice_of_its_encoder():
    """The library's sam over the encoder chooses what the method chooses on a bare model."""
    config = SparseConfig("sam", density=0.1, modules_to_save=[], method_kwargs={"burn_in": 2})
    batches = [BATCH, {"input_ids": IDS.flip(1), "labels": LABELS}]
    wrapped = get_sparse_model(make(), config, batches)
    plain = make()

    def probe(*_, **__):
        for batch in batches:
            plain.zero_grad()
            plain(**batch).loss.backward()
            yield 1.0

    method = base.find("sam")(density=0.1, burn_in=2)
    chosen = method.choose(plain.bert, probe, None)
    assert same({f"bert.{n}": i for n, i in chosen.items()}, dict(wrapped.method.chosen))


# --- settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "radnom"}, "unknown method 'radnom'; did you mean random?"),
        ({"density": 2}, "SparseConfig: density is 2; it must be a number in"),
        ({"scope": "local"}, "SparseConfig: scope is 'local'; it must be"),
        ({"seed": -1}, "SparseConfig: seed is -1; it must be an integer of at least 0"),
        ({"values_dtype": "float16"}, "SparseConfig: values_dtype is 'float16'; it must be"),
        ({"target_modules": 3}, "target_modules is 3; it must be text, a list of names or null"),
        (
            {"method": "bitfit", "density": 0.1},
            "SparseConfig: bitfit has no field 'density'; leave",
        ),
        ({"method": "fish", "scope": "global"}, "fish has no field 'scope'; did you mean score?"),
        ({"method_kwargs": {"drow": "exact"}}, "random has no field 'drow'; did you mean draw?"),
        (
            {"method_kwargs": {"draw": "once"}},
            "random: draw is 'once'; it must be one of exact, be",
        ),
        ({"density": 0.1, "method_kwargs": {"density": 1}}, "density stands in method_kwargs too"),
    ],
)
def test_settings_that_do_not_fit_are_refused(fields, message):
    with refused() as caught:
        SparseConfig(**{"method": "random"} | fields)
    assert message in str(caught.value)


def test_settings_come_back_from_their_dict():
    fields = {"density": 0.1, "scope": "per_tensor", "target_modules": ["query"]}
    config = SparseConfig("sam", **fields, method_kwargs={"burn_in": 3})
    assert SparseConfig.from_dict(config.to_dict()) == config
    assert config.make_method() == base.find("sam")(density=0.1, scope="per_tensor", burn_in=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "has version 2; it must be 1: a newer version needs a newer jiant_spar"),
        ({"version": None}, "the SparseConfig has version None; it must be 1"),
        ({"densitty": 1}, "the SparseConfig has the unknown key 'densitty'; did you mean density?"),
        ({"density": "x"}, "SparseConfig: density is 'x'; it must be"),
    ],
)
def test_a_dict_that_does_not_fit_is_refused(change, message):
    with refused() as caught:
        SparseConfig.from_dict(SparseConfig("random").to_dict() | change)
    assert message in str(caught.value)
    for wrong in (None, [], {"version": 1}):
        with refused(match="a SparseConfig is .*; it must be a mapping with method"):
            SparseConfig.from_dict(wrong)


def test_a_seed_is_another_choice():
    def chosen(seed):
        return get_sparse_model(make(), SparseConfig("random", seed=seed)).method.chosen

    one, again, two = chosen(0), chosen(0), chosen(1)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    assert isinstance(get_sparse_model(make(), SparseConfig("random")), SparseModel)
