"""Frozen tensors that have moved all the same: with them a run can be put back where it was."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jiant_sparse.sparse.bits import bits
from jiant_sparse.sparse.edits import Entries

_ORIGINAL = ".original"


def drifted(encoder: nn.Module, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The frozen tensors whose bits are not the base's, beside entries that train; no copies.

    They moved before they were frozen (a choice in mid-training). base: first values of the
    eligible tensors, on the CPU, by their names before the edits. The result has the names of
    `encoder.named_parameters()`; frozen tensors that the base does not have are left out.
    """
    moved = {}
    modules = dict(encoder.named_modules())
    for name, parameter in encoder.named_parameters():
        stack = name.removesuffix(_ORIGINAL) if name.endswith(_ORIGINAL) else None
        old = base.get(stack.replace(".parametrizations.", ".") if stack else name)
        if parameter.requires_grad or old is None:
            continue
        now = parameter.detach().cpu()
        edit = modules[stack][0] if stack else None
        if isinstance(edit, Entries):
            now = now.clone()
            now.view(-1)[edit.index.cpu()] = old.view(-1)[edit.index.cpu()]
        if not torch.equal(bits(now), bits(old)):
            moved[name] = parameter.detach()
    return moved
