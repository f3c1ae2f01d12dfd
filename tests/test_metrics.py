"""What a model that has learned nothing scores, by jiant's own metrics."""

from types import SimpleNamespace

import numpy as np
import pytest
from jiant.tasks.retrieval import create_task_from_config

from jiant_sparse.host import features, metrics


def task(name):
    return create_task_from_config(features.task_config(name, {}))


def test_nan_and_regression():
    assert metrics.majority(task("stsb"), np.array([1, 2, 2])) == {}
    found = SimpleNamespace(major=float("nan"), minor={"acc": np.float64(0.5)})
    assert metrics.fractions(found) == {"major": None, "acc": 0.5}


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("rte", [0, 1, 1], {"acc": 2 / 3}),
        ("copa", [0, 0, 0, 1, 1], {"acc": 3 / 5}),
        ("wsc", [0, 1, 1, 1], {"acc": 3 / 4}),
        # The correlation of a constant: sklearn's 0.
        ("cola", [1, 1, 0], {"mcc": 0.0}),
        # All positive: precision 3/4, recall 1.
        ("mrpc", [1, 1, 1, 0], {"acc": 3 / 4, "f1": 6 / 7, "acc_and_f1": (3 / 4 + 6 / 7) / 2}),
        # All negative: there is no F1 to have.
        ("mrpc", [0, 0, 1], {"acc": 2 / 3, "f1": 0.0, "acc_and_f1": 1 / 3}),
        # F1 of the class that is always given: 2 * 1/2 / (1/2 + 1); of the others 0.
        ("cb", [2, 2, 0, 1], {"acc": 1 / 2, "avg_f1": 2 / 9, "f11": 0.0, "f13": 2 / 3}),
        # Of equally frequent ones the first; a class that is in no example counts for nothing.
        ("mrpc", [1, 0, 1, 0], {"acc": 1 / 2, "f1": 0.0}),
        ("cb", [2], {"acc": 1.0, "f13": 1.0}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_majority(name, labels, expected):
    found = metrics.majority(task(name), np.array(labels))
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-12)
