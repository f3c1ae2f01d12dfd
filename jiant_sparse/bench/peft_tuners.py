"""The sparse tuners of Hugging Face PEFT on every linear layer of the encoder.

Their density counts these layers alone: embeddings, biases and LayerNorm stay frozen.
"""

from collections.abc import Iterable

from torch import nn

from jiant_sparse.bench.models import Classifier


def super_tuning(model: Classifier) -> None:
    """Super-Tuning: the fraction `density` of largest magnitude in each layer."""
    from peft import SupertuningConfig, get_peft_model

    layers = [*_linear(model.encoder)]
    config = SupertuningConfig(target_modules=layers, sparsity=1 - model.setting.density)
    model.encoder = get_peft_model(model.encoder, config)


def shira(model: Classifier) -> None:
    """SHiRA: r (rows + columns) random entries of each layer, r chosen to come near `density`."""
    from peft import ShiraConfig, get_peft_model

    layers = _linear(model.encoder)
    rank = shira_rank(layers.values(), model.setting.density)
    model.encoder = get_peft_model(model.encoder, ShiraConfig(target_modules=[*layers], r=rank))


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
