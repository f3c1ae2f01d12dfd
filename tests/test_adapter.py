"""Adapter: AdapterHub's modules against their formulas in float64, and every configuration once."""

import math
import random
from typing import get_args

import numpy as np
import pytest
import torch
from support.models import SIZES, Trainer, bert, rng, roberta, state
from torch import nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from jiant_sparse.errors import InputError
from jiant_sparse.methods.adapter import Adapter, Config
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery

CONFIGS = get_args(Config)
IDS = torch.randint(4, 50, (3, 6), generator=torch.Generator().manual_seed(1))
every_encoder = pytest.mark.parametrize("make", [bert, roberta])
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


def attached(encoder: nn.Module, rng=rng, **fields) -> nn.Module:
    Adapter(**fields).attach(encoder, None, rng)
    return encoder


def trained(encoder: nn.Module, steps: int = 5, weight_decay: float = 0.1, **fields) -> nn.Module:
    trainer, method = Trainer(encoder), Adapter(**fields)
    trainer.head = nn.Linear(encoder.config.hidden_size, 3)
    method.attach(encoder, None, rng)
    trainer.train(method, steps, weight_decay)
    assert all(math.isfinite(loss) for loss in trainer.losses)
    return encoder


def outputs(encoder: nn.Module) -> list[torch.Tensor]:
    with torch.no_grad():
        found = encoder(input_ids=IDS)
    return [found.last_hidden_state, found.pooler_output]


def added(encoder: nn.Module, before: dict) -> dict[str, torch.Tensor]:
    return {name: p for name, p in state(encoder).items() if name not in before}


def f64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * weight + bias


@every_encoder
@pytest.mark.parametrize(
    "config", ["seq_bn", "double_seq_bn", "par_bn", "scaled_par_bn", "pfeiffer", "houlsby"]
)
def test_step_0_of_a_bottleneck_is_the_pretrained_model_exactly(make, config):
    before = state(make())
    encoder = attached(make(), config=config).eval()
    assert added(encoder, before)
    assert all(map(torch.equal, outputs(encoder), outputs(make().eval())))


@every_encoder
@pytest.mark.parametrize("init", ["bert", "houlsby"])
def test_step_0_is_another_model_with_a_drawn_last_layer(make, init):
    encoder = attached(make(), init=init, reduction_factor=1).eval()
    assert (outputs(encoder)[0] - outputs(make().eval())[0]).abs().max() > 1e-4


@pytest.mark.parametrize("init", [None, "mam_adapter", "bert", "houlsby"])
def test_first_values_follow_the_init(init):
    encoder = wide()
    before = state(encoder)
    new = added(attached(encoder, init=init, reduction_factor=2), before)
    parts = {"down.0.weight": [], "up.weight": [], "bias": []}
    for name, value in new.items():
        (key,) = (key for key in parts if name.endswith(key))
        parts[key].append(value.flatten())
    down, up, biases = (f64(torch.cat(values)) for values in parts.values())
    assert down.size == up.size == 2 * 64 * 32
    assert not biases.any()
    # Standard deviation, and what the largest value lies between.
    normal, truncated = (0.02, 0.06, 0.12), (0.8796e-2, 0.0199, 0.02)
    kaiming = (1 / 8 / 3**0.5, 0.99 / 8, 1 / 8)  # uniform up to 1 / sqrt(64)
    expected = {"bert": [normal] * 2, "houlsby": [truncated] * 2}
    expected = expected.get(init, [kaiming, (0, 0, 0)])
    for (deviation, least, highest), found in zip(expected, (down, up), strict=True):
        assert abs(found.mean()) <= 0.06 * deviation
        assert abs(found.std() - deviation) <= 0.04 * deviation
        assert least <= np.abs(found).max() <= highest * (1 + 1e-6)


@every_encoder
@pytest.mark.parametrize(
    ("config", "places", "norm_before", "activation"),
    [
        ("seq_bn", ["output"], True, lambda x: np.maximum(x, 0)),
        ("double_seq_bn", ["attention.output", "output"], False, lambda x: x / (1 + np.exp(-x))),
    ],
)
def test_a_trained_layer_follows_the_formula(make, config, places, norm_before, activation):
    encoder, before, seen = make(), state(make()), {}
    trained(encoder, config=config, reduction_factor=4, init="bert").eval()
    new = added(encoder, before)
    names = [f"encoder.layer.{i}.{place}" for i in range(2) for place in places]
    assert len(new) == 4 * len(names)
    for name in names:
        encoder.get_submodule(name).register_forward_hook(
            lambda _, args, output, name=name: seen.update({name: (*args, output)})
        )
    outputs(encoder)
    for name in names:
        hidden, x, output = map(f64, seen[name])
        w, b = (f64(before[f"{name}.dense.{leaf}"]) for leaf in ("weight", "bias"))
        norm = [f64(before[f"{name}.LayerNorm.{leaf}"]) for leaf in ("weight", "bias")]
        leaves = ("down.0.weight", "down.0.bias", "up.weight", "up.bias")
        d, b_d, u, b_u = (f64(new[f"{name}.adapters.jiant_sparse.adapter_{v}"]) for v in leaves)
        f = hidden @ w.T + b
        inside = layer_norm(f + x, *norm) if norm_before else f
        change = activation(inside @ d.T + b_d) @ u.T + b_u
        assert np.abs(change).max() > 1e-3
        expected = layer_norm(change + f + x, *norm)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("config", "expected"), [("seq_bn", 894_528), ("double_seq_bn", 1_789_056)]
)
def test_roberta_base_gets_the_known_number_of_weights(config, expected):
    shape = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
    with torch.device("meta"):
        encoder = RobertaModel(shape)
    before = {name for name, _ in encoder.named_parameters()}
    attached(encoder, config=config)
    new = [p.numel() for name, p in encoder.named_parameters() if name not in before]
    assert sum(new) == expected
    assert surgery.count(encoder, before) == (0, expected)
    assert {p.device.type for p in encoder.parameters()} == {"meta"}


@pytest.mark.parametrize(("factor", "width"), [(None, 4), (1, 64), (2.5, 25), (64, 1), (0.5, 128)])
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


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_trains_or_says_why_not(config, kind):
    if config in PHM:
        with pytest.raises(InputError, match=f"config {config}.* does not fit .*phm_dim"):
            attached(wide(kind), config=config)
        return
    before = state(wide(kind))
    start = added(attached(wide(kind), config=config), before)
    # Without decay, so that what nothing reads stays as it is.
    encoder = trained(wide(kind), 3, weight_decay=0.0, config=config)
    assert all(torch.equal(p, before[n]) for n, p in state(encoder).items() if n in before)
    trains = {name for name, p in encoder.named_parameters() if p.requires_grad}
    size = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert surgery.count(encoder, before) == (0, size)
    after = added(encoder, before)
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    assert {name for name in trains if not any(part in name for part in IDLE)} <= moved <= trains


@pytest.mark.parametrize("config", PHM)
@pytest.mark.parametrize("init", [None, "bert"])
def test_compacters_train_where_their_blocks_fit(config, init):
    encoder = trained(wide(hidden=128), 2, config=config, init=init)
    assert any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(
    "config",
    ["seq_bn", "double_seq_bn_inv", "prefix_tuning", "ia3", "dora", "direft", "mam"],
)
def test_padding_does_not_change_the_output(config):
    encoder, generator = attached(wide(), config=config).eval(), torch.Generator().manual_seed(3)
    for p in encoder.parameters():
        if p.requires_grad:
            p.data += 0.1 * torch.randn(p.shape, generator=generator)
    padded, mask = nn.functional.pad(IDS, (0, 4)), nn.functional.pad(torch.ones_like(IDS), (0, 4))
    with torch.no_grad():
        short = encoder(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
        long = encoder(input_ids=padded, attention_mask=mask).last_hidden_state
    assert (short - outputs(wide().eval())[0]).abs().max() > 1e-3
    torch.testing.assert_close(long[:, :6], short, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", ["seq_bn", "seq_bn_inv", "prefix_tuning", "vera", "unipelt"])
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

    def elsewhere(name):
        return torch.Generator().manual_seed(derive(1, name))

    other = state(attached(wide(), elsewhere, config=config)).items()
    assert any(not torch.equal(one[name], p) for name, p in other)


@every_encoder
@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_encoder_is_kept(make, training):
    encoder = attached(make().train(training))
    assert {module.training for module in encoder.modules()} == {training}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": "seq_bm"}, "'seq_bm'; did you mean seq_bn? known: " + ", ".join(CONFIGS)),
        ({"config": "prompt_tuning"}, "is 'prompt_tuning'; did you mean prefix_tuning? known: "),
        ({"reduction_factor": 17}, "reduction_factor is 17.0; the hidden size is 16"),
        ({"config": "ia3", "reduction_factor": 2}, "is 2.0; the configuration ia3 has no"),
        ({"config": "mam", "reduction_factor": 2}, "is 2.0; the configuration mam has no"),
        ({"config": "prefix_tuning", "init": "bert"}, "configuration prefix_tuning has no init_w"),
        ({"config": "direft", "init": "mam_adapter"}, "is 'mam_adapter'; the configuration direft"),
        ({"config": "loreft"}, "config is 'loreft'; did you mean noreft?"),
        ({"reduction_factor": 1e-300}, "does not fit this encoder: "),
        ({"config": "lora", "init": "houlsby"}, "lora does not fit this encoder: Unknown init_w"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(fields, message):
    with pytest.raises(InputError) as caught:
        attached(bert(), **fields)
    assert message in str(caught.value)
