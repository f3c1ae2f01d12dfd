"""Adapters of PEFT that are sparse differences, Super-Tuning and SHiRA, read as deltas."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from jiant_sparse import files
from jiant_sparse.errors import InputError, shown
from jiant_sparse.sparse.bits import form
from jiant_sparse.sparse.delta import Delta
from jiant_sparse.tuning.config import SparseConfig, read_mapping
from jiant_sparse.tuning.origin import read, tensors
from jiant_sparse.tuning.saving import Loaded, loaded

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
# Type -> the ends of the names of a layer's values and positions.
KINDS = {
    "SUPERTUNING": (".supertuning_values", ".supertuning_indices"),
    "SHIRA": (".shira_weight", ".shira_indices"),
}
# Type -> the method that chooses alike.
_METHODS = {"SUPERTUNING": "mag_pruning", "SHIRA": "random"}
_MOST_BYTES = 2**36


def load(directory: Path, model: nn.Module, digests: Mapping[str, str]) -> Loaded:
    """Read an adapter of PEFT. model: plain. digests: of the model's tensors, by name.

    The final values are those that PEFT merges. An adapter does not know its base model: of another
    one only names and shapes are noticed.
    Raises InputError for other types, and for files that are damaged or do not fit the model.
    """
    settings = read_mapping(directory / CONFIG)
    kind, rank = str(settings.get("peft_type")), settings.get("r")
    if kind not in KINDS or kind == "SUPERTUNING" and rank is not None:
        raise InputError(
            f"{directory / CONFIG}: peft_type is {shown(kind)} with r {shown(rank)}; "
            "it must be SUPERTUNING without r, or SHIRA: other updates are not sparse"
        )
    files.check_regular(directory / WEIGHTS, _MOST_BYTES)
    try:
        state = {k.removeprefix(PREFIX): t for k, t in load_file(directory / WEIGHTS).items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{directory / WEIGHTS}: no readable safetensors file: {error}") from error
    value_end, index_end = KINDS[kind]
    own, entries = tensors(model), {}
    for path in [key.removesuffix(value_end) for key in state if key.endswith(value_end)]:
        weight, where = own.get(f"{path}.weight"), f"{directory}: {path}"
        if weight is None or weight.dim() != 2:
            raise InputError(f"{where} has values, but no matrix in the model")
        values, index = state.pop(path + value_end), state.pop(path + index_end, None)
        entries[f"{path}.weight"] = _entries(where, weight, index, values)
    if not entries:
        raise InputError(f"{directory / WEIGHTS}: has no values of a {kind} adapter")
    count = sum(values.numel() for _, values in entries.values())
    config = SparseConfig(
        _METHODS[kind],
        density=count / sum(own[name].numel() for name in entries),
        scope="per_tensor",
        target_modules=[*entries],
        modules_to_save=sorted({name.rpartition(".")[0] for name in state}),
    )
    base = {name: digest for name, digest in digests.items() if name not in state}
    document = {"base": settings.get("base_model_name_or_path")}
    return loaded(directory, config, Delta(entries, state, base, {}), document, model, digests)


def _entries(
    where: str, weight: Tensor, index: Tensor | None, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Ascending flat positions, and the base's values there plus the adapter's."""
    if index is None:
        raise InputError(f"{where} has no positions; save with save_precomputed_indices=True")
    width, got = weight.shape[1], f"{form(values)} values and {form(index)} positions"
    if index.dim() == 2 and len(index) == 2:  # rows and columns; a column too far is no position
        rows, columns = index.long()
        index = (rows * width + columns).where((columns >= 0) & (columns < width), -1)
    index, order = index.long().sort(dim=-1)
    once = index.dim() == 1 and index.numel() and bool((index.diff() > 0).all())
    if not once or index.shape != values.shape or index[0] < 0 or index[-1] >= weight.numel():
        raise InputError(
            f"{where} has {got}; they must be equally many, each position once and within the "
            f"model's {form(weight)}"
        )
    return index, read(weight, index).cpu() + values[order].to(weight.dtype)
