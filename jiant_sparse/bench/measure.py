"""Time contenders in turns, and name the machine that the times are of.

A shared machine drifts over seconds by more than most differences that matter. Two calls of the
same round see the same machine, so ratios are taken within a round.
"""

import contextlib
import importlib.metadata
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from jiant_sparse.schema import provenance

PACKAGES = ("jiant-sparse", "torch", "transformers", "numpy", "loralib", "peft", "accelerate")
CPU = torch.device("cpu")


def alternate(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    device: torch.device = CPU,
    *,
    warmup: int = 1,
) -> dict[str, list[float]]:
    """Milliseconds of every call: name -> one number per round, rounds going A B C A B C.

    device: what the calls run on; on CUDA a call ends when the device has done its work.
    warmup: rounds before these, not counted.
    """
    milliseconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + repeats):
        for name, call in calls.items():
            _wait(device)
            started = time.perf_counter()
            call()
            _wait(device)
            elapsed = time.perf_counter() - started
            if turn >= warmup:
                milliseconds[name].append(1000 * elapsed)
    return milliseconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def numbers(
    milliseconds: Mapping[str, Sequence[float]], *references: str
) -> dict[str, dict[str, float]]:
    """Fields of each contender's row: its times, their ratios to each reference's, and `repeats`.

    Times and ratios have median, least and largest, to 3 decimals.

    >>> numbers({"full": [2.0, 4.0], "ours": [1.0, 3.0]}, "full")["ours"]["ratio_to_full"]
    0.625
    """
    rows = {}
    for name, times in milliseconds.items():
        row = _spread("milliseconds", "_median", times)
        for reference in references:
            pairs = zip(times, milliseconds[reference], strict=True)
            row |= _spread(f"ratio_to_{reference}", "", [own / other for own, other in pairs])
        rows[name] = row | {"repeats": len(times)}
    return rows


def _spread(name: str, median: str, values: Sequence[float]) -> dict[str, float]:
    return {
        f"{name}{median}": round(statistics.median(values), 3),
        f"{name}_min": round(min(values), 3),
        f"{name}_max": round(max(values), 3),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Threads, names of device and processor, commit and versions; unknown is None."""
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
