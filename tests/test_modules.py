"""Low-rank updates and the choice of layers by name, against formulas in float64."""

import numpy as np
import pytest
import torch
from support.models import bert
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import modules


class Tree(nn.Module):
    """Linear layers at several depths, and some that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)
        self.block = nn.ModuleDict({"out": nn.Linear(4, 3, bias=False), "norm": nn.LayerNorm(3)})
        self.deep = nn.ModuleDict({"block": nn.ModuleDict({"out": nn.Linear(2, 2)})})
        self.logout = nn.Linear(2, 2)
        self.words = nn.Embedding(5, 4)


def layer(bias: bool = True, **options) -> nn.Sequential:
    """A 6 -> 5 layer with known weights, in a container."""
    generator = torch.Generator().manual_seed(1)
    linear = nn.Linear(6, 5, bias=bias, **options)
    for parameter in linear.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return nn.Sequential(linear)


def draw(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def filled(model: nn.Sequential, **options) -> nn.Module:
    """Its layer with an update whose matrices are both random."""
    new = modules.add_low_rank(model, "0", **({"dropout": 0.0} | options))
    new.lora_A.data.copy_(draw(*new.lora_A.shape, seed=3))
    new.lora_B.data.copy_(draw(*new.lora_B.shape, seed=4))
    return new


def f64(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["out"], ["out", "block.out", "deep.block.out"]),
        (["block.out"], ["block.out", "deep.block.out"]),
        (["deep.block.out"], ["deep.block.out"]),
        (["logout", "out"], ["out", "block.out", "deep.block.out", "logout"]),
        (["block.out", "out", "out"], ["out", "block.out", "deep.block.out"]),
    ],
)
def test_layers_match_by_the_end_of_their_dotted_name_once_each_in_order(ends, expected):
    assert modules.matching(Tree(), ends) == expected


MATCHES = "modules: {!r} matches {}, a {}; it must be linear"
NOTHING = "modules: no module's name ends in {!r}; linear layers end in logout, out"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        *((end, NOTHING.format(end)) for end in ("ogout", "out.", ".out", "", "weight", "Out")),
        ("norm", MATCHES.format("norm", "block.norm", "LayerNorm")),
        ("words", MATCHES.format("words", "words", "Embedding")),
        ("deep", MATCHES.format("deep", "deep", "ModuleDict")),
    ],
)
def test_an_end_that_no_linear_layer_has_is_named(end, message):
    with pytest.raises(InputError) as caught:
        modules.matching(Tree(), ["out", end])
    assert str(caught.value) == message


def test_the_rank_is_at_most_the_smaller_side_and_no_weight_is_tied():
    modules.check_low_rank(layer(), ["0"], 5)
    with pytest.raises(InputError, match="^rank is 6; 0 is 5x6, so it must be at most 5$"):
        modules.check_low_rank(layer(), ["0"], 6)
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Embedding(4, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    modules.check_low_rank(model, ["c"], 2)
    with pytest.raises(InputError, match="a shares its weight with another module; leave it out"):
        modules.check_low_rank(model, ["c", "a"], 2)


def test_the_weights_of_linear_layers_are_all_matrices_but_the_embeddings():
    encoder = bert()
    expected = {
        name
        for name, p in encoder.named_parameters()
        if p.dim() == 2 and not name.startswith("embeddings.")
    }
    assert len(expected) == 2 * 6 + 1
    assert modules.linear_weights(encoder) == expected
    assert modules.linear_weights(nn.Linear(2, 2)) == {"weight"}


@pytest.mark.parametrize(
    ("dtype", "training", "bias"),
    [(torch.float32, True, True), (torch.float64, False, False), (torch.bfloat16, False, True)],
)
def test_the_new_layer_holds_the_old_tensors_and_zeros(dtype, training, bias):
    model = layer(bias=bias, dtype=dtype).train(training)
    old, before = model[0], torch.get_rng_state()
    new = modules.add_low_rank(model, "0", rank=2, alpha=3.0, dropout=0.5)
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn"
    assert model[0] is new is not old
    assert (new.weight is old.weight) and (new.bias is old.bias)
    assert torch.equal(new.lora_A, torch.zeros(2, 6, dtype=dtype))
    assert torch.equal(new.lora_B, torch.zeros(5, 2, dtype=dtype))
    assert new.lora_A.requires_grad and new.lora_B.requires_grad
    names = ["0.bias", "0.lora_A", "0.lora_B", "0.lora_base", "0.weight"]
    assert sorted(model.state_dict()) == names[not bias :]
    assert new.training == new.lora_dropout.training == training
    x = draw(7, 6).to(dtype)
    assert torch.equal(model(x), nn.functional.linear(x, old.weight, old.bias))


@pytest.mark.parametrize(
    ("bias", "rank", "alpha"), [(True, 1, 1.0), (False, 2, 16.0), (True, 5, 0.3)]
)
def test_output_and_gradients_follow_the_formula(bias, rank, alpha):
    model, given, upstream = layer(bias), draw(7, 6), draw(7, 5, seed=5)
    new = filled(model, rank=rank, alpha=alpha)
    output = model(given)
    output.backward(upstream)
    w, a, b, x, g = (f64(t) for t in (new.weight, new.lora_A, new.lora_B, given, upstream))
    expected = x @ w.T + alpha / rank * (x @ a.T @ b.T)
    if bias:
        expected += f64(new.bias)
    np.testing.assert_allclose(f64(output), expected, rtol=1e-5, atol=1e-5)
    by_a, by_b = alpha / rank * b.T @ g.T @ x, alpha / rank * g.T @ x @ a.T
    np.testing.assert_allclose(f64(new.lora_A.grad), by_a, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(f64(new.lora_B.grad), by_b, rtol=1e-4, atol=1e-4)
    for mode in (False, False, True, False):
        model.train(mode)
        assert torch.equal(model(given), output), "nothing is merged by evaluation"


def test_new_tensors_are_where_the_layer_is():
    on_meta = modules.add_low_rank(
        nn.Sequential(nn.Linear(6, 5, device="meta")), "0", rank=2, alpha=1.0, dropout=0.0
    )
    assert {p.device.type for p in on_meta.parameters()} == {"meta"}
    model = layer()
    with torch.device("meta"):
        on_cpu = modules.add_low_rank(model, "0", rank=2, alpha=1.0, dropout=0.0)
    assert {p.device.type for p in on_cpu.parameters()} == {"cpu"}


def test_folding_puts_the_update_into_the_weight_and_drops_its_matrices():
    model = layer()
    new = filled(model, rank=2, alpha=3.0)
    others = {"a.weight": draw(2, 2), "lora_A.weight": draw(3, 2)}
    tensors = {k: v.detach().clone() for k, v in model.named_parameters()} | others
    given = {name: tensor.clone() for name, tensor in tensors.items()}
    folded = modules.fold_low_rank(tensors, 3.0 / 2)
    assert set(folded) == {"0.weight", "0.bias", *others}
    expected = f64(new.weight) + 1.5 * f64(new.lora_B) @ f64(new.lora_A)
    np.testing.assert_allclose(f64(folded["0.weight"]), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(folded[name], given[name]) for name in ("0.bias", *others))
    assert all(torch.equal(tensors[name], given[name]) for name in given), "inputs stay"
