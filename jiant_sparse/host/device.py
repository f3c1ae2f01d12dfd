"""The device of a cell, and the peak of its memory in a process that runs many."""

import contextlib
import gc
from pathlib import Path

import torch

from jiant_sparse.errors import InputError


def pick(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises InputError if `cuda` is wanted and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no CUDA device; allowed here: auto, cpu")
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


def reset_peak(device: torch.device) -> None:
    """Start a new peak: of the device on CUDA, of this process's resident set elsewhere."""
    gc.collect()  # what the last cell left does not count
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM


def peak_bytes(device: torch.device) -> int | None:
    """Bytes at the peak since `reset_peak`; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
