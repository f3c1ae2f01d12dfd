"""How long a training step takes: forward, backward, clip, optimiser, for every contender.

All contenders' models are in memory together, so that they can take turns: some 8 GB for
RoBERTa-base. Take some with `only` where that is too much.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jiant_sparse.bench import contenders, measure, models
from jiant_sparse.bench.contenders import REFERENCES, Trainer
from jiant_sparse.bench.models import Setting


def run(
    setting: Setting,
    *,
    repeats: int,
    only: Sequence[str] = (),
    notify: Callable[[str], None] = lambda line: None,
) -> Iterator[dict[str, Any]]:
    """One row per contender: milliseconds of a step, and their ratios to `bound` and `full`.

    A contender that fails has its `error` in place of the numbers. only: as `contenders.chosen`;
    `bound` and `full` run in any case. notify: is given a line of progress at a time.
    Raises InputError as `contenders.chosen`.
    """
    trainers: dict[str, Trainer] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in contenders.chosen(only, REFERENCES):
        notify(f"step: {name}")
        trainer, error = contenders.attempt(name, partial(_started, name, setting))
        rows[name] = {"bench": "step", "contender": name} | setting.fields() | error
        if not error:
            trainers[name] = trainer
    notify(f"step: {repeats} rounds")
    calls = {name: trainer.step for name, trainer in trainers.items()}
    wait = measure.synchronizer(setting.place)
    times = measure.alternate(calls, repeats, synchronize=wait)
    for name, row in rows.items():
        yield row | (_numbers(name, trainers[name], times) if name in trainers else {})


def _started(name: str, setting: Setting) -> Trainer:
    """The trainer after its first step, which makes the optimiser's state."""
    trainer = contenders.train(name, models.build(setting))
    trainer.step()
    return trainer


def _numbers(
    name: str, trainer: Trainer, times: Mapping[str, Sequence[float]]
) -> dict[str, float | int]:
    ratios: dict[str, float | int] = {}
    for reference in REFERENCES:
        ratios |= measure.ratio(reference, times[name], times[reference])
    trained = {"trained_weights": trainer.trained, "eligible_weights": trainer.eligible}
    return measure.summary(times[name]) | ratios | trained | {"repeats": len(times[name])}
