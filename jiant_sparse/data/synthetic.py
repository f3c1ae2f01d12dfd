"""Small learnable versions of the seven paper tasks, in the format of the real files.

They need no network, and a small encoder learns them in about sixty steps. Scores on them show that
a method trains, not how well it does on the real task of the same name.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jiant_sparse import seeds
from jiant_sparse.data.store import conflicts, publish, to_text, write_manifest
from jiant_sparse.data.synthetic_texts import MAKERS
from jiant_sparse.data.tasks import PHASES, Label, Task
from jiant_sparse.errors import InputError

# Rows by phase.
SIZES: Mapping[str, int] = MappingProxyType({"train": 320, "val": 64, "test": 128})

# The fewest rows in which every label of every task occurs.
SMALLEST_PHASE = 8

# Percent of each label in every phase: near the real tasks, without a majority hard to beat.
LABEL_PERCENT: Mapping[str, Mapping[Label | float, int]] = MappingProxyType(
    {
        "cola": {"1": 60, "0": 40},
        "stsb": {0.0: 30, 1.0: 20, 3.6: 20, 5.0: 30},
        "mrpc": {"1": 60, "0": 40},
        "rte": {"entailment": 50, "not_entailment": 50},
        "cb": {"entailment": 45, "neutral": 35, "contradiction": 20},
        "copa": {0: 50, 1: 50},
        "wsc": {False: 55, True: 45},
    }
)

# Draws without a new row before the texts count as used up.
MOST_DRAWS = 1000


def synthesize(
    data_dir: Path,
    tasks: Sequence[Task],
    *,
    seed: int = 0,
    sizes: Mapping[str, int] = SIZES,
) -> None:
    """Write train, val and test files of `tasks` and record them in the manifest.

    No text occurs twice in a task, and idx counts through its three files. The bytes depend on
    `seed`, `sizes` and the task's name alone. Files with the same bytes are left alone.

    Raises InputError, before anything is written, if a task has no reader of the seven paper tasks,
    if a size is below 8 or above what the texts allow, or if other files are in the way.
    """
    if problems := _setting_problems(tasks, sizes):
        raise InputError(*problems)
    made = {task.name: _make(task, seed, sizes) for task in tasks}
    if problems := [each for t in tasks for each in conflicts(data_dir, t, made[t.name])]:
        raise InputError(*problems)
    for task in tasks:
        publish(data_dir, task, made[task.name])
    write_manifest(data_dir, tasks)


def _setting_problems(tasks: Sequence[Task], sizes: Mapping[str, int]) -> list[str]:
    problems = [
        f"task {task.name}: there is no synthetic version of {task.like}; "
        f"there is one of {', '.join(MAKERS)}"
        for task in tasks
        if task.like not in MAKERS
    ]
    if set(sizes) != set(PHASES):
        problems.append(f"sizes has {', '.join(sizes) or 'nothing'}; needed: {', '.join(PHASES)}")
    problems += [
        f"sizes: {phase} is {size!r}; it must be a whole number >= {SMALLEST_PHASE}"
        for phase, size in sizes.items()
        if type(size) is not int or size < SMALLEST_PHASE
    ]
    return problems


def _make(task: Task, seed: int, sizes: Mapping[str, int]) -> dict[str, str]:
    """File text by phase."""
    generator = random.Random(seeds.derive(seed, "synthetic", task.name))
    seen: set[tuple[str, ...]] = set()
    phases = {}
    for phase in PHASES:
        rows = []
        for label in _labels(generator, task, sizes[phase]):
            row = _new_row(generator, task, label, seen)
            rows.append({"idx": len(seen) - 1, "label": label, **row})
        phases[phase] = to_text(rows)
    return phases


def _new_row(
    generator: random.Random, task: Task, label: Label | float, seen: set[tuple[str, ...]]
) -> dict:
    for _ in range(MOST_DRAWS):
        row = MAKERS[task.like](generator, label)
        texts = tuple(row[name] for name in task.texts)
        if texts not in seen:
            seen.add(texts)
            return row
    raise InputError(
        f"task {task.name}: sizes ask for more rows than there are different texts; "
        f"they ran out after {len(seen)} rows, at label {label!r}"
    )


def _labels(generator: random.Random, task: Task, size: int) -> list[Label | float]:
    """`size` labels in the shares of LABEL_PERCENT (largest remainders), shuffled."""
    percents = LABEL_PERCENT[task.like]
    counts = {label: size * percent // 100 for label, percent in percents.items()}
    by_remainder = sorted(percents, key=lambda label: -(size * percents[label] % 100))
    for label in by_remainder[: size - sum(counts.values())]:
        counts[label] += 1
    labels = [label for label, count in counts.items() for _ in range(count)]
    generator.shuffle(labels)
    return labels
