"""Private and undocumented parts of torch, each with the public way that takes its place.

No other file of the package uses any. Where torch lacks the private part, the public way gives the
same result, with more memory or time.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.utils import checkpoint


def saved(node: Node, name: str) -> Any:
    """The tensor or option that autograd has saved as `name` for the backward pass of `node`."""
    return getattr(node, f"_saved_{name}")


def is_readable(node: Node, name: str) -> bool:
    """Whether `saved(node, name)` may be called although autograd will read it too.

    Under hooks for saved tensors (checkpointing, offloading) only autograd can read it. False also
    if torch does not tell; the public way then is to save a tensor of one's own.
    """
    raw = getattr(node, f"_raw_saved_{name}", None)
    return getattr(raw, "unpack_hook", "unknown") is None


def in_backward() -> bool:
    """Whether a backward pass is running, as where a checkpointed layer runs a second time."""
    task = getattr(torch._C, "_current_graph_task_id", None)
    return checkpoint_recomputes() if task is None else task() != -1


def checkpoint_recomputes() -> bool:
    """The public way of `in_backward`: whether torch.utils.checkpoint calls, but not its user."""
    outermost, frame = None, inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_filename == checkpoint.__file__:
            outermost = frame.f_code.co_name
        frame = frame.f_back
    # In a first forward pass its outermost frame is the function that the user has called.
    return outermost is not None and outermost not in checkpoint.__all__


def version(tensor: Tensor) -> int | None:
    """How many operations have changed the tensor in place; None if torch does not tell.

    The public way is to compare values.
    """
    return getattr(tensor, "_version", None)


def transposed(matrix: Tensor) -> Tensor:
    """(n, m) -> (m, n), contiguous. The public way: `matrix.t().contiguous()`.

    torch's only transposition by vector instructions is a shuffle of channels in n groups, here of
    one pixel that has n m channels. It takes half the time.
    """
    shuffle = getattr(torch, "native_channel_shuffle", None)
    fits = matrix.device.type == "cpu" and matrix.dtype == torch.float32 and matrix.numel() > 0
    if shuffle is None or not fits:
        return matrix.t().contiguous()
    rows, columns = matrix.shape
    channels = matrix.numel()
    pixel = matrix.contiguous().as_strided((1, channels, 1, 1), (channels, 1, channels, channels))
    return shuffle(pixel, rows).as_strided((columns, rows), (rows, 1))


def without_hooks(step: Callable) -> Callable:
    """An optimizer class's `step` without the wrapper that runs the hooks of a step.

    torch wraps the step of a class when its first instance is made, and marks it as `hooked`. A
    step without the mark is taken as it is.
    """
    return inspect.unwrap(step, stop=lambda found: not getattr(found, "hooked", False))
