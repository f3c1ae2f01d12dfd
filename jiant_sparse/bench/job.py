"""A whole job, data to dev scores: ours, and that of Hugging Face's Trainer with PEFT's tuners.

A job finds model and data, reads the training and dev rows, tokenizes all of them, loads the model,
trains some steps, and scores the dev rows. Ours is a cell as `jiant-sparse run` trains it, so it
also checks its inputs and writes its delta. Trainer pads
each batch to its longest row, keeps nothing, and gives the loss on dev. Both train a linear head
and use fused AdamW, in float32 on the CPU.
"""

import importlib.util
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from jiant_sparse.bench import contenders, measure, peft_tuners
from jiant_sparse.bench.models import Notify, Setting, silent
from jiant_sparse.data.prepare import prepare
from jiant_sparse.data.store import phase_path, to_text
from jiant_sparse.data.tasks import TASKS, Task, find, read_rows
from jiant_sparse.errors import InputError, suggest
from jiant_sparse.files import write_text
from jiant_sparse.host import compat
from jiant_sparse.host.job import Job
from jiant_sparse.host.model import resolve
from jiant_sparse.methods import base
from jiant_sparse.schema.cell import Cell, Setup, Train
from jiant_sparse.schema.record import CellKey

Tune = Callable[[nn.Module, float], Any]
# Method of ours -> Trainer's contenders that do the same, with PEFT's tuner of the encoder.
RIVALS: dict[str, dict[str, Tune | None]] = {
    "full_tuning": {"hf/full": None},
    "lora": {"hf/lora": peft_tuners.lora},
    "random": {"hf/shira": peft_tuners.shira, "hf/super_tuning": peft_tuners.super_tuning},
}
PARTS = ("job", "train", "score")


def run(
    data_dir: Path,
    model: str,
    *,
    tasks: Sequence[str],
    methods: Sequence[str],
    steps: int,
    repeats: int,
    batch_size: int,
    max_seq_length: int,
    density: float,
    notify: Notify = silent,
) -> Iterator[dict[str, Any]]:
    """One row per task, contender and part of PARTS: milliseconds, and ratios to the rivals.

    model: see `host.model.resolve`. methods: keys of RIVALS. Rivals whose library is not installed
    are left out, with a line to `notify`. The row of a contender that fails has its `error`.
    Repeats take other rows in another order, the n-th of ours by seed n as the n-th of Trainer.

    Raises InputError for an unknown task or method, for a task that is not one label for one or two
    texts, for sizes that the model does not take, and for data that cannot be read.
    """
    compat.require_jiant()
    known = [_classified(name) for name in tasks]
    for method in methods:
        if method not in RIVALS:
            raise InputError(f"method {method!r} has no rivals; {suggest(method, RIVALS)}")
    setting = Setting(str(resolve(model).path), batch_size, max_seq_length, density)
    wanted = {name for method in methods for name in RIVALS[method]}
    if left_out := [name for name in absent() if name in wanted]:
        commands = f"pip install accelerate '{contenders.PEFT}'"
        notify(f"left out: {', '.join(left_out)}; to have them: {commands}")
    transformers.logging.set_verbosity_error()
    # Otherwise its batches take every core, whatever torch's threads.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    for task in known:
        with tempfile.TemporaryDirectory() as folder:
            work = _Work(task, Path(folder), model, setting)
            _write_data(data_dir, work)
            for method in methods:
                for row in _compared(work, method, steps, repeats, notify):
                    yield {**row, "steps": steps, **setting.fields(), "model": model}


def absent() -> tuple[str, ...]:
    """Trainer's contenders whose library is not installed."""
    missing = {name for name in ("accelerate", "peft") if importlib.util.find_spec(name) is None}
    rivals = [pair for pairs in RIVALS.values() for pair in pairs.items()]
    return tuple(
        name for name, tune in rivals if "accelerate" in missing or (tune and "peft" in missing)
    )


def _classified(name: str) -> Task:
    simple = [key for key, task in TASKS.items() if not task.choices and not task.has_spans]
    if (task := find(name)).name in simple:
        return task
    raise InputError(f"task {name} is no label for one or two texts; {suggest(name, simple)}")


def _write_data(data_dir: Path, work: "_Work") -> None:
    """Write the rows of train and val, and two as test; and two of each for `work.trial`.

    A cell scores test, too, and Trainer does not. Two, because a correlation needs them.
    """
    task = work.task
    rows = {phase: read_rows(phase_path(data_dir, task, phase), task) for phase in ("train", "val")}
    rows["test"] = rows["val"][:2]
    for phase, kept in rows.items():
        write_text(phase_path(work.data_dir, task, phase), to_text(kept))
        write_text(phase_path(work.trial.data_dir, task, phase), to_text(kept[:2]))


def _compared(
    work: "_Work", method: str, steps: int, repeats: int, notify: Notify
) -> Iterator[dict[str, Any]]:
    """Rows of a method of ours and of its rivals, which take turns."""
    ours, left_out = f"ours/{method}", absent()
    rivals = {name: tune for name, tune in RIVALS[method].items() if name not in left_out}
    jobs: dict[str, Callable[[_Work, int, int], dict[str, float]]]
    jobs = {ours: partial(_ours, method)}
    jobs |= {name: partial(_trainer, tune) for name, tune in rivals.items()}
    calls: dict[str, Callable[[], None]] = {}
    times: dict[str, dict[str, list[float]]] = {part: {} for part in PARTS}

    def call(name: str, seeds: Iterator[int]) -> None:
        for part, seconds in jobs[name](work, steps, next(seeds)).items():
            times[part].setdefault(name, []).append(1000 * seconds)

    for name, job in jobs.items():
        notify(f"job: {work.task.name}, {name}")
        # Imports libraries; and who cannot run says so at once.
        _, error = contenders.attempt(name, partial(job, work.trial, 1, 0))
        if error:
            yield {"bench": "job", "task": work.task.name, "contender": name} | error
        else:
            calls[name] = partial(call, name, itertools.count())
    times["job"] = measure.alternate(calls, repeats, warmup=0)
    references = [name for name in rivals if name in calls]
    for part in PARTS:
        for name, numbers in measure.numbers(times[part], *references).items():
            fields = {"bench": "job", "task": work.task.name, "contender": name, "part": part}
            yield {**fields, **numbers}


@dataclass(frozen=True)
class _Work:
    """What all jobs on a task share. data_dir: of `_write_data`."""

    task: Task
    data_dir: Path
    model: str
    setting: Setting

    @property
    def trial(self) -> "_Work":
        """The same with few rows."""
        return replace(self, data_dir=self.data_dir / "trial")


def _ours(method: str, work: _Work, steps: int, seed: int) -> dict[str, float]:
    """Run a cell, in a directory of its own and without cached features; seconds of its parts."""
    from jiant_sparse.host.train import train

    setting, where = work.setting, {"model": work.model, "data_dir": str(work.data_dir)}
    settings = {
        "max_steps": steps,
        "eval_every": steps,
        "score_train": 0,
        "batch_size": setting.batch_size,
        "max_seq_length": setting.sequence_length,
        "checkpoint_minutes": 1e9,
    }
    cell = Cell(
        CellKey(benchmark="job", task=work.task.name, method=method, seed=seed),
        work.task,
        method,
        {"density": setting.density} if hasattr(base.find(method), "density") else {},
        Train.model_validate(settings),
        Setup.model_validate(where | {"split": "files", "device": "cpu"}),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = prepare(work.task, work.data_dir, folder)
        source, threads = resolve(work.model), torch.get_num_threads()
        cost = train(Job(cell, data, source, folder, folder / "features", threads)).cost
    assert cost and cost.train_seconds and cost.eval_seconds
    return {"train": cost.train_seconds, "score": cost.eval_seconds}


def _trainer(tune: Tune | None, work: _Work, steps: int, seed: int) -> dict[str, float]:
    """Run Hugging Face's Trainer; seconds of its parts. tune: None trains everything."""
    path = resolve(work.model).path
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    rows = {phase: _tokenized(work, phase, tokenizer) for phase in ("train", "val")}
    transformers.set_seed(seed)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        path, num_labels=len(work.task.labels) or 1
    )
    if tune:
        setattr(model, model.base_model_prefix, tune(model.base_model, work.setting.density))
    with tempfile.TemporaryDirectory() as folder:
        trainer = transformers.Trainer(
            model=model,
            args=_arguments(folder, work.setting, steps, seed),
            train_dataset=rows["train"],
            eval_dataset=rows["val"],
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trained, scored = trainer.train().metrics, trainer.evaluate()
    return {"train": trained["train_runtime"], "score": scored["eval_runtime"]}


def _arguments(folder: str, setting: Setting, steps: int, seed: int) -> Any:
    """Trainer's arguments: our defaults, nothing logged, nothing saved."""
    ours = Train.model_validate({})
    return transformers.TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=setting.batch_size,
        per_device_eval_batch_size=max(1, ours.eval_tokens // setting.sequence_length),
        learning_rate=ours.learning_rate,
        weight_decay=ours.weight_decay,
        warmup_ratio=ours.warmup_fraction,
        optim="adamw_torch_fused",
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=seed,
    )


def _tokenized(work: _Work, phase: str, tokenizer: Any) -> list[dict[str, Any]]:
    """The rows of a phase, not padded, with their labels."""
    with phase_path(work.data_dir, work.task, phase).open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = ([row[name] for row in rows] for name in work.task.texts)
    found = tokenizer(*texts, truncation=True, max_length=work.setting.sequence_length)
    labels = work.task.labels
    return [
        {key: found[key][position] for key in found}
        | {"labels": labels.index(row["label"]) if labels else float(row["label"])}
        for position, row in enumerate(rows)
    ]
