"""BitFit: every bias, nothing else."""

import pytest
import torch
from support.models import Trainer, bert, rng
from torch import nn
from transformers import RobertaConfig, RobertaModel

from jiant_sparse.errors import InputError
from jiant_sparse.methods.bitfit import BitFit
from jiant_sparse.sparse import selection, surgery


def test_counts_of_roberta_base():
    """102,912 biases among 124,645,632 weights, of which 0.5 % are 623,228."""
    with torch.device("meta"):
        encoder = RobertaModel(
            RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
        )
    weights = surgery.eligible(encoder)
    assert len(weights) == 199
    total = sum(tensor.numel() for tensor in weights.values())
    assert (total, selection.budget(total, 0.005)) == (124_645_632, 623_228)
    BitFit().attach(encoder, None, rng)
    assert surgery.count(encoder, weights.keys()) == (102_912, 0)


def test_exactly_the_biases_train():
    encoder = bert()
    BitFit().attach(encoder, Trainer(encoder).probe, rng)
    for name, parameter in encoder.named_parameters():
        assert parameter.requires_grad == name.endswith(".bias"), name


def test_an_encoder_without_biases_is_refused():
    with pytest.raises(InputError, match="the encoder has no tensor called bias"):
        BitFit().attach(nn.Embedding(3, 2), None, rng)
