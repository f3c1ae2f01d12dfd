"""Tokens computed for each real token of training: jiant's padding and this package's.

Counted on the batches that training gets, from the real rows and the model's tokenizer; no weights
are loaded. The counts are exact and the same on every machine.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jiant_sparse.data.store import phase_path
from jiant_sparse.data.tasks import Task, find, read_rows
from jiant_sparse.errors import InputError
from jiant_sparse.host import compat, features
from jiant_sparse.host.model import ModelSource, empty_encoder, resolve
from jiant_sparse.host.tokenizer import load
from jiant_sparse.schema.cell import Train

SHORTEST_WIDTH = 8  # as Train.max_seq_length
# In batches. At 16 rows a batch the ratio is 1.03 to 1.06 on CoLA, MRPC and RTE. A window of 8
# gives RTE 1.19; one of 50 takes off another 0.02 and leaves less of the order to chance.
WINDOW = 32


def run(
    data_dir: Path,
    model: str,
    *,
    tasks: Sequence[str],
    batch_size: int,
    max_seq_length: int,
    window: int = WINDOW,
    epochs: int = 1,
) -> Iterator[dict[str, object]]:
    """One row per task and contender: `jiant`, `trimmed`, `grouped`.

    jiant: every example as wide as the longest of the training set, as its smart_truncate leaves
    them. trimmed: every batch as wide as its own longest example. grouped: trimmed, with
    `train.length_grouping` = window, in batches. model: see `host.model.resolve`.
    examples: those that training uses, without WSC's that lose a span. real_tokens and
    computed_tokens: over all `epochs`; ratio: computed to real, at least 1.

    Raises InputError with every problem of arguments, model and training files at once, before
    anything is counted; what `features.load_phase` refuses is raised at its task's turn.
    """
    compat.require_jiant()
    source = resolve(model)
    least = {"batch_size": (batch_size, 1), "window": (window, 2), "epochs": (epochs, 1)}
    problems = [
        f"{name} is {value}; it must be at least {bound}"
        for name, (value, bound) in least.items()
        if value < bound
    ]
    if not SHORTEST_WIDTH <= max_seq_length <= source.longest_sequence:
        problems.append(
            f"max_seq_length is {max_seq_length}; with {model} it must be from {SHORTEST_WIDTH} "
            f"to {source.longest_sequence}"
        )
    found = []
    for name in tasks:
        try:
            found.append(find(name))
            read_rows(phase_path(data_dir, found[-1], "train"), found[-1])
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)
    sizes = {"batch_size": batch_size, "max_seq_length": max_seq_length, "window": window}
    return _rows(data_dir, source, found, sizes, epochs)


def tools(source: ModelSource) -> tuple[Any, Any]:
    """A model's tokenizer, and its encoder without weights."""
    encoder = empty_encoder(source.path)
    return load(source.path, encoder.config.model_type), encoder


def training_rows(
    data_dir: Path, task: Task, tools: tuple[Any, Any], max_seq_length: int
) -> tuple[Any, list[dict]]:
    """jiant's task, and its training rows as a run has them. To be called under `compat.shims`."""
    path = phase_path(data_dir, task, "train").absolute()
    jiant_task = features.make_task(task.like, {"train": path})
    return jiant_task, features.load_phase(jiant_task, path, *tools, max_seq_length).rows


def _rows(
    data_dir: Path,
    source: ModelSource,
    tasks: Sequence[Task],
    sizes: Mapping[str, int],
    epochs: int,
) -> Iterator[dict[str, object]]:
    known = tools(source)
    for task in tasks:
        # Closed before the yield: the caller's code must not run under the shims.
        with compat.shims():
            jiant_task, rows = training_rows(data_dir, task, known, sizes["max_seq_length"])
            computed = _computed(jiant_task, rows, sizes, epochs)
        real = epochs * sum(int(row["data_row"].input_mask.sum()) for row in rows)
        for contender, tokens in computed.items():
            yield {
                "bench": "padding",
                "task": task.name,
                "contender": contender,
                "examples": len(rows),
                "real_tokens": real,
                "computed_tokens": tokens,
                "ratio": tokens / real,
                **sizes,
            }


def _computed(
    jiant_task: Any, rows: list[dict], sizes: Mapping[str, int], epochs: int
) -> dict[str, int]:
    """Tokens that go through the encoder in all epochs, by contender."""
    batches = epochs * math.ceil(len(rows) / sizes["batch_size"])

    def streamed(**settings: int) -> int:
        train = Train.model_validate(settings)
        stream = features.Epochs(jiant_task, rows, sizes["batch_size"], seed=0, train=train)
        return sum(stream.pop()[0].input_ids.numel() for _ in range(batches))

    return {
        # load_phase has put the rows through jiant's own smart_truncate.
        "jiant": epochs * sum(row["data_row"].input_ids.size for row in rows),
        "trimmed": streamed(),
        "grouped": streamed(length_grouping=sizes["window"]),
    }
