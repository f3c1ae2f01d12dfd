"""Hugging Face PEFT's tuners, each put around an encoder.

Their density counts linear layers alone: embeddings, biases and LayerNorm stay frozen.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn

from jiant_sparse.methods.lora import LoRA


def super_tuning(encoder: nn.Module, density: float) -> Any:
    """Super-Tuning: the fraction `density` of largest magnitude in each linear layer."""
    from peft import SupertuningConfig, get_peft_model

    layers = [*_linear(encoder)]
    config = SupertuningConfig(target_modules=layers, sparsity=1 - density)
    return get_peft_model(encoder, config)


def shira(encoder: nn.Module, density: float) -> Any:
    """SHiRA: r (rows + columns) random entries of each linear layer, near `density` of all."""
    from peft import ShiraConfig, get_peft_model

    layers = _linear(encoder)
    rank = shira_rank(layers.values(), density)
    return get_peft_model(encoder, ShiraConfig(target_modules=[*layers], r=rank))


def lora(encoder: nn.Module, density: float) -> Any:
    """LoRA with this package's defaults, whatever the density."""
    from peft import LoraConfig, get_peft_model

    ours = LoRA()
    config = LoraConfig(r=ours.rank, lora_alpha=ours.alpha, target_modules=ours.modules)
    return get_peft_model(encoder, config)


def shira_rank(layers: Iterable[nn.Linear], density: float) -> int:
    """The r, at least 1, that comes closest to `density` of the layers' weights.

    No layer trains more entries than it has.

    >>> shira_rank([nn.Linear(768, 768)], 0.005)
    2
    """
    sizes = [layer.weight.shape for layer in layers]
    wanted = density * sum(rows * columns for rows, columns in sizes)
    closest = round(wanted / sum(rows + columns for rows, columns in sizes))
    largest = min(rows * columns // (rows + columns) for rows, columns in sizes)
    return max(1, min(closest, largest))


def _linear(encoder: nn.Module) -> dict[str, nn.Linear]:
    return {n: module for n, module in encoder.named_modules() if isinstance(module, nn.Linear)}
