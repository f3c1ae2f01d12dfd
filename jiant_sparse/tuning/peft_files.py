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
_MOST_BYTES = 2**36


def load(directory: Path, model: nn.Module, digests: Mapping[str, str]) -> Loaded:
    """Read an adapter of PEFT. model: plain. digests: of the model's tensors, by name.

    The final values are those that PEFT merges. An adapter does not know its base model: another
    one is noticed by its names and shapes only. The settings name the method that chooses alike:
    mag_pruning for Super-Tuning, random for SHiRA.
    Raises InputError for other types, and for files that are damaged or do not fit the model.
    """
    settings, kind = _settings(directory)
    state = _state(directory / WEIGHTS)
    value_end, index_end = KINDS[kind]
    own = dict(tensors(model))
    entries, sizes = {}, 0
    for key in [key for key in state if key.endswith(value_end)]:
        path = key.removesuffix(value_end)
        name, values, index = f"{path}.weight", state.pop(key), state.pop(path + index_end, None)
        weight = own.get(name)
        if weight is None or weight.dim() != 2:
            raise InputError(f"{directory}: adapts {path}, which has no matrix in the model")
        entries[name] = _entries(f"{directory}: {path}", weight, index, values)
        sizes += weight.numel()
    if not entries:
        raise InputError(f"{directory / WEIGHTS}: has no values of a {kind} adapter")
    base = {name: digest for name, digest in digests.items() if name not in state}
    config = SparseConfig(
        "random" if kind == "SHIRA" else "mag_pruning",
        density=sum(values.numel() for _, values in entries.values()) / sizes,
        scope="per_tensor",
        target_modules=[*entries],
        modules_to_save=sorted({name.rpartition(".")[0] for name in state}),
    )
    document = {"base": settings.get("base_model_name_or_path"), "about": {"peft": settings}}
    return loaded(directory, config, Delta(entries, state, base, {}), document, model, digests)


def _settings(directory: Path) -> tuple[dict, str]:
    path = directory / CONFIG
    settings = read_mapping(path)
    kind = settings.get("peft_type")
    if kind not in KINDS:
        raise InputError(
            f"{path}: peft_type is {shown(kind)}; it must be {' or '.join(KINDS)}, whose "
            "differences are sparse"
        )
    if kind == "SUPERTUNING" and settings.get("r") is not None:
        raise InputError(
            f"{path}: r is {shown(settings['r'])}; it must be null: a low-rank part is no sparse "
            "difference"
        )
    return settings, kind


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of the file, by the base model's names."""
    files.check_regular(path, _MOST_BYTES)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {error}") from error
    for key in state:
        if not key.startswith(PREFIX):
            raise InputError(f"{path}: {key} does not begin with {PREFIX}")
    return {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}


def _entries(
    where: str, weight: Tensor, index: Tensor | None, values: Tensor
) -> tuple[Tensor, Tensor]:
    """Ascending flat positions, and the base's values there plus the adapter's."""
    if index is None:
        raise InputError(
            f"{where} has no positions; save the adapter with save_precomputed_indices=True"
        )
    index = index.long()
    if index.dim() == 2 and len(index) == 2:  # rows and columns
        rows, columns = index
        fits = bool(((columns >= 0) & (columns < weight.shape[1])).all())
        index = rows * weight.shape[1] + columns
    else:
        fits = index.dim() == 1
    if not fits or index.shape != values.shape or not index.numel():
        raise InputError(f"{where} has {form(values)} values and {form(index)} positions")
    index, order = index.sort()
    if index[0] < 0 or index[-1] >= weight.numel() or bool((index[1:] == index[:-1]).any()):
        raise InputError(
            f"{where} has positions {int(index[0])} to {int(index[-1])}; each must occur once, "
            f"below {weight.numel()}"
        )
    return index, read(weight, index).cpu() + values[order].to(weight.dtype)
