"""A cell's length in steps, and jiant's configuration of it, for our run and for plain jiant."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiant.proj.main.components.container_setup as container_setup
from jiant.tasks.core import Task

from jiant_sparse.data.prepare import TaskData
from jiant_sparse.files import write_text
from jiant_sparse.host import features
from jiant_sparse.schema.cell import Cell, Train


def total_steps(train: Train, examples: int) -> int:
    """Optimizer steps of a whole run on `examples` training examples.

    >>> total_steps(Train(max_steps=None, max_epochs=2, batch_size=16), examples=250)
    32
    """
    if train.max_steps is not None:
        return train.max_steps
    batches = math.ceil(examples / train.batch_size)
    return train.max_epochs * math.ceil(batches / train.gradient_accumulation)


def warmup_steps(train: Train, steps: int) -> int:
    """Steps, of a run of `steps`, in which the learning rate rises."""
    return int(steps * train.warmup_fraction)


def evaluations(train: Train, steps: int) -> range:
    """Steps after which dev is scored; a run of `steps` also scores after its last one.

    >>> [*evaluations(Train(eval_every=50), steps=120)]
    [50, 100]
    """
    return range(train.eval_every - train.eval_offset, steps + 1, train.eval_every)


def first_stop(train: Train, steps: int, counts: Callable[[int], bool]) -> int | None:
    """The first of `steps` steps after which early stopping can end a run; None if none can.

    counts: whether a dev score after a step competes for the best checkpoint.
    """
    scored = [step for step in evaluations(train, steps) if counts(step)]
    # The first score is the best so far; `patience` scores have to follow it.
    if not 0 < train.patience < len(scored):
        return None
    first = max(scored[train.patience], train.min_steps + 1)
    return first if first <= steps else None


def write_configs(cell: Cell, data: TaskData, directory: Path, examples: int) -> dict[str, Any]:
    """Write a cell's task and task-container configuration for plain jiant; returns the latter.

    The caches that it names, below `directory`, are the ones that jiant's tokenize_and_cache
    writes; our own run keeps its features in memory. examples: number for training.
    """
    name = cell.task.like
    task = features.task_config(name, data.paths)
    config = _container_config(cell, data, directory, examples)
    write_text(directory / f"{name}_config.json", json.dumps(task, indent=1) + "\n")
    write_text(directory / "container_config.json", json.dumps(config, indent=1) + "\n")
    return config


def _container_config(cell: Cell, data: TaskData, directory: Path, examples: int) -> dict[str, Any]:
    train, name = cell.train, cell.task.like
    steps = total_steps(train, examples)
    phases = ("train", "val", "val_labels", "test")
    return {
        "task_config_path_dict": {name: str(directory / f"{name}_config.json")},
        "task_cache_config_dict": {
            name: {phase: str(directory / "cache" / name / phase) for phase in phases}
        },
        "sampler_config": {"sampler_type": "ProportionalMultiTaskSampler"},
        "global_train_config": {"max_steps": steps, "warmup_steps": warmup_steps(train, steps)},
        "task_specific_configs_dict": {
            name: {
                "train_batch_size": train.batch_size,
                "eval_batch_size": max(1, train.eval_tokens // train.max_seq_length),
                "gradient_accumulation_steps": train.gradient_accumulation,
                "eval_subset_num": train.dev_examples or data.examples["val"],
            }
        },
        "taskmodels_config": {
            "task_to_taskmodel_map": {name: name},
            "taskmodel_config_map": {name: None},
        },
        "task_run_config": {
            "train_task_list": [name],
            "train_val_task_list": [name],
            "val_task_list": [name],
            "test_task_list": [name],
        },
        "metric_aggregator_config": {"metric_aggregator_type": "EqualMetricAggregator"},
    }


def make_container(task: Task, config: dict[str, Any]) -> container_setup.JiantTaskContainer:
    """jiant's task container. A cell has one task, so nothing samples or aggregates tasks."""
    return container_setup.JiantTaskContainer(
        task_dict={task.name: task},
        task_sampler=None,
        task_cache_dict={},
        global_train_config=container_setup.GlobalTrainConfig.from_dict(
            config["global_train_config"]
        ),
        task_specific_configs=container_setup.create_task_specific_configs(
            config["task_specific_configs_dict"]
        ),
        taskmodels_config=container_setup.TaskmodelsConfig.from_dict(config["taskmodels_config"]),
        task_run_config=container_setup.TaskRunConfig.from_dict(config["task_run_config"]),
        metrics_aggregator=None,
    )
