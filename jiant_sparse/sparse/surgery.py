"""The only module that edits a module tree: which weights train, and how.

Everything here works on the *encoder*: any `torch.nn.Module` all of whose parameters are eligible
for tuning. The task head lies outside of it and is never touched. Names are those of
`encoder.named_parameters()` before the first edit; `fold` brings them back.
"""

import re
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jiant_sparse.errors import InputError

# Where torch keeps the tensor under a parametrization.
_ORIGINAL = re.compile(r"parametrizations\.([^.]+)\.original$")


class _Scatter(torch.autograd.Function):
    """The dense weight as a function of the few entries that train: gradient = gather."""

    @staticmethod
    def forward(ctx, values: Tensor, dense: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return dense.view_as(dense)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (index,) = ctx.saved_tensors
        return gradient.reshape(-1)[index], None, None


class Entries(nn.Module):
    """Parametrization of a frozen tensor: its entries at `index` are the leaf vector `values`.

    The optimiser sees `values`, k numbers; the forward pass sees the dense tensor with these
    written in place. No other entry is ever written, so frozen means bit-equal.

    dense: any shape, frozen. index: (k,) int64, sorted, distinct flat positions.
    """

    def __init__(self, dense: Tensor, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index.to(dense.device), persistent=False)
        self.values = nn.Parameter(dense.detach().flatten()[self.index])
        self.is_matrix = dense.dim() >= 2

    def forward(self, dense: Tensor) -> Tensor:
        # Through .data: within a step the same values are written again, so the weights that an
        # earlier forward pass saved for its backward (COPA runs two) are still right, and the
        # version counter must not say otherwise.
        dense.data.view(-1).index_copy_(0, self.index, self.values.data)
        return _Scatter.apply(self.values, dense, self.index)


def eligible(encoder: nn.Module) -> dict[str, Tensor]:
    """Every weight tensor of an unedited encoder by name, in registration order."""
    return dict(encoder.named_parameters())


def freeze(encoder: nn.Module) -> None:
    """Take every weight of the encoder out of training."""
    encoder.requires_grad_(False)


def train_entries(encoder: nn.Module, name: str, index: Tensor) -> None:
    """Train only the entries of tensor `name` at the flat positions `index`; freeze its rest.

    index: (k,) int64, strictly increasing, in [0, numel). An empty index freezes the tensor.
    Raises InputError if there is no such tensor, if it is not contiguous or edited already, or if
    the index is not of that form.
    """
    module, leaf, dense = _find(encoder, name)
    _check_index(name, dense, index)
    dense.requires_grad_(False)
    if index.numel():
        parametrize.register_parametrization(module, leaf, Entries(dense, index))


def train_tensor(encoder: nn.Module, name: str) -> None:
    """Train the whole tensor `name`. Raises InputError if there is none or it is edited already."""
    _find(encoder, name)[2].requires_grad_(True)


def select(encoder: nn.Module, chosen: Mapping[str, Tensor]) -> None:
    """Freeze the encoder and train exactly the chosen entries: tensor name -> index."""
    freeze(encoder)
    for name, index in chosen.items():
        train_entries(encoder, name, index)


def fold(encoder: nn.Module) -> None:
    """Turn every reparametrised tensor into its final plain value under its own name."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module):
            for leaf in list(module.parametrizations):
                parametrize.remove_parametrizations(module, leaf, leave_parametrized=True)


def count(encoder: nn.Module, names: Collection[str]) -> tuple[int, int]:
    """(selected, added): eligible weights that train, and weights that an edit has put in.

    names: those of the eligible tensors, from before the edits. A tensor of which only some
    entries train counts with these entries.
    """
    chosen = added = 0
    for path, module in encoder.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            name = _ORIGINAL.sub(r"\1", f"{path}.{leaf}" if path else leaf)
            if name in names or isinstance(module, Entries):
                chosen += parameter.numel() if parameter.requires_grad else 0
            else:
                added += parameter.numel()
    return chosen, added


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Optimiser groups over what trains: decay on entries of matrices, none on those of vectors.

    Vectors are the biases and LayerNorm weights of a transformer; this is the usual rule of full
    tuning, and the entries of a tensor follow the tensor they come from.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    for is_matrix, parameter in _trainable(model):
        (decayed if is_matrix else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _trainable(model: nn.Module) -> Iterator[tuple[bool, nn.Parameter]]:
    """(whether it is, or belongs to, a matrix; parameter) for everything that trains, once."""
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                matrix = parameter.dim() >= 2
                yield module.is_matrix if isinstance(module, Entries) else matrix, parameter


def _find(encoder: nn.Module, name: str) -> tuple[nn.Module, str, nn.Parameter]:
    """The module that owns tensor `name`, the tensor's own name there, and the tensor."""
    path, _, leaf = name.rpartition(".")
    try:
        module = encoder.get_submodule(path)
    except AttributeError:
        module = None
    dense = module._parameters.get(leaf) if module is not None else None
    if dense is not None:
        return module, leaf, dense
    if module is not None and parametrize.is_parametrized(module, leaf):
        raise InputError(f"{name}: this tensor has been given a parametrization already")
    raise InputError(f"{name}: the encoder has no such weight tensor")


def _check_index(name: str, dense: Tensor, index: Tensor) -> None:
    if not dense.is_contiguous():
        raise InputError(f"{name}: entries of a non-contiguous tensor cannot be trained")
    if index.dtype != torch.int64 or index.dim() != 1:
        raise InputError(
            f"{name}: the index has dtype {index.dtype} and shape {tuple(index.shape)}; "
            "it must be a vector of int64"
        )
    if index.numel() and not (
        int(index[0]) >= 0 and int(index[-1]) < dense.numel() and bool((index.diff() > 0).all())
    ):
        raise InputError(
            f"{name}: the index must be strictly increasing within [0, {dense.numel()})"
        )
