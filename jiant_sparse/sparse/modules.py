"""Add modules to an encoder, low-rank updates and adapters, and merge them into its weights.

The encoder's own tensors keep their names and values, and are frozen.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import states, tree

_ADAPTER = "jiant_sparse"


def linear_weights(encoder: nn.Module) -> set[str]:
    """Names of the weight matrices of all linear layers.

    >>> sorted(linear_weights(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))))
    ['0.weight', '2.weight']
    """
    return {f"{path}.weight" if path else "weight" for path in _linear_layers(encoder)}


def matching(encoder: nn.Module, ends: Sequence[str]) -> list[str]:
    """Names of the linear layers whose dotted name is, or ends in, one of `ends`.

    Raises InputError for an end that no module has, and for one that another kind of module has.
    """
    modules = dict(encoder.named_modules())
    found: set[str] = set()
    for end in ends:
        named = [name for name in modules if f".{name}".endswith(f".{end}") and end]
        if not named:
            last = ", ".join(sorted({name.split(".")[-1] for name in _linear_layers(encoder)}))
            raise InputError(
                f"modules: no module's name ends in {end!r}; linear layers end in {last}"
            )
        for name in named:
            if not isinstance(modules[name], nn.Linear):
                kind = type(modules[name]).__name__
                raise InputError(f"modules: {end!r} matches {name}, a {kind}; it must be linear")
        found |= {*named}
    return [name for name in modules if name in found]


def _linear_layers(encoder: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in encoder.named_modules() if isinstance(m, nn.Linear)}


def check_low_rank(encoder: nn.Module, names: Sequence[str], rank: int) -> None:
    """Raise InputError if a linear layer's smaller side is below the rank, or its weight is tied.

    Once merged, an update of one layer would reach every layer that holds the weight.
    """
    linear, holders = _linear_layers(encoder), tree.holders(encoder)
    for name in names:
        layer = linear[name]
        smaller = min(layer.in_features, layer.out_features)
        if rank > smaller:
            shape = f"{layer.out_features}x{layer.in_features}"
            raise InputError(f"rank is {rank}; {name} is {shape}, so it must be at most {smaller}")
        if len(holders[layer.weight]) > 1:
            raise InputError(f"modules: {name} shares its weight with another module; leave it out")


def add_low_rank(
    encoder: nn.Module, name: str, *, rank: int, alpha: float, dropout: float
) -> nn.Module:
    """Replace a linear layer by loralib's, around the same weight and bias, and return that.

    Its `lora_A` (rank, in) and `lora_B` (out, rank) are zero. Only `merge` merges them.
    """
    import loralib

    old = _linear_layers(encoder)[name]
    with torch.device("meta"):  # its constructor draws weights that nobody needs
        new = loralib.Linear(
            old.in_features,
            old.out_features,
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            merge_weights=False,
        )
    new.weight, new.bias, new.made_here = old.weight, old.bias, True
    for part in ("lora_A", "lora_B"):
        empty = getattr(new, part)
        setattr(new, part, nn.Parameter(old.weight.new_zeros(empty.shape)))
    path, _, leaf = name.rpartition(".")
    new.train(old.training)  # loralib's returns None
    states.name_low_rank(new, merged)
    setattr(encoder.get_submodule(path), leaf, new)
    return new


def merged(layer: Any) -> Tensor:
    """W + scale B A of one of loralib's layers, rounded once."""
    return _merged(layer.weight, layer.lora_A, layer.lora_B, layer.scaling)


def _merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    return (weight.double() + scale * (b.double() @ a.double())).to(weight.dtype)


def fold_low_rank(tensors: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Merge `lora_A` and `lora_B` into each weight that has them: W + scale B A, rounded once."""
    folded = {name: t for name, t in tensors.items() if not name.endswith((".lora_A", ".lora_B"))}
    for name, a in tensors.items():
        if name.endswith(".lora_A"):
            path = name.removesuffix(".lora_A")
            weight, b = folded[f"{path}.weight"], tensors[f"{path}.lora_B"]
            folded[f"{path}.weight"] = _merged(weight, a, b, scale)
    return folded


def add_adapter(
    encoder: Any, config: str, reduction_factor: float | None, init: str | None
) -> None:
    """Insert AdapterHub modules of a named configuration into a transformers model; freeze it.

    Draws from torch's global generator. The other arguments: `methods.adapter`.
    Raises InputError if the configuration has no such setting or does not fit the model.
    """
    import adapters

    device = next(encoder.parameters()).device
    training = encoder.training
    loaded = adapters.AdapterConfig.load(config)
    asked = {"reduction_factor": reduction_factor, "init_weights": init}
    for key, value in asked.items():
        if value is not None and key not in loaded.to_dict():
            field = "init" if key == "init_weights" else key
            raise InputError(f"{field} is {value!r}; the configuration {config} has no {key}")
    # For bottlenecks of plain matrices; a compacter's are products, which need its own init.
    if init is None and isinstance(loaded, adapters.BnConfig) and not loaded.phm_layer:
        asked["init_weights"] = "mam_adapter"
    hidden = encoder.config.hidden_size
    if reduction_factor is not None and not hidden // reduction_factor:
        raise InputError(f"reduction_factor is {reduction_factor}; the hidden size is {hidden}")
    # Drawn on the CPU, the same on every device.
    drawn_on = torch.device("meta" if device.type == "meta" else "cpu")
    logger = logging.getLogger("adapters")
    level = logger.level
    try:
        # It warns that the adapter is not active, which the next line makes it.
        logger.setLevel(logging.ERROR)
        with drawn_on:
            adapters.init(encoder)
            encoder.add_adapter(_ADAPTER, config=adapters.AdapterConfig.load(config, **asked))
        encoder.train_adapter(_ADAPTER)
    except (AttributeError, ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise InputError(f"config {config} does not fit this encoder: {error}") from error
    finally:
        logger.setLevel(level)
    encoder.adapter_to(_ADAPTER, device=device)
    encoder.train(training)


def check_mergeable(encoder: nn.Module) -> None:
    """Raise InputError if the encoder has an adapter that does not change weights."""
    config = _adapter_config(encoder)
    if config is None:
        return
    import adapters

    # AdapterHub can merge additive and multiplicative changes of a linear layer's weight.
    if (
        not isinstance(config, adapters.LoRAConfig)
        or isinstance(config, adapters.MTLLoRAConfig)
        or config.use_gating
    ):
        raise InputError(
            f"an adapter of kind {type(config).__name__} is no change of weights and cannot be "
            "folded into them; keep its modules, and save state_dict() or a delta"
        )


@torch.no_grad()
def merge(encoder: Any) -> None:
    """Add the updates of `add_low_rank` and `add_adapter` to the weights, and remove the modules.

    For encoders that `check_mergeable` accepts. AdapterHub's layers stay, without an adapter.
    """
    layer: Any
    for name, layer in [*encoder.named_modules()]:
        if getattr(layer, "made_here", False):
            layer.weight.copy_(merged(layer))
            with torch.device("meta"):
                plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            plain.weight, plain.bias = layer.weight, layer.bias
            path, _, leaf = name.rpartition(".")
            setattr(encoder.get_submodule(path), leaf, plain.train(layer.training))
    if _adapter_config(encoder) is not None:
        from adapters.methods.lora import LoRALayer

        encoder.merge_adapter(_ADAPTER)
        for layer in encoder.modules():
            if isinstance(layer, LoRALayer):
                layer.merged = None  # else AdapterHub takes the update back on deletion
        encoder.delete_adapter(_ADAPTER)


def _adapter_config(encoder: nn.Module) -> Any:
    """AdapterHub's configuration of our adapter; None if the encoder has no adapter."""
    found: Any = getattr(encoder, "adapters_config", None)
    return None if found is None else found.get(_ADAPTER)
