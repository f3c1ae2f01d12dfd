"""Adapter: AdapterHub's modules against their formulas in float64, and every configuration once."""

import itertools
import math
import random
from typing import get_args

import numpy as np
import pytest
import torch
from support.models import SIZES, Trainer, bert, outputs, rng, roberta, state
from torch import nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from jiant_sparse.errors import InputError
from jiant_sparse.methods.adapter import Adapter, Config
from jiant_sparse.sparse import surgery

CONFIGS = get_args(Config)
PHM = ("compacter", "compacter++")
# ReFT's for the last positions, of which there are none; MTL-LoRA's softmax over one update.
IDLE = (".units.1.", ".jiant_sparse.weights")


def wide(kind: str = "bert", hidden: int = 64) -> nn.Module:
    """An encoder that AdapterHub's usual reduction factors fit."""
    torch.manual_seed(0)
    sizes = SIZES | {"hidden_size": hidden}
    if kind == "bert":
        return BertModel(BertConfig(vocab_size=50, **sizes))
    return RobertaModel(RobertaConfig(vocab_size=50, type_vocab_size=1, **sizes))


def attached(encoder: nn.Module, **fields) -> nn.Module:
    Adapter(**fields).attach(encoder, None, rng)
    return encoder


def trained(encoder: nn.Module, steps: int = 5, weight_decay: float = 0.1, **fields) -> nn.Module:
    trainer, method = Trainer(encoder), Adapter(**fields)
    trainer.head = nn.Linear(encoder.config.hidden_size, 3)
    method.attach(encoder, None, rng)
    trainer.train(method, steps, weight_decay)
    assert all(math.isfinite(loss) for loss in trainer.losses)
    return encoder


def added(encoder: nn.Module, before: dict) -> dict[str, torch.Tensor]:
    return {name: p for name, p in state(encoder).items() if name not in before}


@pytest.mark.parametrize(
    ("make", "config"),
    [(bert, "seq_bn"), (roberta, "double_seq_bn"), (bert, "par_bn"), (roberta, "scaled_par_bn")],
)
def test_step_0_of_a_bottleneck_is_the_pretrained_model_exactly(make, config):
    before = state(make())
    encoder = attached(make(), config=config).eval()
    assert added(encoder, before)
    assert all(map(torch.equal, outputs(encoder), outputs(make().eval())))


@pytest.mark.parametrize(("init", "deviation"), [(None, 0), ("bert", 0.02), ("houlsby", 0.0088)])
def test_the_init_decides_how_the_last_layer_is_drawn(init, deviation):
    encoder = wide()
    before = state(encoder)
    new = added(attached(encoder, init=init, reduction_factor=2), before)
    drawn = torch.cat([value.flatten() for n, value in new.items() if n.endswith("up.weight")])
    assert len(drawn) == 2 * 64 * 32
    assert abs(drawn.std() - deviation) <= 0.04 * deviation
    assert drawn.abs().max() <= 0.02 or init == "bert", "truncated"


def test_a_trained_layer_follows_the_formula():
    encoder, before, seen = bert(), state(bert()), {}
    trained(encoder, reduction_factor=4, init="bert").eval()
    new = added(encoder, before)
    names = [f"encoder.layer.{i}.output" for i in range(2)]
    assert len(new) == 4 * len(names)
    for name in names:
        encoder.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: (*args, output)})
        )
    outputs(encoder)
    for name in names:
        hidden, x, output = (tensor.double() for tensor in seen[name])
        w, b = (before[f"{name}.dense.{leaf}"].double() for leaf in ("weight", "bias"))
        norm = [before[f"{name}.LayerNorm.{leaf}"].double() for leaf in ("weight", "bias")]
        leaves = ("down.0.weight", "down.0.bias", "up.weight", "up.bias")
        new_ones = (new[f"{name}.adapters.jiant_sparse.adapter_{leaf}"] for leaf in leaves)
        d, b_d, u, b_u = (tensor.double() for tensor in new_ones)
        f = hidden @ w.T + b
        inside = nn.functional.layer_norm(f + x, (16,), *norm, eps=1e-12)
        change = (inside @ d.T + b_d).relu() @ u.T + b_u
        assert change.abs().max() > 1e-3
        expected = nn.functional.layer_norm(change + f + x, (16,), *norm, eps=1e-12)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("factor", "width"), [(None, 4), (2.5, 25), (64, 1), (0.5, 128)])
def test_the_reduction_factor_divides_the_hidden_size(factor, width):
    encoder = wide()
    before = state(encoder)
    new = added(attached(encoder, reduction_factor=factor), before)
    shapes = {tuple(value.shape) for value in new.values()}
    assert shapes == {(width, 64), (width,), (64, width), (64,)}


def test_the_known_configurations_are_the_librarys_but_two():
    from adapters import ADAPTER_CONFIG_MAP

    assert set(CONFIGS) == set(ADAPTER_CONFIG_MAP) - {"prompt_tuning", "loreft"}
    assert len(CONFIGS) == len(set(CONFIGS))


@pytest.mark.parametrize(
    ("config", "kind"), [*zip(CONFIGS, itertools.cycle(["bert", "roberta"]), strict=False)]
)
def test_every_configuration_trains(config, kind):
    hidden = 128 if config in PHM else 64
    before = state(wide(kind, hidden))
    start = added(attached(wide(kind, hidden), config=config), before)
    # Without decay, so that what nothing reads stays as it is.
    encoder = trained(wide(kind, hidden), 3, weight_decay=0.0, config=config)
    assert all(torch.equal(p, before[n]) for n, p in state(encoder).items() if n in before)
    trains = {name for name, p in encoder.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert surgery.count(encoder, before) == (0, size)
    after = added(encoder, before)
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert {name for name in trains if not any(part in name for part in IDLE)} <= moved <= trains


@pytest.mark.parametrize("config", ["seq_bn", "double_seq_bn_inv", "prefix_tuning", "direft"])
def test_padding_does_not_change_the_output(config):
    encoder, generator = attached(wide(), config=config).eval(), torch.Generator().manual_seed(3)
    for p in encoder.parameters():
        if p.requires_grad:
            p.data += 0.1 * torch.randn(p.shape, generator=generator)
    ids = torch.randint(4, 50, (3, 6), generator=generator)
    padded, mask = (nn.functional.pad(x, (0, 4)) for x in (ids, torch.ones_like(ids)))
    with torch.no_grad():
        plain = wide().eval()(input_ids=ids).last_hidden_state
        short = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        long = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
    assert (short - plain).abs().max() > 1e-3
    torch.testing.assert_close(long[:, :6], short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", ["seq_bn_inv", "prefix_tuning", "vera"])
def test_the_seed_alone_decides_the_first_values_and_global_generators_stay(config):
    torch.manual_seed(1)
    one, encoder = state(attached(wide(), config=config)), wide()
    torch.manual_seed(2), np.random.seed(2), random.seed(2)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    attached(encoder, config=config)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1]
    assert random.getstate() == states[2]
    assert all(torch.equal(one[name], p) for name, p in state(encoder).items())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_encoder_is_kept(training):
    encoder = attached(bert().train(training))
    assert {module.training for module in encoder.modules()} == {training}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": "seq_bm"}, "'seq_bm'; did you mean seq_bn? known: " + ", ".join(CONFIGS)),
        ({"reduction_factor": 17}, "reduction_factor is 17.0; the hidden size is 16"),
        ({"config": "ia3", "reduction_factor": 2}, "is 2.0; the configuration ia3 has no"),
        ({"config": "prefix_tuning", "init": "bert"}, "configuration prefix_tuning has no init_w"),
        ({"config": "loreft"}, "config is 'loreft'; did you mean noreft?"),
        ({"config": "compacter"}, "config compacter does not fit this encoder: "),
        ({"reduction_factor": 1e-300}, "does not fit this encoder: "),
        ({"config": "lora", "init": "houlsby"}, "lora does not fit this encoder: Unknown init_w"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(fields, message):
    with pytest.raises(InputError) as caught:
        attached(bert(), **fields)
    assert message in str(caught.value)
