"""Contenders take turns, and what is reported is medians, spread, and ratios within a turn.

A shared machine drifts by more than most differences that matter, over seconds; two calls made
right after each other see the same machine.
"""

import contextlib
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jiant_sparse.schema import provenance

PACKAGES = ("jiant-sparse", "torch", "transformers", "numpy", "loralib", "peft")


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    warmup: int = 1,
    synchronize: Callable[[], None] | None = None,
) -> dict[str, list[float]]:
    """Milliseconds of every call: contender -> one number per round, rounds going A B C A B C.

    warmup: rounds before these that are not counted. synchronize: called before and after every
    timed call, for a device that works on after a call has returned; see `synchronizer`.
    """
    wait = synchronize or (lambda: None)
    milliseconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + repeats):
        for name, call in contenders.items():
            wait()
            started = time.perf_counter()
            call()
            wait()
            elapsed = time.perf_counter() - started
            if turn >= warmup:
                milliseconds[name].append(1000 * elapsed)
    return milliseconds


def synchronizer(device: torch.device) -> Callable[[], None] | None:
    """What `alternate` has to wait for on a device; None on the CPU."""
    return partial(torch.cuda.synchronize, device) if device.type == "cuda" else None


def summary(milliseconds: Sequence[float]) -> dict[str, float]:
    """Median, least and largest, to a microsecond."""
    return {
        "milliseconds_median": round(statistics.median(milliseconds), 3),
        "milliseconds_min": round(min(milliseconds), 3),
        "milliseconds_max": round(max(milliseconds), 3),
    }


def ratio(to: str, milliseconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """`ratio_to_<to>`: the median of the ratios of calls of the same round; with its spread."""
    ratios = [own / other for own, other in zip(milliseconds, reference, strict=True)]
    return {
        f"ratio_to_{to}": round(statistics.median(ratios), 3),
        f"ratio_to_{to}_min": round(min(ratios), 3),
        f"ratio_to_{to}_max": round(max(ratios), 3),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """What the numbers hang on: threads, device and processor by name, commit, versions.

    Unknown is None, as is the version of a package that is not installed.
    """
    commit, changed = provenance.commit()
    is_cuda = device.type == "cuda"
    return {
        "threads": torch.get_num_threads(),
        "device_name": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "processor": _processor(),
        "commit": commit,
        "commit_changed": changed,
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
    }


def _processor() -> str | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
