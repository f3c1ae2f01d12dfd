"""A measurement in a process of its own, so that no contender's memory counts for another."""

import contextlib
import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from jiant_sparse.host import device as devices

_M_MMAP_THRESHOLD = -3  # of malloc.h
_RETURNED_BYTES = 1 << 16


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's function returns in a new process, with as many threads as here.

    Raises what it raises; BrokenProcessPool if the process dies, as for want of memory.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _start, (torch.get_num_threads(),)) as pool:
        return pool.submit(function, *arguments).result()


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    with contextlib.suppress(AttributeError, OSError):
        # By default the C library keeps some freed tensors of up to 32 MB. With a threshold of ours
        # it returns all larger ones to the system.
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _RETURNED_BYTES)


def restart_peak(device: torch.device) -> int:
    """Start a new peak of memory at the bytes that are in use, and return these.

    Raises OSError where the system does not tell.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        # Later allocations would fill memory that the C library keeps, and not count.
        ctypes.CDLL(None).malloc_trim(0)
    devices.reset_peak(device)
    return peak(device)


def peak(device: torch.device) -> int:
    """Bytes at the peak since `restart_peak`: of the device on CUDA, else the resident set.

    Raises OSError where the system does not tell.
    """
    found = devices.peak_bytes(device)
    if found is None:
        raise OSError("memory cannot be measured here: /proc/self/status does not tell VmHWM")
    return found
