"""Tiny models of several families for the library's tests, and a plain training loop."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from jiant_sparse import SparseConfig, SparseModel, get_sparse_model
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.step import optimizer_step
from support.models import SIZES

_drawn = torch.Generator().manual_seed(3)
IDS = torch.randint(4, 50, (4, 6), generator=_drawn)
LABELS = torch.randint(0, 3, (4,), generator=_drawn)
_TEXT = {"input_ids": IDS, "labels": LABELS}
_NEXT = {"input_ids": IDS, "labels": IDS}
_PAIRS = {"input_ids": IDS.view(2, 2, 6), "labels": LABELS[:2] % 2}
_IMAGES = {"pixel_values": torch.randn(4, 3, 8, 8, generator=_drawn), "labels": LABELS}
_BERT = {"vocab_size": 50, "num_labels": 3, **SIZES}
_LLAMA = {**_BERT, "num_key_value_heads": 1}
_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40, "vocab_size": 50}
_T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 50}
_VIT = {"image_size": 8, "patch_size": 4, "num_labels": 3, **SIZES}
_RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "num_labels": 3}

FAMILIES: dict[str, tuple[Callable[[], nn.Module], dict[str, Tensor]]] = {
    "bert": (lambda: BertForSequenceClassification(BertConfig(**_BERT)), _TEXT),
    "roberta": (lambda: RobertaForSequenceClassification(RobertaConfig(**_BERT)), _TEXT),
    "choice": (lambda: BertForMultipleChoice(BertConfig(**_BERT)), _PAIRS),
    "llama": (lambda: LlamaForCausalLM(LlamaConfig(**_LLAMA)), _NEXT),
    "tied": (lambda: LlamaForCausalLM(LlamaConfig(**_LLAMA, tie_word_embeddings=True)), _NEXT),
    "gpt2": (lambda: GPT2LMHeadModel(GPT2Config(**_GPT2, loss_type="ForCausalLM")), _NEXT),
    "t5": (
        lambda: T5ForConditionalGeneration(T5Config(**_T5, decoder_start_token_id=0)),
        _NEXT,
    ),
    "vit": (lambda: ViTForImageClassification(ViTConfig(**_VIT)), _IMAGES),
    "resnet": (lambda: ResNetForImageClassification(ResNetConfig(**_RESNET)), _IMAGES),
}


def make(family: str = "bert", seed: int = 0) -> nn.Module:
    """A random model, in evaluation mode; the same for the same seed."""
    torch.manual_seed(seed)
    return FAMILIES[family][0]().eval()


def batch_of(family: str = "bert") -> dict[str, Tensor]:
    return FAMILIES[family][1]


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names in the same order, and the same bits."""
    return [*one] == [*other] and all(
        torch.equal(a.view(torch.uint8) if a.dim() else a, b.view(torch.uint8) if b.dim() else b)
        for a, b in zip(one.values(), other.values(), strict=True)
    )


def logits(model: nn.Module, family: str = "bert") -> Tensor:
    with torch.no_grad():
        return model(**batch_of(family)).logits


def tune(model: SparseModel, family: str = "bert", steps: int = 3, seed: int = 0) -> SparseModel:
    """Some steps of AdamW with decay on one batch; leaves the model in evaluation mode."""
    optimizer = AdamW(model.optimizer_groups(0.1), lr=1e-2)
    model.train()
    for step in range(1, steps + 1):
        torch.manual_seed(seed + step)
        (model(**batch_of(family)).loss + model.method.penalty()).backward()
        optimizer_step(model, model.method, optimizer, step, max_grad_norm=1.0)
    return model.eval()


def tuned(
    family: str = "bert", method: str = "random", seed: int = 0, **fields: Any
) -> SparseModel:
    """A fresh model of a family, trained for three steps."""
    config = SparseConfig(method, seed=seed, **fields)
    model = get_sparse_model(make(family), config, [batch_of(family)] * 2)
    return tune(model, family, seed=seed)
