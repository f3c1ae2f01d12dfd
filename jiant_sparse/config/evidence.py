"""Checks that records which select hyper-parameters fit the benchmark that uses them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from jiant_sparse.data.prepare import TaskData
from jiant_sparse.schema.cell import Cell, Setup
from jiant_sparse.schema.record import Record

_Expected = Mapping[tuple[str, int | None], tuple[Setup, TaskData]]


def foreign(
    evidence: Sequence[Record], model: str, cells: Iterable[tuple[Cell, TaskData]]
) -> dict[str, None]:
    """Return problems: records of another model, of other data, or of different dev sets.

    model: the sha256 of the benchmark's model. cells: the benchmark's cells with their data.
    """
    expected: dict[tuple[str, int | None], tuple[Setup, TaskData]] = {}
    for cell, data in cells:
        expected[cell.key.task, None] = expected[cell.key.task, cell.seed] = cell.setup, data
    counts: Counter[tuple[str, str]] = Counter()
    dev_sets: dict[tuple[str, str], Counter[str | None]] = {}
    for found in evidence:
        benchmark, task = found.cell.benchmark, found.cell.task
        if found.inputs.get("model") != model:
            counts[benchmark, "another model"] += 1
        for name in _other_data(found, expected):
            counts[benchmark, f"another {name} set of {task}"] += 1
        dev_sets.setdefault((benchmark, task), Counter())[found.inputs.get("val")] += 1
    for (benchmark, task), sets in dev_sets.items():
        # Dev scores on different sets do not compare, whatever this benchmark's own set is.
        if len(sets) > 1 and not counts[benchmark, f"another val set of {task}"]:
            counts[benchmark, f"{len(sets)} different val sets of {task}"] = sets.total()
    return {
        f"{number} records of {benchmark}, which choose values here, were made with {what}; "
        "run it again, both into one new --output-dir": None
        for (benchmark, what), number in counts.items()
    }


def _other_data(found: Record, expected: _Expected) -> list[str]:
    """Return the phases in which the record's data differ, if it should be split as here."""
    task, seed = found.cell.task, found.cell.seed
    if (task, None) not in expected:
        return []
    setup, data = expected.get((task, seed), expected[task, None])
    if any(found.settings.get(name) != getattr(setup, name) for name in ("split", "split_seed")):
        return []
    names = ["val", "test"]
    # A perturbation leaves out a part of the training set, a different part for each seed.
    if found.settings.get("drop_train") == setup.drop_train and (
        not setup.drop_train or (task, seed) in expected
    ):
        names.append("train")
    return [name for name in names if found.inputs.get(name) != data.sha256[name]]
