"""The peak of memory during training steps, every contender in processes of its own.

A contender's memory is its peak beyond that of `bound`, which has the same process, weights and
forward pass: gradients, optimizer state, layer inputs kept for gradients, and the method's own
state. Full tuning adds at least a gradient and two moments to every weight, 12 bytes. The choice of
weights comes before the steps and is measured apart.

On the CPU the peak is that of the resident set, as the kernel counts it, with a C library that is
made to return freed tensors at once (`process`). Peaks of equal processes then differ by about
0.1 MB; by default, at MiniLM's shapes, they differ by 6 MB and full tuning holds 80 MB more than it
uses. Imports and small objects count as well, so a few MB mean little. On CUDA the peak is that of
torch's allocator.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jiant_sparse.bench import contenders, models, process
from jiant_sparse.bench.contenders import REFERENCES
from jiant_sparse.bench.models import Notify, Setting, silent

# The first step makes the optimizer's state; the second is the first with all memory in use.
STEPS = 3
# A gradient and AdamW's two moments, in float32.
FULL_BYTES_PER_WEIGHT = 3 * 4


def run(
    setting: Setting, *, repeats: int, only: Sequence[str] = (), notify: Notify = silent
) -> Iterator[dict[str, Any]]:
    """One row per contender: bytes, median over `repeats` processes, and shares of full tuning.

    share_of_full: of the 12 bytes per weight. share_of_full_measured: of what `full` needs beyond
    `bound` here. attach_extra_bytes: peak of the choice of weights, beyond the model.
    Errors, `only` and `notify` as in `step.run`.
    """
    found: dict[str, list[dict[str, int]]] = {}
    errors: dict[str, dict[str, str]] = {}
    for name in contenders.chosen(only):
        notify(f"memory: {name}")
        runs, error = contenders.attempt(name, partial(_runs, name, setting, repeats))
        if error:
            errors[name] = error
        else:
            found[name] = runs
    for name in [*found, *errors]:
        row = {"bench": "memory", "contender": name} | setting.fields()
        yield row | (errors[name] if name in errors else _numbers(name, found))


def _runs(name: str, setting: Setting, repeats: int) -> list[dict[str, int]]:
    return [process.fresh(measure, name, setting) for _ in range(repeats)]


def measure(name: str, setting: Setting) -> dict[str, int]:
    """Bytes of one contender, in this process."""
    model = models.build(setting)
    before = process.restart_peak(setting.place)
    trainer = contenders.train(name, model)
    attach_extra = process.peak(setting.place) - before
    start = process.restart_peak(setting.place)
    for _ in range(STEPS):
        trainer.step()
    return {
        "start_bytes": start,
        "peak_bytes": process.peak(setting.place),
        "attach_extra_bytes": attach_extra,
    } | trainer.counts()


def _numbers(name: str, found: Mapping[str, Sequence[Mapping[str, int]]]) -> dict[str, Any]:
    runs = found[name]
    peaks = [run["peak_bytes"] for run in runs]
    bound, full = (_median(found[reference], "peak_bytes") for reference in REFERENCES)
    above = _median(runs, "peak_bytes") - bound
    eligible = runs[0]["eligible_weights"]
    return {
        "peak_bytes_median": bound + above,
        "peak_bytes_min": min(peaks),
        "peak_bytes_max": max(peaks),
        "above_bound_bytes": above,
        "share_of_full": round(above / (FULL_BYTES_PER_WEIGHT * eligible), 4),
        "share_of_full_measured": round(above / (full - bound), 4),
        "start_bytes": _median(runs, "start_bytes"),
        "attach_extra_bytes": _median(runs, "attach_extra_bytes"),
        "trained_weights": runs[0]["trained_weights"],
        "eligible_weights": eligible,
        "repeats": len(runs),
    }


def _median(runs: Sequence[Mapping[str, int]], key: str) -> int:
    return int(statistics.median(run[key] for run in runs))
