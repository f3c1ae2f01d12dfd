"""The device of a cell, and the peak of its memory in a process that runs many."""

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from jiant_sparse.errors import InputError

_NOT_DETERMINISTIC = "does not have a deterministic implementation"


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
    before = (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())
    show = warnings.showwarning

    def note(message: Warning | str, *where: object) -> None:
        if _NOT_DETERMINISTIC not in str(message):
            show(message, *where)
        elif (operation := str(message).split(_NOT_DETERMINISTIC)[0].strip()) not in exceptions:
            exceptions.append(operation)

    # cuBLAS reads it when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=f".*{_NOT_DETERMINISTIC}")
        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        # Filling what is overwritten anyway costs time; nothing here reads it before.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.set_num_threads(threads)
        try:
            yield exceptions
        finally:
            torch.use_deterministic_algorithms(before[0])
            torch.utils.deterministic.fill_uninitialized_memory = True
            torch.set_num_threads(before[1])


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
