"""A pretrained encoder: find it, check it before anything runs, build it as a jiant model."""

import dataclasses
import importlib.util
import os
import re
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import snapshot_download

from jiant_sparse.errors import InputError, cut
from jiant_sparse.host import encoder_config, tokenizer, weights
from jiant_sparse.host.encoder_config import empty_encoder, longest_sequence
from jiant_sparse.host.model_files import CONFIG, FILES, VOCABULARY, WEIGHTS, digest, present, view

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_ADAPTER = "adapter_config.json"


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """A checked model directory.

    sha256: over the files that decide the model. initialised: encoder tensors that the weights lack
    and transformers draws at random: the pooler's (of every masked-language-model checkpoint) or
    none. longest_sequence: in tokens.
    """

    path: Path
    sha256: str
    initialised: tuple[str, ...]
    longest_sequence: int


def resolve(name: str) -> ModelSource:
    """Find and check a model. name: a local directory, a hub name or `pkg://package/folder`.

    Raises InputError if there is no such model, if it is not a BERT or RoBERTa encoder, or if its
    configuration, its weights (safetensors) or its slow tokenizer's files are missing, damaged or
    do not fit each other. Only the pooler's tensors may be missing.
    """
    path = _locate(name)
    if os.path.lexists(path / _ADAPTER):
        raise InputError(
            f"{path / _ADAPTER}: the directory holds an adapter; it must hold a whole model: merge "
            f"the adapter and save it without {_ADAPTER}"
        )
    found = present(path)
    expected = empty_encoder(path)
    config = expected.config
    for file in (WEIGHTS, *VOCABULARY[config.model_type]):
        if file not in found:
            raise InputError(f"model {name}: {path} has no {file}{_hint(path, file)}")
    tokenizer.check(path, config.model_type, config.vocab_size)
    initialised = weights.check(path / WEIGHTS, expected, path / CONFIG)
    return ModelSource(path, digest(path), initialised, longest_sequence(config))


@contextmanager
def seen(path: Path) -> Iterator[Path]:
    """A temporary view of a model directory for transformers and jiant: the checked files alone.

    Raises InputError if the configuration or the tokenizer's settings are wrong.
    """
    config = encoder_config.read(path)
    written = {CONFIG: config, **tokenizer.settings(path, config["model_type"])}
    with view(path, written) as made:
        yield made


def build(source: ModelSource, task: Any, pooling: str) -> Any:
    """jiant's model with jiant's head for `task` (a jiant task).

    Draws the head, and a pooler that the weights lack, from torch's global generator.
    pooling: input of the head: `pooler`, or the last layer's `first_token` or `mean`.
    """
    import jiant.proj.main.modeling.model_setup as model_setup
    from jiant.proj.main.components.container_setup import TaskmodelsConfig

    transformers.logging.set_verbosity_error()
    with seen(source.path) as directory:
        model = model_setup.setup_jiant_model(
            hf_pretrained_model_name_or_path=str(directory),
            model_config_path=str(directory / CONFIG),
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
        mask = input_mask.unsqueeze(-1).to(output.unpooled)
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
    if os.path.isdir(name):
        return Path(name).resolve()
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise InputError(f"model {name}: there is no such directory, and it is no hub name")
    return _download(name)


def _download(name: str) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=[*FILES]))
    except Exception as error:  # the hub client's own errors, requests' and the system's
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"model {cut(name, 100)}: is no local directory and cannot be had from the hub: "
            f"{cut(reason[0], 500)} Give the path of a local model directory, or try again with "
            "the network"
        ) from error


def _hint(path: Path, file: str) -> str:
    if file == WEIGHTS and (path / "pytorch_model.bin").exists():
        return (
            "; its pytorch_model.bin is a pickle, which is not read: "
            "load it with transformers once and save_pretrained(..., safe_serialization=True)"
        )
    if file != WEIGHTS and (path / "tokenizer.json").exists():
        return "; jiant reads the slow tokenizer's files, tokenizer.json alone does not do"
    return ""
