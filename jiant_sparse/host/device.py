"""The device of a cell, deterministic algorithms, and peak memory."""

import contextlib
import gc
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from jiant_sparse.errors import InputError

# Its attribute is a property that torch's types do not know.
_memory: Any = torch.utils.deterministic
# torch's warnings for operations in general, cuBLAS and attention.
_NOT_DETERMINISTIC = re.compile(
    "does not have a deterministic implementation|this operation is not deterministic because"
    "|defaults to a non-deterministic algorithm"
)


def pick(wanted: str) -> torch.device:
    """`auto` takes CUDA if there is one. Raises InputError if `cuda` is wanted and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no CUDA device; allowed here: auto, cpu")
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


@contextlib.contextmanager
def repeatable(threads: int) -> Iterator[list[str]]:
    """Compute the same bits each time the block runs: deterministic algorithms, fixed threads.

    Yields a list that fills with the operations, in torch's words, that ran without a deterministic
    algorithm. Restores torch's settings after the block.
    """
    exceptions: list[str] = []
    show = warnings.showwarning

    def note(message: Warning | str, *where: Any, **options: Any) -> None:
        found = _NOT_DETERMINISTIC.search(str(message))
        if not found:
            show(message, *where, **options)
        elif (operation := str(message)[: found.start()].strip()) not in exceptions:
            exceptions.append(operation)

    # cuBLAS reads the variable at its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with warnings.catch_warnings(), _settings_restored():
        warnings.filterwarnings("always", message=f".*({_NOT_DETERMINISTIC.pattern})")
        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Its backward pass sums in any order, and torch warns only once in a process.
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        # Filling new memory costs time, and nothing here reads it before it is written.
        _memory.fill_uninitialized_memory = False
        torch.set_num_threads(threads)
        yield exceptions


@contextlib.contextmanager
def _settings_restored() -> Iterator[None]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = _memory.fill_uninitialized_memory
    attention = torch.backends.cuda.mem_efficient_sdp_enabled()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        _memory.fill_uninitialized_memory = fills
        torch.backends.cuda.enable_mem_efficient_sdp(attention)
        torch.set_num_threads(threads)


def name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def reset_peak(device: torch.device) -> None:
    """Start a new peak: of the device's memory on CUDA, else of this process's resident set."""
    gc.collect()  # garbage of the last cell does not count
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM


def peak_bytes(device: torch.device) -> int | None:
    """Bytes at the peak since `reset_peak`; None where the system does not say."""
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
