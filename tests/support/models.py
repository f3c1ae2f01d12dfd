"""Tiny real models and a training loop without jiant, made on the spot for the tests."""

import copy
import dataclasses
import itertools
import json
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from jiant_sparse.methods import base as methods
from jiant_sparse.methods.base import Method
from jiant_sparse.seeds import derive
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.optimizer import AdamW
from jiant_sparse.sparse.parametrizations import Mixed, SparseWeight
from jiant_sparse.sparse.step import optimizer_step

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 130,
}


def bert(seed: int = 0, vocabulary: int = 50) -> BertModel:
    """A random BERT encoder of about 8,000 weights."""
    torch.manual_seed(seed)
    return BertModel(BertConfig(vocab_size=vocabulary, **SIZES))


def roberta(seed: int = 0, vocabulary: int = 50) -> RobertaModel:
    """A random RoBERTa encoder, with a pooler."""
    torch.manual_seed(seed)
    return RobertaModel(RobertaConfig(vocab_size=vocabulary, type_vocab_size=1, **SIZES))


def rng(name: str) -> torch.Generator:
    """The stream `name` of a run with seed 0."""
    return torch.Generator().manual_seed(derive(0, name))


class Trainer:
    """Trains an encoder and a linear head on random token sequences, without jiant."""

    def __init__(self, encoder: nn.Module, *, pooled: bool = True) -> None:
        self.encoder = encoder
        self.pooled = pooled
        torch.manual_seed(11)
        self.head = nn.Linear(SIZES["hidden_size"], 3)
        self.batches = torch.Generator().manual_seed(12)
        self.losses: list[float] = []
        self.optimizer: torch.optim.Optimizer | None = None
        self.step = 0

    def backward(
        self, generator: torch.Generator, penalty: Tensor | float = 0.0, size: int = 4
    ) -> None:
        ids = torch.randint(4, 50, (size, 6), generator=generator)
        labels = torch.randint(0, 3, (size,), generator=generator)
        output = self.encoder(input_ids=ids)
        features = output.pooler_output if self.pooled else output.last_hidden_state[:, 0]
        loss = nn.functional.cross_entropy(self.head(features), labels) + penalty
        loss.backward()
        self.losses.append(loss.item())

    def probe(
        self,
        batches: int | None,
        *,
        repeat: bool = True,
        dropout: bool = False,
        max_grad_norm: float | None = None,
        batch_size: int | None = None,
        head_steps: int = 0,
    ) -> Iterator[float]:
        """A pass has 100 batches, all of them full; the head stays as it is."""
        generator = torch.Generator().manual_seed(13)
        parts = nn.ModuleList([self.encoder, self.head])
        batches = batches if batches and repeat else min(batches or 100, 100)
        with torch.random.fork_rng([]):
            for _ in range(batches):
                parts.train(dropout).zero_grad()
                self.backward(generator, size=batch_size or 4)
                if max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(parts.parameters(), max_grad_norm)
                yield 1.0
        parts.zero_grad()

    def train(self, method: Method, steps: int, weight_decay: float = 0.1) -> None:
        """Further steps; the optimiser is made at the first one and remembered."""
        parts = nn.ModuleList([self.encoder, self.head]).train()
        if self.optimizer is None:
            groups = surgery.parameter_groups(parts, weight_decay)
            self.optimizer = AdamW(groups, lr=1e-2)
        for _ in range(steps):
            self.step += 1
            torch.manual_seed(self.step)
            self.backward(self.batches, method.penalty())
            optimizer_step(parts, method, self.optimizer, self.step, max_grad_norm=1.0)

    def take_over(self, other: "Trainer", weight_decay: float = 0.1) -> None:
        """Go on where `other`, whose weights these are, has come to."""
        parts = nn.ModuleList([self.encoder, self.head])
        self.optimizer = AdamW(surgery.parameter_groups(parts, weight_decay), lr=1e-2)
        theirs = nn.ModuleList([other.encoder, other.head]).named_parameters()
        for (_, old), new in zip(theirs, parts.parameters(), strict=True):
            if old in other.optimizer.state:
                self.optimizer.state[new] = copy.deepcopy(other.optimizer.state[old])
        self.batches.set_state(other.batches.get_state())
        self.step = other.step


def quick_fields(name: str) -> dict[str, int]:
    """Fields of a method that bring it, within 8 steps, to where it would come in hundreds."""
    quick = {"burn_in": 4, "interval": 2, "samples": 3, "stage_steps": 2}
    return {
        field.name: quick[field.name]
        for field in dataclasses.fields(methods.find(name))
        if field.name in quick and (field.default is None or field.default > quick[field.name])
    }


def bits(tensor: Tensor) -> Tensor:
    """The bits of float32 values, as integers: 0.0 and -0.0 differ."""
    return tensor.detach().contiguous().view(torch.int32)


def sigmoid(x: object) -> np.ndarray:
    """In float64."""
    return 1 / (1 + np.exp(-np.asarray(x, dtype=np.float64)))


def effective(encoder: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """What the modules compute with at this moment, by the tensors' first names."""
    found = {}
    for name in names:
        path, _, leaf = name.rpartition(".")
        found[name] = getattr(encoder.get_submodule(path), leaf).detach().clone()
    return found


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every named parameter."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def stored(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every tensor that trains, by the tensors' first names."""
    return {
        name.replace("parametrizations.", "").removesuffix(".original"): value
        for name, value in state(module).items()
    }


def outputs(encoder: nn.Module) -> list[Tensor]:
    """What an encoder in its present mode makes of three texts."""
    ids = torch.randint(4, 50, (3, 6), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = encoder(input_ids=ids)
    return [found.last_hidden_state, found.pooler_output]


def trained_masks(encoder: nn.Module, names: list[str]) -> dict[str, Tensor]:
    """Which entries of each original tensor may change, as bool tensors of its shape."""
    masks = {}
    for name in names:
        path, _, leaf = name.rpartition(".")
        module = encoder.get_submodule(path)
        whole = module._parameters.get(leaf)
        if whole is not None:
            masks[name] = torch.full(whole.shape, whole.requires_grad)
            continue
        stack = module.parametrizations[leaf]
        index = {SparseWeight: "index", Mixed: "kept"}.get(type(stack[0]))
        index = index and getattr(stack[0], index)
        masks[name] = torch.full(stack.original.shape, index is None)
        if index is not None:
            masks[name].view(-1)[index] = True
    return masks


def attach_watched(method: Method, encoder: nn.Module, *, pooled: bool = True) -> tuple:
    """The masks of what trains, the gradients that the method saw, and what it asked for."""
    names = [name for name, _ in encoder.named_parameters()]
    trainer = Trainer(encoder, pooled=pooled)
    seen: dict[str, list[np.ndarray]] = {name: [] for name in names}
    asked = []

    def probe(batches, **options):
        asked.append((batches, options))
        for share in trainer.probe(batches, **options):
            for name, p in encoder.named_parameters():
                gradient = np.zeros(p.shape) if p.grad is None else p.grad.double().numpy()
                seen[name].append(gradient.copy())
            yield share

    method.attach(encoder, probe, rng)
    masks = {name: mask.numpy() for name, mask in trained_masks(encoder, names).items()}
    return masks, {name: np.stack(parts) for name, parts in seen.items()}, asked


def end_to_end(parts: Iterable[np.ndarray]) -> np.ndarray:
    """All entries in one vector."""
    return np.concatenate([part.ravel() for part in parts])


def largest_mask(scores: np.ndarray, sizes: Iterable[int], density: float) -> np.ndarray:
    """The largest scores of each stretch of these sizes, as a mask; among equals the earlier."""
    mask, first = np.zeros(scores.size, bool), 0
    for size in sizes:
        order = np.argsort(-scores[first : first + size], kind="stable")
        mask[first + order[: int(size * density)]] = True
        first += size
    return mask


@contextmanager
def file_sizes_up_to(size: int) -> Iterator[None]:
    """What a full disk does to a write, as a limit of this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_bert(path: Path, texts: list[str]) -> Path:
    """A BERT model directory with a vocabulary of the texts' words and letters."""
    words = sorted({word.lower() for text in texts for word in _split(text)})
    letters = sorted({letter for word in words for letter in word})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokens += [token for letter in letters for token in (letter, f"##{letter}")]
    tokens = list(dict.fromkeys(tokens))
    bert(vocabulary=len(tokens)).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return path


def write_roberta(path: Path, texts: list[str]) -> Path:
    """A RoBERTa directory as the hub has them: byte-level BPE, masked-LM weights, no pooler."""
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts, vocab_size=600, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    tokenizer.save_model(str(path))
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    config = RobertaConfig(vocab_size=size, type_vocab_size=1, pad_token_id=1, **SIZES)
    RobertaForMaskedLM(config).save_pretrained(path)
    return path


def write_shape(path: Path, kind: str = "bert") -> str:
    """A directory with the tiny models' configuration alone, as measurements take it."""
    sizes = {"model_type": kind, "vocab_size": 50, "type_vocab_size": 2 - (kind == "roberta")}
    (path / "config.json").write_text(json.dumps(sizes | SIZES))
    return str(path)


def _split(text: str) -> list[str]:
    return "".join(c if c.isalnum() else f" {c} " for c in text).split()


def in_turn(names: Iterable[str], *encoders: str) -> list:
    """Parameters: each name with one of the fixtures of encoders, which take turns."""
    pairs = zip(names, itertools.cycle(encoders), strict=False)
    return [pytest.param(*pair, id=pair[0]) for pair in pairs]
