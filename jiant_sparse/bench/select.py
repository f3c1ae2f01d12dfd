"""What choosing weights costs: SAM's burn-in per batch, the top-k of all scores, uniform draws.

Burn-in: `full` is the forward and backward pass of full tuning, without its optimizer;
`full_without_dropout` the same with dropout off, as in SAM; ours/... also sum up the gradients.
Top-k and uniform draws: ours against torch on one long vector, which is not split into tensors
again.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jiant_sparse.bench import contenders, measure, models, process
from jiant_sparse.bench.models import Classifier, Notify, Setting, silent
from jiant_sparse.sparse import selection, surgery

# Making the zeros that gradients are added to costs little in 4 batches, nothing in SAM's hundreds.
BATCHES = 4
_PLAIN = "full_without_dropout"

Choices = dict[str, dict[str, Callable[[], object]]]


def run(setting: Setting, *, repeats: int, notify: Notify = silent) -> Iterator[dict[str, Any]]:
    """One row per part and contender: milliseconds of a batch or of a choice, and ratios.

    extra_bytes: peak memory of a choice in a fresh process, beyond scores and process. notify:
    called with lines of progress.
    """
    notify("select: burn_in")
    model = models.build(setting)
    yield from _burn_in(model, repeats)
    scores = {name: total.abs_() for name, total in _sum(model, 1, "signed_sum").items()}
    del model
    for part, calls in _choices(scores, setting.density).items():
        notify(f"select: {part}")
        times = measure.alternate(calls, repeats, setting.place)
        for name, numbers in measure.numbers(times, "ours").items():
            extra = process.fresh(extra_bytes, part, name, setting)
            yield _row(part, name, setting) | numbers | {"extra_bytes": extra}


def extra_bytes(part: str, name: str, setting: Setting) -> int:
    """Peak bytes of one choice beyond those in use before it, in this process."""
    generator = torch.Generator().manual_seed(0)
    scores = {
        tensor: torch.rand(weight.shape, generator=generator).to(setting.place)
        for tensor, weight in surgery.eligible(models.build(setting).encoder).items()
    }
    choose = _choices(scores, setting.density)[part][name]
    before = process.restart_peak(setting.place)
    choose()
    return process.peak(setting.place) - before


def _row(part: str, name: str, setting: Setting) -> dict[str, Any]:
    return {"bench": "select", "part": part, "contender": name} | setting.fields()


def _burn_in(model: Classifier, repeats: int) -> Iterator[dict[str, Any]]:
    probe = contenders.probe_of(model)
    calls: dict[str, Callable[[], object]] = {
        _PLAIN: lambda: [*probe(BATCHES)],
        "full": lambda: [*probe(BATCHES, dropout=True)],
    }
    for score in selection.SUMS:
        calls[f"ours/{score}"] = partial(_sum, model, BATCHES, score)
    whole = measure.alternate(calls, repeats, model.setting.place)
    times = {name: [time / BATCHES for time in each] for name, each in whole.items()}
    for name, numbers in measure.numbers(times, _PLAIN, "full").items():
        yield _row("burn_in", name, model.setting) | {"per": "batch"} | numbers


def _sum(model: Classifier, batches: int, score: str) -> dict[str, Tensor]:
    """Sum of a score over batches, as SAM accumulates it."""
    weights, probe = surgery.eligible(model.encoder), contenders.probe_of(model)
    return selection.accumulate(weights, probe(batches), selection.SUMS[score])


def _choices(scores: Mapping[str, Tensor], density: float) -> Choices:
    """Part -> contender -> the choice."""
    sizes = {name: tensor.numel() for name, tensor in scores.items()}
    count = sum(sizes.values())
    k = selection.budget(count, density)

    def top_k() -> object:
        flat = torch.cat([tensor.flatten() for tensor in scores.values()])
        return flat.topk(k, sorted=False).indices.sort()

    def permutation() -> object:
        return torch.randperm(count, generator=models.rng("permutation"))[:k].sort()

    return {
        "top_k": {"ours": lambda: selection.top_k(scores, density), "torch.topk": top_k},
        "uniform": {
            "ours": lambda: selection.uniform(sizes, density, models.rng),
            "torch.randperm": permutation,
        },
    }
