"""The device of a cell, and the peak of its memory in a process that runs many."""

import contextlib
import gc
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from jiant_sparse.errors import InputError

# torch's words for it, of operations in general, cuBLAS and attention.
_NOT_DETERMINISTIC = re.compile(
    "does not have a deterministic implementation|this operation is not deterministic because"
    "|defaults to a non-deterministic algorithm"
)


def pick(wanted: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises InputError if `cuda` is wanted and missing."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("device is cuda, but torch sees no CUDA device; allowed here: auto, cpu")
    cuda = wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if cuda else "cpu")


@contextlib.contextmanager
def repeatable(threads: int) -> Iterator[list[str]]:
    """The block computes the same bits whenever it runs: deterministic algorithms, fixed threads.

    Yields a list to which the operations are added, in torch's words, that have no deterministic
    algorithm on this device and ran all the same. Afterwards torch is set as before.
    """
    exceptions: list[str] = []
    show = warnings.showwarning

    def note(message: Warning | str, *where: object) -> None:
        found = _NOT_DETERMINISTIC.search(str(message))
        if not found:
            show(message, *where)
        elif (operation := str(message)[: found.start()].strip()) not in exceptions:
            exceptions.append(operation)

    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with warnings.catch_warnings(), _set_back():
        warnings.filterwarnings("always", message=f".*({_NOT_DETERMINISTIC.pattern})")
        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Its backward pass adds up in any order, and torch says so once in a process at most.
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        # Filling what is overwritten anyway costs time; nothing here reads it before.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.set_num_threads(threads)
        yield exceptions


@contextlib.contextmanager
def _set_back() -> Iterator[None]:
    """torch's switches are afterwards as they were."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory
    attention = torch.backends.cuda.mem_efficient_sdp_enabled()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills
        torch.backends.cuda.enable_mem_efficient_sdp(attention)
        torch.set_num_threads(threads)


def name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


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
