"""jiant's metrics as fractions, and what they say of a model that has learned nothing."""

import warnings
from typing import Any

import jiant.tasks.evaluate as evaluate
import numpy as np
from jiant.tasks.core import Task, TaskTypes
from sklearn.exceptions import UndefinedMetricWarning


def fractions(metrics: Any) -> dict[str, float | None]:
    """All of jiant's metrics; one that is not a number (a constant prediction's) is None."""
    values = {"major": metrics.major, **metrics.minor}
    return {name: None if value != value else float(value) for name, value in values.items()}


def majority(task: Task, labels: np.ndarray) -> dict[str, float | None]:
    """All of jiant's metrics of always giving the most frequent of the true labels.

    labels: (examples,), label numbers; of equally frequent ones, the smallest is given. Empty for
    a regression, which has no such answer.
    """
    if task.TASK_TYPE == TaskTypes.REGRESSION:
        return {}
    counts = np.bincount(labels)
    logits = np.zeros((len(labels), len(counts)))
    logits[:, counts.argmax()] = 1
    scheme = evaluate.get_evaluation_scheme_for_task(task)
    answers = scheme.get_accumulator()
    answers.update(batch_logits=logits, batch_loss=0.0, batch=None, batch_metadata={})
    with warnings.catch_warnings():
        # F1 of a class that is never given.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = scheme.compute_metrics_from_accumulator(task, answers, None, labels)
    return fractions(found)
