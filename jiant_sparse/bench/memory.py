"""The peak of memory during training steps, every contender in processes of its own.

What counts is the peak beyond `bound`'s, which has the same process, weights and forward pass:
gradients, optimiser state, inputs that layers keep for their gradients, and whatever a method keeps
for itself. Full tuning adds at least a gradient and two moments to every weight, 12 bytes. Choosing
the weights comes before and is told apart.

On the CPU it is the peak of the resident set, as the kernel counts it, with a C library that is
made to give freed tensors back at once (`process`): the peak of what is in use, the same in all
processes to some 0.1 MB. As the library is by itself, at MiniLM's shapes, the peak moves by 6 MB
and full tuning holds 80 MB more than it uses. Imports and small objects of a contender count as
well, so a few MB mean little. On CUDA it is what torch has allocated.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jiant_sparse.bench import contenders, models, process
from jiant_sparse.bench.contenders import REFERENCES
from jiant_sparse.bench.models import Setting

# The optimiser's state exists from the first on, and the second is the first with all of it.
STEPS = 3
# A gradient and AdamW's two moments, in float32.
FULL_BYTES_PER_WEIGHT = 3 * 4


def run(
    setting: Setting,
    *,
    repeats: int,
    only: Sequence[str] = (),
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """One row per contender: bytes, median over `repeats` processes, and shares of full tuning.

    share_of_full: of the 12 bytes per weight; share_of_full_measured: of what `full` needs beyond
    `bound` here. attach_extra_bytes: at the peak of choosing, beyond the model.
    Other arguments, errors and Raises as `step.run`.
    """
    found: dict[str, list[dict[str, int]]] = {}
    errors: dict[str, dict[str, str]] = {}
    for name in contenders.chosen(only, REFERENCES):
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
        "trained_weights": trainer.trained,
        "eligible_weights": trainer.eligible,
    }


def _numbers(name: str, found: Mapping[str, Sequence[Mapping[str, int]]]) -> dict[str, Any]:
    runs = found[name]
    peaks = {key: [run["peak_bytes"] for run in found[key]] for key in (name, *REFERENCES)}
    medians = {key: int(statistics.median(values)) for key, values in peaks.items()}
    above = medians[name] - medians["bound"]
    of_full = FULL_BYTES_PER_WEIGHT * runs[0]["eligible_weights"]
    return {
        "peak_bytes_median": medians[name],
        "peak_bytes_min": min(peaks[name]),
        "peak_bytes_max": max(peaks[name]),
        "above_bound_bytes": above,
        "share_of_full": round(above / of_full, 4),
        "share_of_full_measured": round(above / (medians["full"] - medians["bound"]), 4),
        "start_bytes": _median(runs, "start_bytes"),
        "attach_extra_bytes": _median(runs, "attach_extra_bytes"),
        "trained_weights": runs[0]["trained_weights"],
        "eligible_weights": runs[0]["eligible_weights"],
        "repeats": len(runs),
    }


def _median(runs: Sequence[Mapping[str, int]], key: str) -> int:
    return int(statistics.median(run[key] for run in runs))
