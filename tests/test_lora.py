"""LoRA against its formula in float64, and what evaluation must not do to the weights."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, rng, roberta, state
from torch import nn
from transformers import RobertaConfig, RobertaModel

from jiant_sparse.errors import InputError
from jiant_sparse.methods.lora import LoRA
from jiant_sparse.sparse import surgery

SIX = ["query", "key", "value", "output.dense", "intermediate.dense"]
IDS = torch.randint(4, 50, (3, 6), generator=torch.Generator().manual_seed(1))
every_encoder = pytest.mark.parametrize("make", [bert, roberta])


def attached(make=bert, rng=rng, **fields) -> nn.Module:
    encoder = make()
    LoRA(**fields).attach(encoder, None, rng)
    return encoder


def trained(make=bert, steps: int = 5, **fields) -> nn.Module:
    encoder = make()
    trainer, method = Trainer(encoder), LoRA(**fields)
    method.attach(encoder, None, rng)
    trainer.train(method, steps)
    return encoder


def outputs(encoder: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        found = encoder(input_ids=IDS)
    return [found.last_hidden_state, found.pooler_output]


def updates(encoder: nn.Module) -> dict[str, nn.Module]:
    """The layers with an update, by name."""
    return {name: m for name, m in encoder.named_modules() if hasattr(m, "lora_A")}


def f64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@every_encoder
@pytest.mark.parametrize("modules", [["query", "value"], SIX, ["dense"]])
def test_step_0_is_the_pretrained_model_exactly(make, modules):
    encoder = attached(make, modules=modules, dropout=0.2).eval()
    assert updates(encoder)
    assert all(map(torch.equal, outputs(encoder), outputs(make().eval())))


def test_step_0_is_another_model_if_b_is_drawn():
    encoder = attached(init_b="kaiming").eval()
    assert (outputs(encoder)[0] - outputs(bert().eval())[0]).abs().max() > 1e-3


@every_encoder
@pytest.mark.parametrize(
    "fields", [{}, {"modules": SIX, "rank": 3, "alpha": 1.0, "init_b": "kaiming"}, {"alpha": 40.0}]
)
def test_every_trained_layer_follows_the_formula(make, fields):
    encoder, before, seen = trained(make, **fields).eval(), state(make()), {}
    scale = fields.get("alpha", 16) / fields.get("rank", 8)
    for name, module in updates(encoder).items():
        module.register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: (args[0], output)})
        )
    outputs(encoder)
    assert len(seen) == (12 if "modules" in fields else 4)
    for name, (x, output) in seen.items():
        layer, x = encoder.get_submodule(name), f64(x)
        w, b = f64(before[f"{name}.weight"]), f64(before[f"{name}.bias"])
        update = scale * (x @ f64(layer.lora_A).T @ f64(layer.lora_B).T)
        assert np.abs(update).max() > 1e-3
        np.testing.assert_allclose(f64(output), x @ w.T + b + update, rtol=1e-5, atol=1e-5)


@every_encoder
@pytest.mark.parametrize(
    "modes", [(False,), (False, True), (True, False, False), (False, True, False, True)]
)
def test_changes_of_mode_never_touch_the_base(make, modes):
    before, encoder = state(make()), attached(make, init_b="kaiming")
    expected = outputs(encoder.eval())
    first = {name: p.clone() for name, p in encoder.state_dict().items()}
    for mode in modes:
        encoder.train(mode)
        stored = encoder.state_dict()
        assert stored.keys() == first.keys()
        assert all(torch.equal(stored[name], first[name]) for name in first)
        now = state(encoder)
        assert all(torch.equal(now[name], before[name]) for name in before)
    assert all(map(torch.equal, outputs(encoder.eval()), expected))


def test_a_state_taken_in_evaluation_counts_the_update_once():
    encoder = trained().eval()
    fresh = attached(rng=lambda name: torch.Generator().manual_seed(9)).train()
    fresh.load_state_dict(encoder.state_dict())
    assert all(map(torch.equal, outputs(fresh.eval()), outputs(encoder)))


@pytest.mark.parametrize("init_b", ["zeros", "kaiming"])
def test_first_values_are_kaiming_uniform_or_zero(init_b):
    scaled = {"A": [], "B": []}
    for layer in updates(attached(modules=SIX, init_b=init_b)).values():
        # sqrt(6 / ((1 + 5) fan_in)), the fan-in of A being the layer's and that of B the rank.
        scaled["A"].append(layer.lora_A.flatten() * layer.in_features**0.5)
        scaled["B"].append(layer.lora_B.flatten() * 8**0.5)
    for part, parts in scaled.items():
        values = f64(torch.cat(parts))
        if part == "B" and init_b == "zeros":
            assert not values.any()
            continue
        assert len(values) > 1500
        assert 0.98 < np.abs(values).max() <= 1 + 1e-6
        assert abs(values.mean()) < 0.05
        assert abs(values.var() - 1 / 3) < 0.03


def test_a_is_drawn_from_the_stream_of_its_layers_name():
    few, many = attached(), attached(modules=SIX, init_b="kaiming")
    assert len(updates(few)) == 4
    assert len(updates(many)) == 12
    for name, layer in updates(many).items():
        bound, generator = layer.in_features**-0.5, rng(name)
        drawn = torch.empty(layer.lora_A.shape).uniform_(-bound, bound, generator=generator)
        torch.testing.assert_close(layer.lora_A.data, drawn)
        if name in updates(few):
            assert torch.equal(layer.lora_A, updates(few)[name].lora_A)
    values = [layer.lora_A.flatten()[:20].tolist() for layer in updates(many).values()]
    assert len(set(map(tuple, values))) == 12


def test_dropout_is_on_the_input_of_a_in_training_only():
    encoder = attached(dropout=0.4, init_b="kaiming", rank=4, alpha=8.0)
    layer = encoder.get_submodule("encoder.layer.1.attention.self.value")
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    plain = x @ layer.weight.T + layer.bias
    encoder.eval()
    torch.testing.assert_close(layer(x), plain + 2 * x @ layer.lora_A.T @ layer.lora_B.T)
    encoder.train()
    torch.manual_seed(3)
    found = layer(x)
    torch.manual_seed(3)
    dropped = nn.functional.dropout(x, 0.4)
    assert 0 < int((dropped == 0).sum()) < x.numel()
    torch.testing.assert_close(found, plain + 2 * dropped @ layer.lora_A.T @ layer.lora_B.T)


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["query"], ["attention.self.query"]),
        (["attention.output.dense"], ["attention.output.dense"]),
        (["output.dense"], ["attention.output.dense", "output.dense"]),
        (["value", "output.dense"], ["attention.self.value", "attention.output.dense",
                                     "output.dense"]),
    ],
)  # fmt: skip
@every_encoder
def test_layers_are_chosen_by_the_end_of_their_dotted_name(make, modules, expected):
    names = [f"encoder.layer.{i}.{name}" for i in range(2) for name in expected]
    assert list(updates(attached(make, modules=modules))) == names


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 294_912),
        ({"modules": SIX, "rank": 4}, 663_552),
        ({"modules": SIX, "rank": 7}, 1_161_216),
        ({"modules": SIX, "rank": 8}, 1_327_104),
    ],
)
def test_roberta_base_gets_the_known_number_of_weights(fields, expected):
    config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        encoder = RobertaModel(config)
    names = {name for name, _ in encoder.named_parameters()}
    assert sum(p.numel() for p in encoder.parameters()) == 124_645_632
    LoRA(**fields).attach(encoder, None, rng)
    new = [p.numel() for name, p in encoder.named_parameters() if name not in names]
    assert sum(new) == expected
    assert surgery.count(encoder, names) == (0, expected)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 17}, r"rank is 17; \S+0.attention.self.query is 16x16, .* at most 16"),
        (
            {"modules": ["q_proj"]},
            "ends in 'q_proj'; linear layers end in dense, key, query, value",
        ),
        ({"modules": ["query", "LayerNorm"]}, "'LayerNorm' matches embeddings.LayerNorm, a LayerN"),
        ({"modules": ["word_embeddings"]}, "embeddings.word_embeddings, a Embedding; it must be"),
    ],
)
def test_what_cannot_be_is_named(fields, message):
    with pytest.raises(InputError, match=message):
        attached(**fields)
