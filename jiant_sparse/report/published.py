"""The paper's tables, and whether a run may be held against them.

Fu et al. 2023, "On the Effectiveness of Parameter-Efficient Fine-Tuning", arXiv 2211.15583:
RoBERTa-base, seven GLUE and SuperGLUE tasks, 10 seeds, the original dev set as test set, and the
authors' 90/10 division of the training set. `published/SOURCE.csv` says what each file holds.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "published"
METHODS = {
    "full_tuning": "FullTuning",
    "random": "Random",
    "mixout": "MixOut",
    "bitfit": "Bitfit",
    "mag_pruning": "MagPruning",
    "adapter": "Adapter",
    "lora": "LoRA",
    "diff_pruning": "DiffPruning",
    "child_pruning": "ChildPruning",
    "sam": "SAM",
}
TASKS = ("CoLA", "STS-B", "MRPC", "RTE", "CB", "COPA", "WSC")
AVERAGE = "AVG"
MODELS = ("roberta-base", "FacebookAI/roberta-base")
# The settings of the authors' released program; the paper itself names few of them.
TRAINING = {
    "batch_size": 16,
    "gradient_accumulation": 1,
    "learning_rate": 1e-4,
    "max_epochs": 10000,
    "warmup_fraction": 0.1,
    "eval_every": 500,
    "min_steps": 20000,
    "patience": 40,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "max_seq_length": 256,
    "max_steps": None,
    "precision": "fp32",
}
DENSITY = 0.005
# Not published; what the tuned share of Table 4 makes it.
MIXOUT_Q = 0.995
WITH_DENSITY = ("random", "mag_pruning", "diff_pruning", "child_pruning", "sam")
# Share of the training set left out of each run -> the table that reports such runs.
TABLES = {0.0: 1, 0.1: 2}


@dataclass(frozen=True)
class Value:
    """A published mean and population standard deviation, in percent, and its table's number."""

    mean: float
    std: float
    table: int


@cache
def _table(number: int) -> dict[tuple[str, str], Value]:
    mean, std = (_cells(f"table{number}_{part}.csv") for part in ("mean", "std"))
    return {key: Value(mean[key], std[key], number) for key in mean}


def _cells(name: str) -> dict[tuple[str, str], float]:
    with open(DIRECTORY / name, encoding="utf-8", newline="") as stream:
        return {
            (row["method"], column): float(text)
            for row in csv.DictReader(stream)
            for column, text in row.items()
            if column != "method" and text != "NA"
        }


def value(method: str | None, task: str | None, table: int = 1) -> Value | None:
    """What the paper prints for a method's key and a task's title (or AVERAGE); None if nothing."""
    return _table(table).get((METHODS.get(method or "", ""), task or ""))


def percent_tuned(method: str) -> float | None:
    """Table 4: weights that a method's key tunes, in percent of RoBERTa-base's; None if not there.

    BitFit's 0.09 is the share of BERT-base; LoRA's 0.91 cannot be traced to a setting.
    """
    with open(DIRECTORY / "table4_percent_parameters.csv", encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    name = METHODS.get(method)
    return None if name is None else float(row[name])


def table_of(settings: Mapping[str, Any]) -> int:
    """The table whose experiment is the one in `settings`: 2 if a tenth of the data is left out."""
    return TABLES.get(_drop_train(settings), 1)


def departures(settings: Mapping[str, Any], method: str | None) -> tuple[str, ...]:
    """Why a run with these settings is not the published experiment; empty if it is.

    Compares model, pooling, split, share of data left out, training and density; a setting that
    is not recorded counts as a departure. Other fields of a method are not compared: the paper
    states hardly any. Whether the files hold the published data is taken from `split`.
    """
    found = []
    model, split, drop = settings.get("model"), settings.get("split"), _drop_train(settings)
    if model not in MODELS:
        found.append(f"model is {_shown(model)}")
    if split != "published":
        found.append(f"split is {_shown(split)}")
    if settings.get("pooling") != "pooler":
        found.append(f"pooling is {_shown(settings.get('pooling'))}")
    if drop not in TABLES:
        found.append(f"drop_train is {_shown(drop)}")
    found += _training(settings.get("train"))
    fields = settings.get("method")
    density = fields.get("density") if isinstance(fields, Mapping) else None
    if method in WITH_DENSITY and density not in (None, DENSITY):
        found.append(f"density is {_shown(density)}")
    q = fields.get("q") if isinstance(fields, Mapping) else None
    if method == "mixout" and q not in (None, MIXOUT_Q):
        found.append(f"q is {_shown(q)}")
    return tuple(found)


def _training(train: Any) -> list[str]:
    if not isinstance(train, Mapping):
        return ["training is unknown"]
    absent = object()
    return [
        f"{key} is {_shown(train.get(key))}"
        for key, expected in TRAINING.items()
        if train.get(key, absent) != expected
    ]


def _drop_train(settings: Mapping[str, Any]) -> Any:
    drop = settings.get("drop_train")
    return 0.0 if drop is None else drop if isinstance(drop, (int, float)) else str(drop)


def _shown(setting: Any) -> str:
    return "unknown" if setting is None else str(setting)
