"""The pretrained encoder: found, checked before anything runs, and built as a jiant model."""

import dataclasses
import hashlib
import importlib.util
import json
import re
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from jiant_sparse.errors import InputError
from jiant_sparse.files import sha256

# jiant builds these two from their slow tokenizers; its other architectures are not tested here.
VOCABULARY_FILES = {"bert": ("vocab.txt",), "roberta": ("vocab.json", "merges.txt")}
_WEIGHTS = "model.safetensors"
_FILES = (
    "config.json",
    _WEIGHTS,
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A checked model directory.

    sha256: over the files that decide the model. initialised: encoder tensors that the weights
    lack and transformers draws at random: none, or the pooler's (every masked-language-model
    checkpoint). longest_sequence: in tokens.
    """

    path: Path
    sha256: str
    initialised: tuple[str, ...]
    longest_sequence: int


def resolve(name: str) -> ModelSource:
    """Find and check a model by hub name, local directory or `pkg://package/folder`.

    Raises InputError if it cannot be found, is not a BERT or RoBERTa encoder, or lacks its
    weights (safetensors), its slow tokenizer's files, or any tensor but the pooler's.
    """
    path = _locate(name)
    config = _read_config(path)
    kind = config["model_type"]
    for file in (_WEIGHTS, *VOCABULARY_FILES[kind]):
        if not (path / file).is_file():
            raise InputError(f"model {name}: {path} has no {file}{_hint(path, file)}")
    expected = empty_encoder(path)
    _check_vocabulary(path, kind, expected.config.vocab_size)
    initialised = _check_weights(path, expected)
    return ModelSource(path, digest(path), initialised, longest_sequence(expected.config))


def longest_sequence(config: Any) -> int:
    """Tokens that an encoder of this configuration takes at most."""
    # RoBERTa counts positions from padding_idx + 1 = 2.
    return config.max_position_embeddings - (2 if config.model_type == "roberta" else 0)


def digest(path: Path) -> str:
    """SHA-256 over names and bytes of the files that decide a model: weights and tokenizer."""
    found = [file for file in _FILES if (path / file).is_file()]
    return hashlib.sha256(repr([(f, sha256(path / f)) for f in found]).encode()).hexdigest()


def build(source: ModelSource, task: Any, pooling: str) -> Any:
    """jiant's model of the source with jiant's head for `task` (a jiant task).

    Draws the head, and the pooler if it is not in the weights, from torch's global generator.
    pooling: what the head reads: `pooler`, or the last layer's `first_token` or `mean`.
    """
    import jiant.proj.main.modeling.model_setup as model_setup
    from jiant.proj.main.components.container_setup import TaskmodelsConfig

    transformers.logging.set_verbosity_error()
    model = model_setup.setup_jiant_model(
        hf_pretrained_model_name_or_path=str(source.path),
        model_config_path=str(source.path / "config.json"),
        task_dict={task.name: task},
        taskmodels_config=TaskmodelsConfig(task_to_taskmodel_map={task.name: task.name}),
    )
    if pooling != "pooler":
        _pool(model.encoder, pooling)
    return model


def _pool(encoder: Any, pooling: str) -> None:
    """Give the head the last layer's first token or mean instead of the pooler's output."""
    plain = type(encoder).encode

    def encode(self: Any, input_ids: Any, segment_ids: Any, input_mask: Any, **options: Any) -> Any:
        output = plain(self, input_ids, segment_ids, input_mask, **options)
        if pooling == "first_token":
            return dataclasses.replace(output, pooled=output.unpooled[:, 0])
        mask = input_mask.unsqueeze(-1).to(output.unpooled.dtype)
        return dataclasses.replace(output, pooled=(output.unpooled * mask).sum(1) / mask.sum(1))

    encoder.encode = types.MethodType(encode, encoder)


def _locate(name: str) -> Path:
    if name.startswith("pkg://"):
        package, _, folder = name.removeprefix("pkg://").partition("/")
        try:
            spec = importlib.util.find_spec(package) if package.isidentifier() else None
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"model {name}: there is no installed package {package!r}")
        path = Path(spec.submodule_search_locations[0]) / folder
        if not path.is_dir():
            raise InputError(f"model {name}: the package {package} has no folder {folder!r}")
        return path
    if Path(name).is_dir():
        return Path(name).resolve()
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise InputError(f"model {name}: there is no such directory, and it is no hub name")
    return _download(name)


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=[*_FILES]))
    except Exception as error:  # the hub client's own errors, requests' and the system's
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"model {name}: is no local directory and cannot be had from the hub: {reason[0]} "
            "Give the path of a local model directory, or try again with the network"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in VOCABULARY_FILES:
        allowed = ", ".join(VOCABULARY_FILES)
        raise InputError(f"{file}: model_type is {kind!r}; it must be one of {allowed}")
    return config


def _hint(path: Path, file: str) -> str:
    if file == _WEIGHTS and (path / "pytorch_model.bin").exists():
        return (
            "; its pytorch_model.bin is a pickle, which is not read: "
            "load it with transformers once and save_pretrained(..., safe_serialization=True)"
        )
    if file != _WEIGHTS and (path / "tokenizer.json").exists():
        return "; jiant reads the slow tokenizer's files, tokenizer.json alone does not do"
    return ""


def empty_encoder(path: Path) -> Any:
    """The encoder of a model directory, on the meta device: without its weights.

    Raises InputError if transformers cannot build it.
    """
    try:
        with torch.device("meta"):
            return transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(path))
    except Exception as error:  # whatever a wrong value sets off inside transformers
        raise InputError(
            f"{path / 'config.json'}: transformers cannot build a model of it: "
            f"{type(error).__name__}: {error}"
        ) from error


def _check_vocabulary(path: Path, kind: str, size: int) -> None:
    file = path / VOCABULARY_FILES[kind][0]
    try:
        text = file.read_text(encoding="utf-8")
        tokens = json.loads(text) if kind == "roberta" else text.splitlines()
    except ValueError as error:
        raise InputError(f"{file}: cannot be read: {error}") from error
    if kind == "roberta" and not isinstance(tokens, dict):
        raise InputError(f"{file}: holds {type(tokens).__name__}; it must map tokens to ids")
    if len(tokens) > size:
        raise InputError(f"{file}: has {len(tokens)} tokens; config.json says vocab_size {size}")
    if kind == "roberta" and tokens.get("<pad>") != 1:
        pad = tokens.get("<pad>")
        raise InputError(f"{file}: <pad> has id {pad}; jiant pads RoBERTa's input with 1")


def _check_weights(path: Path, expected: Any) -> tuple[str, ...]:
    """The pooler's tensors if the file lacks them; InputError if any other tensor is amiss."""
    file = path / _WEIGHTS
    try:
        with safe_open(file, "pt") as weights:
            keys = _encoder_keys(weights.keys(), expected.config.model_type)
            shapes = {name: weights.get_slice(key).get_shape() for name, key in keys.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file: {error}") from error
    missing = [name for name, _ in expected.named_parameters() if name not in shapes]
    absent = [name for name in missing if not name.startswith("pooler.")]
    if absent:
        raise InputError(
            f"{file}: lacks {len(absent)} of the encoder's tensors, first {absent[0]}: "
            f"these are not the weights of {path / 'config.json'}"
        )
    for name, tensor in expected.named_parameters():
        if name in shapes and list(tensor.shape) != shapes[name]:
            raise InputError(
                f"{file}: {name} has shape {shapes[name]}; "
                f"{path / 'config.json'} says {list(tensor.shape)}"
            )
    return tuple(missing)


def _encoder_keys(keys: Iterable[str], kind: str) -> dict[str, str]:
    """Encoder tensor -> key in the file, whose names may be older or have a prefix."""
    return {
        key.removeprefix(f"{kind}.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): key
        for key in keys
    }
