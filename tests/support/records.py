"""Fabricated records for the tests of the report: plausible in form, invented in every number."""

import random
from pathlib import Path
from typing import Any

import pandas as pd

from jiant_sparse.data.tasks import TASKS
from jiant_sparse.errors import InputError
from jiant_sparse.methods import base as methods
from jiant_sparse.methods import readings
from jiant_sparse.report.published import MIXOUT_Q, WITH_DENSITY
from jiant_sparse.report.table import Cell, Table
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.manifest import Manifest, PlannedCell
from jiant_sparse.schema.record import (
    DELTA,
    CellKey,
    Cost,
    Data,
    MethodFacts,
    Params,
    Primary,
    Provenance,
    Record,
)
from jiant_sparse.schema.record import settings_hash as hash_of

ELIGIBLE = 1_000_000
# Of the authors' test sets.
MAJORITY = {"cola": 0.0, "mrpc": 0.7480, "rte": 0.5271, "cb": 0.5, "copa": 0.55, "wsc": 0.6346}
PUBLISHED_TRAINING = {
    "batch_size": 16,
    "gradient_accumulation": 1,
    "learning_rate": 1e-4,
    "max_epochs": 10_000,
    "max_steps": None,
    "warmup_fraction": 0.1,
    "eval_every": 500,
    "min_steps": 20_000,
    "patience": 40,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "max_seq_length": 256,
    "precision": "fp32",
}


def settings(task: str, method: str, seed: int, /, **changes: Any) -> dict[str, Any]:
    """The settings of the published experiment, changed at the top level by `changes`."""
    fields = {"density": 0.005} if method in WITH_DENSITY else {}
    fields |= {"q": MIXOUT_Q} if method == "mixout" else {}
    return {
        "model": "roberta-base",
        "pooling": "pooler",
        "split": "published",
        "split_seed": 0,
        "drop_train": 0.0,
        "device": "cpu",
        "seed": seed,
        "task": {"name": task, "like": task, "metric": "acc"},
        "method": {"name": method, **fields},
        "train": dict(PUBLISHED_TRAINING),
        **changes,
    }


def facts(settings: dict[str, Any]) -> MethodFacts | None:
    """What a record of version 2 says of the method in `settings`; None if they name none.

    Fields that the settings lack are at their defaults.
    """
    block, train = settings.get("method"), settings.get("train")
    if not isinstance(block, dict) or not isinstance(block.get("name"), str):
        return None
    name = block["name"]
    title, paper, category = name, "Nobody 2026", "random"
    word, differences = "in neither paper", []
    if name in methods.names():
        fields = {k: v for k, v in block.items() if k not in ("name", "revision")}
        train = Train().model_dump() | (train if isinstance(train, dict) else {})
        try:
            method = methods.find(name)(**fields)
        except (InputError, TypeError):
            return None
        title, paper, category = method.title, method.paper, method.category
        word, differences = readings.compare(method, train, str(settings.get("model")))
    return MethodFacts(
        title=title, paper=paper, category=category, reading=word, differences=differences
    )


def published_data(**changes: bool) -> Data:
    """The authors' rows, but for the parts in `changes`."""
    whose = {"published_train_val": True, "published_test": True}
    return Data(train=90, dev=10, test=20, **whose | changes)


def provenance(**changes: Any) -> Provenance:
    fields = {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "device": "cpu",
        "threads": 2,
        "pooler": "initialised",
        "dropped_examples": {"train": 3, "dev": 0},
        "started": "2026-11-20T08:00:00+00:00",
        "finished": "2026-11-20T09:30:00+00:00",
    }
    return Provenance(**{**fields, **changes})


def record(
    task: str = "rte",
    method: str = "sam",
    seed: int = 0,
    test: float | None = 0.7,
    *,
    setting: dict[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A cell that ended well; `setting` changes its settings and `changes` its fields."""
    known = settings(task, method, seed, **(setting or {}))
    metric = TASKS[task].metric if task in TASKS else "acc"
    noise = random.Random(f"{task} {method} {seed}")
    level = 0.5 if test is None else test
    history = [(100 * i, min(1.0, level * (1 - 0.5**i) + noise.gauss(0, 0.01))) for i in range(12)]
    fields = {
        "cell": CellKey(benchmark="bench", task=task, method=method, seed=seed),
        "method": facts(known),
        "settings": known,
        "settings_hash": hash_of(known),
        "inputs": {"model/model.safetensors": "a" * 64, "data/train.jsonl": "b" * 64},
        "data": published_data(),
        "status": "ok",
        "metrics": {
            "dev": {metric: level},
            "test": {metric: test},
            "train": {metric: min(1.0, level + 0.2)},
        },
        "primary": Primary(name=metric, dev=level, test=test, majority=MAJORITY.get(task)),
        "best_step": 800,
        "steps": 1100,
        "stopped_by": "max_steps",
        "params": Params(
            eligible=ELIGIBLE, selected=5000, added=0, head=1538, trainable=6538, changed=4990
        ),
        "cost": Cost(train_seconds=83.2, step_milliseconds_median=75.5, delta_bytes=52_300),
        "history": history,
        "provenance": provenance(),
    }
    fields |= changes
    return Record(schema_version=1 if fields["method"] is None else 2, **fields)


def failure(task: str, method: str, seed: int, error: str) -> Record:
    nothing = {
        "metrics": {},
        "primary": None,
        "data": None,
        "params": None,
        "history": [],
        "cost": Cost(),
    }
    nothing |= {"best_step": None, "steps": None, "stopped_by": None}
    nothing["provenance"] = provenance(device=None, threads=None, pooler=None)
    return record(task, method, seed, status="failed", error=error, **nothing)


def write(directory: Path, *records: Record) -> Path:
    """Write records where their cells belong; returns the benchmark's directory."""
    for item in records:
        place = item.cell.directory(directory)
        item.write(place)
        if item.status == "ok":
            with open(place / DELTA, "wb") as delta:
                delta.truncate(item.cost.delta_bytes or 0)
    return directory / "bench"


def plan(tasks: list[str], methods: list[str], seeds: int) -> Manifest:
    cells = [
        PlannedCell(task=task, method=method, seed=seed)
        for task in tasks
        for method in methods
        for seed in range(seeds)
    ]
    return Manifest(benchmark="bench", tasks=tasks, methods=methods, cells=cells)


def cells(table: Table, method: str) -> dict[str, Cell]:
    """The row of a method, by the titles of the columns."""
    (row,) = [row for row in table.rows if row[0].text == method]
    titles = [column.title for column in table.columns]
    return dict(zip(titles, row, strict=True))


def lines(table: Table, *, average: bool = False) -> list[dict[str, Any]]:
    """The lines of the tasks, or of AVG, in the data of a table; unknown is None."""
    found = [
        {name: None if pd.isna(value) else value for name, value in line.items()}
        for line in table.data.to_dict("records")
    ]
    return [line for line in found if (line["task"] == "AVG") == average]
