"""An encoder's config.json, checked before a model is built.

Only the fields that decide the encoder reach transformers. Fields that would change the model are
refused. All other fields concern heads, text generation or memory, and are ignored.
"""

import reprlib
from pathlib import Path
from typing import Any

import torch
import transformers

from jiant_sparse.errors import InputError
from jiant_sparse.host.model_files import (
    CONFIG,
    VOCABULARY,
    Rule,
    number,
    one_of,
    read_object,
    whole,
    wrong,
)

# Bounds of ten times the largest in use and more: no directory can ask for unlimited memory.
_DECIDING: dict[str, Rule] = {
    "vocab_size": whole(5, 2**20),
    "hidden_size": whole(1, 2**14),
    "num_hidden_layers": whole(1, 2**10),
    "num_attention_heads": whole(1, 2**10),
    "intermediate_size": whole(1, 2**17),
    "max_position_embeddings": whole(3, 2**20),
    "type_vocab_size": whole(1, 2**10),
    "hidden_dropout_prob": number(0, 0.9),
    "attention_probs_dropout_prob": number(0, 0.9),
    "layer_norm_eps": number(1e-15, 0.1),
    "initializer_range": number(1e-6, 1),
    "position_embedding_type": one_of("absolute", "relative_key", "relative_key_query"),
    "hidden_act": (lambda value: isinstance(value, str), "the name of a function"),
}
_ABSENT = one_of(None)[0], "absent"
_REFUSED: dict[str, Rule] = {
    "chunk_size_feed_forward": one_of(0, None),
    "output_attentions": one_of(False, None),
    "output_hidden_states": one_of(False, None),
    "torchscript": one_of(False, None),
    "return_dict": one_of(True, None),
    "is_decoder": one_of(False, None),
    "is_encoder_decoder": one_of(False, None),
    "add_cross_attention": one_of(False, None),
    "pruned_heads": one_of({}, None),
    "quantization_config": _ABSENT,
    "auto_map": _ABSENT,  # the model's own code, which jiant would not run
    "adapters": _ABSENT,
    "configuration_files": _ABSENT,  # transformers would read another file instead
}
# jiant pads with these ids, and gives BERT's second text the segment 1.
_BY_KIND: dict[str, dict[str, Rule]] = {
    "bert": {
        "pad_token_id": one_of(0),
        "type_vocab_size": whole(2, 2**10),
        "tokenizer_class": one_of("BertTokenizer", "BertTokenizerFast", None),
    },
    "roberta": {
        "pad_token_id": one_of(1),
        "tokenizer_class": one_of("RobertaTokenizer", "RobertaTokenizerFast", None),
    },
}


def read(path: Path) -> dict[str, Any]:
    """The deciding fields of a config file and its `model_type`. path: the file or its directory.

    Raises InputError with every field that is not allowed.
    """
    file = path / CONFIG if path.is_dir() else path
    fields = read_object(file)
    kind = fields.get("model_type")
    if not isinstance(kind, str) or kind not in VOCABULARY:
        allowed = ", ".join(VOCABULARY)
        raise InputError(f"{file}: model_type is {reprlib.repr(kind)}; it must be one of {allowed}")
    if problems := wrong(file, fields, _DECIDING | _REFUSED | _BY_KIND[kind]):
        raise InputError(*problems)
    return {key: fields[key] for key in ("model_type", *_DECIDING) if key in fields}


def load(path: Path) -> Any:
    """transformers' configuration with the fields that `read` gives."""
    return transformers.AutoConfig.for_model(**read(path))


def empty_encoder(path: Path) -> Any:
    """The encoder of a config file or a model directory, without weights: on the meta device.

    Raises InputError if transformers cannot build it.
    """
    config = load(path)
    try:
        with torch.device("meta"):
            return transformers.AutoModel.from_config(config)
    except Exception as error:  # whatever a wrong value causes inside transformers
        raise InputError(
            f"{path / CONFIG if path.is_dir() else path}: transformers cannot build a model of it: "
            f"{type(error).__name__}: {error}"
        ) from error


def longest_sequence(config: Any) -> int:
    """The most tokens that an encoder with this configuration takes."""
    # RoBERTa counts positions from padding_idx + 1 = 2.
    return config.max_position_embeddings - (2 if config.model_type == "roberta" else 0)
