"""Checks of an encoder's weights in a safetensors file: complete, nothing else, all finite."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from jiant_sparse.errors import InputError

# transformers converts these to float32 without loss.
_DTYPES = ("F32", "F16", "BF16")
_OLD_ENDS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def check(file: Path, expected: Any, config: Path) -> tuple[str, ...]:
    """Check the file's encoder tensors. Returns the pooler's names if the file lacks them.

    expected: the encoder of the configuration file `config`, without weights. The file may hold
    tensors of heads; they are not read. Raises InputError for anything else.
    """
    try:
        with safe_open(file, "pt") as weights:
            metadata = weights.metadata()
            if metadata is not None and metadata.get("format") != "pt":
                found = metadata.get("format")
                raise InputError(f"{file}: its metadata say format {found!r}; it must be 'pt'")
            keys = _encoder_keys(file, weights.keys(), expected)
            missing = _check_names(file, set(keys), expected, config)
            for name, parameter in expected.named_parameters():
                if name in keys:
                    shape = list(parameter.shape)
                    _check_tensor(f"{file}: {name}", weights, keys[name], shape, config)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not a readable safetensors file: {error}") from error
    return missing


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor of at least one entry holds neither NaN nor infinity."""
    # aminmax propagates NaN. It needs one pass; isfinite takes eight times as long.
    return all(math.isfinite(extreme) for extreme in tensor.aminmax())


def _encoder_keys(file: Path, keys: Sequence[str], expected: Any) -> dict[str, str]:
    """Name of an encoder tensor -> its key in the file, which may have a prefix or an old name."""
    prefix = f"{expected.config.model_type}."
    parts = tuple(f"{name}." for name, _ in expected.named_children())
    # Without the dot, as transformers does: one key that starts so, and it reads no plain names.
    prefixed = [key for key in keys if key.startswith(expected.config.model_type)]
    plain = [key for key in keys if key.startswith(parts)]
    if prefixed and plain:
        raise InputError(
            f"{file}: has tensors with and without the prefix {prefix}, such as {prefixed[0]} and "
            f"{plain[0]}; all or none must have it"
        )
    found: dict[str, str] = {}
    for key in prefixed or plain:
        name = key.removeprefix(prefix)
        for old, new in _OLD_ENDS.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        if name in found:
            raise InputError(f"{file}: {name} has two names: {found[name]} and {key}")
        found[name] = key
    return found


def _check_names(file: Path, names: set[str], expected: Any, config: Path) -> tuple[str, ...]:
    """The missing tensors, which may only be the pooler's."""
    parameters = [name for name, _ in expected.named_parameters()]
    missing = [name for name in parameters if name not in names]
    absent = [name for name in missing if not name.startswith("pooler.")]
    if absent:
        raise InputError(
            f"{file}: lacks {len(absent)} of the encoder's tensors, first {absent[0]}: "
            f"these are not the weights of {config}"
        )
    # Older versions of transformers saved buffers, such as position_ids.
    surplus = sorted(names - {*parameters} - {name for name, _ in expected.named_buffers()})
    if surplus:
        raise InputError(
            f"{file}: has {len(surplus)} tensors that an encoder of {config} has not, "
            f"first {surplus[0]}"
        )
    return tuple(missing)


def _check_tensor(where: str, weights: Any, key: str, shape: list[int], config: Path) -> None:
    about = weights.get_slice(key)
    if about.get_shape() != shape:
        raise InputError(f"{where} has shape {about.get_shape()}; {config} says {shape}")
    if about.get_dtype() not in _DTYPES:
        allowed = ", ".join(_DTYPES)
        raise InputError(f"{where} is of type {about.get_dtype()}; it must be one of {allowed}")
    if not is_finite(weights.get_tensor(key)):
        raise InputError(f"{where} holds NaN or infinity; every weight must be a number")
