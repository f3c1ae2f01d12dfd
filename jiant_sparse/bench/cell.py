"""How long a step takes on the batches of a real task: packed, trimmed, and with jiant's padding.

Rows, their order and their lengths are those of training; the encoder has the shapes asked for and
random weights. `ideal` is the limit: as many tokens in as many rows, all of one length.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jiant_sparse.bench import contenders, measure, models, padding
from jiant_sparse.bench.contenders import Trainer
from jiant_sparse.bench.models import CLASSES, Notify, Setting, silent
from jiant_sparse.data.store import phase_path
from jiant_sparse.data.tasks import find, read_rows
from jiant_sparse.host import compat, features, packing
from jiant_sparse.host.model import ModelSource, resolve

FORMS = ("packed", "trimmed", "jiant", "ideal")


def run(
    setting: Setting,
    data_dir: Path,
    model: str,
    *,
    tasks: Sequence[str],
    repeats: int,
    only: Sequence[str],
    notify: Notify = silent,
) -> Iterator[dict[str, Any]]:
    """One row per task, contender and form of FORMS: milliseconds and ratios to trimmed and ideal.

    setting: `sequence_length` is the longest example. model: whose tokenizer counts, see
    `host.model.resolve`. Every round takes another batch, the same for all forms. tokens: computed
    in the median round. only: contenders of `bench step`; all that are installed if empty.
    Raises InputError for an unknown task, model or contender, and for training data that cannot be
    read.
    """
    compat.require_jiant()
    source, names = resolve(model), contenders.chosen(only)
    # Without the references, which the forms do not need; `ours` stands for all of its names.
    asked = {name for each in only for name in contenders.under(each)}
    names = tuple(name for name in names if name in asked or not only)
    for task in tasks:
        batches = _batches(source, data_dir, task, setting, repeats + 1)
        for name in names:
            notify(f"cell: {task}, {name}")
            yield from _measured(name, task, setting, batches, repeats)


def _batches(
    source: ModelSource, data_dir: Path, name: str, setting: Setting, count: int
) -> list[np.ndarray]:
    """Lengths of the rows of each batch, and the width of the task's longest row as the last."""
    task = find(name)
    read_rows(phase_path(data_dir, task, "train"), task)
    known = padding.tools(source)
    with compat.shims():
        jiant_task, rows = padding.training_rows(data_dir, task, known, setting.sequence_length)
        stream = features.Epochs(jiant_task, rows, setting.batch_size, seed=0)
        masks = [stream.pop()[0].input_mask for _ in range(count)]
    width = rows[0]["data_row"].input_ids.shape[-1]
    return [np.append(mask.flatten(0, -2).sum(-1).numpy(), width) for mask in masks]


def _measured(
    name: str, task: str, setting: Setting, batches: list[np.ndarray], repeats: int
) -> Iterator[dict[str, Any]]:
    trainer = contenders.train(name, models.build(setting))
    turns = {form: iter(batches) for form in FORMS}
    tokens: dict[str, list[int]] = {form: [] for form in FORMS}

    def step(form: str) -> None:
        tokens[form].append(_give(trainer, form, next(turns[form])))
        handles = packing.install(trainer.model.encoder) if form == "packed" else []
        trainer.step()
        for handle in handles:
            handle.remove()

    calls = {form: partial(step, form) for form in FORMS}
    times = measure.alternate(calls, repeats, setting.place)
    for form, numbers in measure.numbers(times, "trimmed", "ideal").items():
        yield {
            "bench": "cell",
            "task": task,
            "contender": name,
            "form": form,
            "tokens": int(np.median(tokens[form])),
            **numbers,
            **setting.fields(),
        }


def _give(trainer: Trainer, form: str, batch: np.ndarray) -> int:
    """Set the model's batch in this form. Returns the number of tokens that layers compute."""
    *lengths, longest = map(int, batch)
    model = trainer.model
    width = {"jiant": longest, "ideal": round(sum(lengths) / len(lengths))}.get(form, max(lengths))
    shape = (len(lengths), width)
    config = model.encoder.config
    generator = torch.Generator().manual_seed(len(lengths) * width)
    ids = torch.randint(config.pad_token_id + 1, config.vocab_size, shape, generator=generator)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    if form == "ideal":
        real = torch.ones(shape, dtype=torch.bool)
    place = model.ids.device
    model.ids = ids.masked_fill(~real, config.pad_token_id).to(place)
    model.real = real.long().to(place)
    model.labels = torch.randint(CLASSES, shape[:1], generator=generator).to(place)
    return sum(lengths) if form == "packed" else ids.numel()
