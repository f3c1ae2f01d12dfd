"""A training between two steps, in one file: all that an exact resume needs beside the base."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from jiant_sparse import files
from jiant_sparse.errors import InputError, shown
from jiant_sparse.sparse.states import drifted
from jiant_sparse.tuning.model import SparseModel
from jiant_sparse.tuning.origin import stored, write

FILE = "training_state.safetensors"
VERSION = 1
_META, _TENSOR = "jiant_sparse", "$tensor"

State = Mapping[str, Any]
"""What `read` gives: JSON values and tensors by name."""


def save(path: Path, model: SparseModel, optimizer: Optimizer, schedule: Any) -> None:
    """Write the state atomically: what the method remembers, what trains, and moments by name.

    schedule: a scheduler of learning rates; its state has to be JSON.
    """
    assert model.method is not None and model.sparse_config is not None
    names: dict[Tensor, str] = {p: name for name, p in model.base_model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    state = {
        "version": VERSION,
        "sparse": model.sparse_config.to_dict(),
        "base": model.origin.digests(),
        "method": model.method.state_dict(),
        "weights": _weights(model),
        "groups": [
            {**group, "params": [names[p] for p in group["params"]]}
            for group in optimizer.param_groups
        ],
        "moments": {names[p]: dict(moments) for p, moments in optimizer.state.items()},
        "schedule": schedule.state_dict(),
    }
    text = json.dumps(_pack(state, tensors))
    with files.replacing(path) as temporary, files.system_errors(temporary):
        save_file(tensors, temporary, metadata={_META: text})


def read(path: Path) -> State:
    """Read what `save` wrote. Raises InputError for a missing or damaged file, or a newer one."""
    if not path.exists():
        raise InputError(
            f"{path}: there is no such file; resume from a checkpoint of a SparseTrainer that was "
            "saved with save_only_model=False"
        )
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[_META])
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: is damaged, or no training state: {error}") from error
    if state.get("version") != VERSION:
        raise InputError(f"{path}: has version {shown(state.get('version'))}; it must be {VERSION}")
    state["groups"] = [
        {key: tuple(v) if isinstance(v, list) else v for key, v in group.items()}  # as betas are
        for group in state["groups"]
    ]
    return _unpack(state, tensors)


@torch.no_grad()
def restore(model: SparseModel, state: State) -> None:
    """Put the method and the weights of a model back to a state, whatever was trained since.

    Raises InputError, and leaves the model as it was, for another config or base model.
    """
    assert model.sparse_config is not None
    own = json.loads(json.dumps(model.sparse_config.to_dict()))
    for key, value in own.items():
        if (other := state["sparse"].get(key)) != value:
            raise InputError(
                f"the checkpoint was trained with {key}={shown(other)}, the model has "
                f"{shown(value)}; make the model with the checkpoint's SparseConfig"
            )
    digests = model.origin.digests()
    for name in digests | state["base"]:
        if digests.get(name) != state["base"].get(name):
            raise InputError(
                f"the checkpoint is of another base model: {name} is the first tensor to differ"
            )
    model.restore(state["method"])
    for name, value in state["weights"].items():
        path, _, leaf = name.rpartition(".")
        write(getattr(model.base_model.get_submodule(path), leaf), None, value)


def regroup(optimizer: Optimizer, model: SparseModel, state: State) -> None:
    """Let an optimizer train what the state's trained, in its groups; it forgets all moments."""
    optimizer.state.clear()
    optimizer.param_groups[:] = [
        {**group, "params": [model.base_model.get_parameter(name) for name in group["params"]]}
        for group in state["groups"]
    ]


def load_optimizer(optimizer: Optimizer, schedule: Any, model: SparseModel, state: State) -> None:
    """Give a regrouped optimizer its moments, and the schedule its place."""
    for group, saved in zip(optimizer.param_groups, state["groups"], strict=True):
        group.update({key: value for key, value in saved.items() if key != "params"})
        on_device = group.get("fused") or group.get("capturable")
        for name, parameter in zip(saved["params"], group["params"], strict=True):
            if name in state["moments"]:
                # A plain AdamW reads its step count on the CPU. torch's own load_state_dict would
                # change the type of the step counts of single entries.
                optimizer.state[parameter] = {
                    key: value.to(parameter.device)
                    if isinstance(value, Tensor) and (value.dim() or on_device)
                    else value
                    for key, value in state["moments"][name].items()
                }
    schedule.load_state_dict(state["schedule"])


def _weights(model: SparseModel) -> dict[str, Tensor]:
    """What trains, buffers, and frozen weights that moved before they were frozen."""
    first = {name: old for name, (index, old) in model.origin.values.items() if index is None}
    base = model.base_model
    trained = {name: p for name, p in base.named_parameters() if p.requires_grad}
    buffers = {
        name: tensor for name in first if not isinstance(tensor := stored(base, name), nn.Parameter)
    }
    return trained | buffers | drifted(model.view, first)


def _pack(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Move the tensors of a tree of mappings into `tensors`; leave their keys in their places."""
    if isinstance(node, Mapping):
        return {key: _pack(value, tensors) for key, value in node.items()}
    if not isinstance(node, Tensor):
        return node
    key = str(len(tensors))
    tensors[key] = torch.clone(node.detach().cpu(), memory_format=torch.contiguous_format)
    return {_TENSOR: key}


def _unpack(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(node, dict):
        return node
    if node.keys() == {_TENSOR}:
        return tensors[node[_TENSOR]]
    return {key: _unpack(value, tensors) for key, value in node.items()}
