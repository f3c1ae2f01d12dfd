"""MultiHead: the attention modules of every block, nothing else."""

import pytest
import torch
from support.models import Trainer, bert, rng, roberta, state
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.methods.multi_head import MultiHead
from jiant_sparse.sparse import surgery

LINEAR = ("self.query", "self.key", "self.value", "output.dense")


def expected(layers: int, parts: tuple[str, ...]) -> set[str]:
    """Names of weights and biases, written out."""
    return {
        f"encoder.layer.{layer}.attention.{part}.{leaf}"
        for layer in range(layers)
        for part in parts
        for leaf in ("weight", "bias")
    }


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize(
    ("layer_norm", "parts"), [(False, LINEAR), (True, (*LINEAR, "output.LayerNorm"))]
)
def test_exactly_the_attention_trains_and_moves(make, layer_norm, parts):
    encoder = make()
    trainer, method = Trainer(encoder), MultiHead(layer_norm=layer_norm)
    before = state(encoder)
    method.attach(encoder, trainer.probe, rng)
    names = expected(2, parts)
    assert {name for name, p in encoder.named_parameters() if p.requires_grad} == names
    # q, k, v and o of 16 x 16 with their biases; LayerNorm's two vectors.
    count = 2 * (4 * (16 * 16 + 16) + (2 * 16 if layer_norm else 0))
    assert surgery.count(encoder, before.keys()) == (count, 0)
    trainer.train(method, 3)
    after = state(encoder)
    assert {name for name in before if not torch.equal(after[name], before[name])} == names


@pytest.mark.parametrize(
    ("remove", "layer_norm", "missing"),
    [
        ("attention", False, "attention.self.query"),
        ("attention.self.value", False, "attention.self.value"),
        ("attention.output.dense", False, "attention.output.dense"),
        ("attention.output.LayerNorm", True, "attention.output.LayerNorm"),
    ],
)
def test_an_encoder_without_a_part_is_refused_and_left_alone(remove, layer_norm, missing):
    encoder = bert()
    for layer in encoder.encoder.layer:
        path, _, leaf = remove.rpartition(".")
        setattr(layer.get_submodule(path), leaf, nn.Identity())
    looked = ", ".join(f"attention.{part}" for part in LINEAR)
    if layer_norm:
        looked += ", attention.output.LayerNorm"
    with pytest.raises(InputError) as error:
        MultiHead(layer_norm=layer_norm).attach(encoder, None, rng)
    assert str(error.value) == (
        f"multi_head: the encoder has no weights in {missing}; looked for {looked} in its blocks"
    )
    assert all(p.requires_grad for p in encoder.parameters())


def test_a_name_that_only_ends_alike_is_not_the_attention():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = bert().encoder.layer[0].attention
            self.crossattention = bert().encoder.layer[0].attention

    encoder = Block()
    MultiHead().attach(encoder, None, rng)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) == 8
    assert all(name.startswith("attention.") for name in trained)
