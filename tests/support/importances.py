"""Encoders small enough to unfold, and the importance of each of their weights."""

import copy

import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from jiant_sparse.methods import base
from support.models import rng
from support.unfolded import Unfolded

SIZES = {
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 14,
}


def bert() -> BertModel:
    torch.manual_seed(0)
    return BertModel(BertConfig(vocab_size=45, **SIZES))


def roberta() -> RobertaModel:
    torch.manual_seed(0)
    return RobertaModel(RobertaConfig(vocab_size=45, type_vocab_size=1, pad_token_id=1, **SIZES))


def randomised(encoder: torch.nn.Module) -> torch.nn.Module:
    """With biases that are not zero, and some weights that are."""
    generator = torch.Generator().manual_seed(4)
    for weight in encoder.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data += 0.1 * noise * (noise.abs() > 0.3)
        weight.data[noise > 2] = 0
    return encoder.train()


def loss(encoder: torch.nn.Module, ids: torch.Tensor, pad: int) -> torch.Tensor:
    torch.manual_seed(8)
    output = encoder(input_ids=ids, attention_mask=(ids != pad).long())
    return (output.pooler_output * torch.linspace(-1, 2, 8)).square().sum()


def after_backward(name: str, make, **fields):
    """(the method with a batch's gradients, importance by tensor name of a twin, the encoder)."""
    pad = 0 if make is bert else 1
    ids = torch.tensor([[5, 9, 14, 31, 9], [7, 22, 4, pad, pad], [41, 5, 8, 30, pad]])
    plain = randomised(make())
    encoder = copy.deepcopy(plain)
    method = base.find(name)(**fields)
    method.attach(encoder, None, rng)
    loss(encoder, ids, pad).backward()
    unfolded = Unfolded(absolute=fields.get("mean") == "absolute")
    with unfolded.passing((ids != pad) | fields.get("padding", False)):
        found = loss(plain, ids, pad)
    found.backward()
    return method, unfolded.importance(plain), encoder
