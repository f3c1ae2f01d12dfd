"""Peak memory of one cell, in a process that runs many."""

import contextlib
import gc
from pathlib import Path

import torch


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
