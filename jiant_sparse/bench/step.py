"""How long a training step takes: forward, backward, clip, optimizer, for every contender.

The models of all contenders are in memory together, so that they can take turns: about 8 GB for
RoBERTa-base. Measure fewer at a time with `only` where that is too much.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from jiant_sparse.bench import contenders, measure, models
from jiant_sparse.bench.contenders import REFERENCES, Trainer
from jiant_sparse.bench.models import Notify, Setting, silent


def run(
    setting: Setting, *, repeats: int, only: Sequence[str] = (), notify: Notify = silent
) -> Iterator[dict[str, Any]]:
    """One row per contender: milliseconds of a step, and their ratios to `bound` and `full`.

    The row of a contender that fails has its `error` in the place of numbers. only: see
    `contenders.chosen`, which raises InputError for it; `bound` and `full` always run. notify:
    called with lines of progress.
    """
    trainers: dict[str, Trainer] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in contenders.chosen(only):
        notify(f"step: {name}")
        trainer, error = contenders.attempt(name, partial(_started, name, setting))
        rows[name] = {"bench": "step", "contender": name} | setting.fields() | error
        if not error:
            trainers[name] = trainer
    notify(f"step: {repeats} rounds")
    calls = {name: trainer.step for name, trainer in trainers.items()}
    times = measure.alternate(calls, repeats, setting.place)
    for name, numbers in measure.numbers(times, *REFERENCES).items():
        rows[name] |= numbers | trainers[name].counts()
    yield from rows.values()


def _started(name: str, setting: Setting) -> Trainer:
    """The trainer after its first step, which makes the optimizer's state."""
    trainer = contenders.train(name, models.build(setting))
    trainer.step()
    return trainer
