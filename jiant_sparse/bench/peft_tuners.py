"""The sparse tuners of Hugging Face PEFT on every linear layer of the encoder.

Their budget is counted on these layers alone: embeddings, biases and LayerNorm stay frozen.
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
    """SHiRA: r (rows + columns) random entries of each layer, r making about `density` of all."""
    from peft import ShiraConfig, get_peft_model

    layers = _linear(model.encoder)
    config = ShiraConfig(
        target_modules=[*layers], r=shira_rank(layers.values(), model.setting.density)
    )
    model.encoder = get_peft_model(model.encoder, config)


def shira_rank(layers: Iterable[nn.Linear], density: float) -> int:
    """The r, at least 1, that comes closest to `density` of the layers' weights.

    It cannot be such that a layer would train more entries than it has.
    """
    sizes = [layer.weight.shape for layer in layers]
    wanted = density * sum(rows * columns for rows, columns in sizes)
    closest = round(wanted / sum(rows + columns for rows, columns in sizes))
    largest = min(rows * columns // (rows + columns) for rows, columns in sizes)
    return max(1, min(closest, largest))


def _linear(encoder: nn.Module) -> dict[str, nn.Linear]:
    return {n: module for n, module in encoder.named_modules() if isinstance(module, nn.Linear)}
