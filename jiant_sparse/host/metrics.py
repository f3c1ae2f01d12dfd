"""jiant's metrics as fractions, and the metrics of the majority class."""

import warnings
from typing import Any

import jiant.tasks.evaluate as evaluate
import numpy as np
from jiant.tasks.core import Task, TaskTypes
from sklearn.exceptions import UndefinedMetricWarning


def fractions(metrics: Any) -> dict[str, float | None]:
    """All of jiant's metrics. NaN, of constant predictions, becomes None."""
    values = {"major": metrics.major, **metrics.minor}
    return {name: None if value != value else float(value) for name, value in values.items()}


def majority(task: Task, labels: np.ndarray) -> dict[str, float | None]:
    """All of jiant's metrics of a model that always predicts the most frequent label.

    labels: (examples,) true label numbers; the smallest of equally frequent ones counts. Empty for
    a regression.
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
        # F1 of a class that is never predicted.
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        found = scheme.compute_metrics_from_accumulator(task, answers, None, labels)
    return fractions(found)
