"""LoRA against its formula in float64: what starts at zero, what is drawn, what is dropped."""

import numpy as np
import pytest
import torch
from support.models import Trainer, bert, outputs, rng, roberta, state
from torch import nn

from jiant_sparse.methods.lora import LoRA

SIX = ["query", "key", "value", "output.dense", "intermediate.dense"]


def attached(make=bert, **fields) -> nn.Module:
    encoder = make()
    LoRA(**fields).attach(encoder, None, rng)
    return encoder


def updates(encoder: nn.Module) -> dict[str, nn.Module]:
    """The layers with an update, by name."""
    return {name: m for name, m in encoder.named_modules() if hasattr(m, "lora_A")}


def f64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize(
    ("make", "modules"), [(bert, ["query", "value"]), (roberta, SIX), (bert, ["dense"])]
)
def test_step_0_is_the_pretrained_model_exactly(make, modules):
    encoder = attached(make, modules=modules, dropout=0.2).eval()
    assert updates(encoder)
    assert all(map(torch.equal, outputs(encoder), outputs(make().eval())))


def test_step_0_is_another_model_if_b_is_drawn():
    encoder = attached(init_b="kaiming").eval()
    assert (outputs(encoder)[0] - outputs(bert().eval())[0]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (bert, {}),
        (roberta, {"alpha": 40.0}),
        (roberta, {"modules": SIX, "rank": 3, "alpha": 1.0, "init_b": "kaiming"}),
    ],
)
def test_every_trained_layer_follows_the_formula(make, fields):
    encoder, before, seen = make(), state(make()), {}
    trainer, method = Trainer(encoder), LoRA(**fields)
    method.attach(encoder, None, rng)
    trainer.train(method, 5)
    scale = fields.get("alpha", 16) / fields.get("rank", 8)
    for name, module in updates(encoder.eval()).items():
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


def test_a_and_b_are_drawn_uniformly_from_the_stream_of_their_layers_name():
    few, many = updates(attached()), updates(attached(modules=SIX, init_b="kaiming"))
    assert (len(few), len(many)) == (4, 12)
    for name, layer in many.items():
        generator = rng(name)
        for part, fan_in in ((layer.lora_A, layer.in_features), (layer.lora_B, 8)):
            bound = fan_in**-0.5
            drawn = torch.empty(part.shape).uniform_(-bound, bound, generator=generator)
            torch.testing.assert_close(part.data, drawn)
        assert name not in few or torch.equal(layer.lora_A, few[name].lora_A)


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
