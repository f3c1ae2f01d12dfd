"""The papers: the first one's tables and whether a run may be compared with them, and the second.

Fu et al. 2023, "On the Effectiveness of Parameter-Efficient Fine-Tuning", arXiv 2211.15583:
RoBERTa-base, seven GLUE and SuperGLUE tasks, 10 seeds, the original dev set as test set, and the
authors' 90/10 division of the training set. `published/SOURCE.csv` says what each file holds.

Akbar-Tajari and Pilehvar 2024, "Stochastic Fine-Tuning of Language Models Using Masked Gradients",
Findings of EMNLP 2024: RoBERTa-base and -large, six GLUE tasks, 7 seeds, no test set apart from
the set that chooses. Its table of scores could not be had.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jiant_sparse.schema.record import PUBLISHED_MODEL as MODELS
from jiant_sparse.schema.record import Data

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
    "optimizer": "adamw",
}
# What records do not say at its default, as those from before the setting existed.
_UNSAID = {"optimizer": "adamw"}
# Seeds behind a published value, as the paper says; for a few cells other numbers are likelier.
RUNS = 10
DENSITY = 0.005
# Not published; what the tuned share of Table 4 makes it.
MIXOUT_Q = 0.995
WITH_DENSITY = ("random", "mag_pruning", "diff_pruning", "child_pruning", "sam")
# Share of the training set left out of each run -> the table that reports such runs.
TABLES = {0.0: 1, 0.1: 2}
T_TESTS = {5: "table5_ttest_main.csv", 6: "table6_ttest_perturbation.csv"}
# A table of scores -> the table of its t-tests.
TESTS_OF = {1: 5, 2: 6}
# The second paper, its methods in the order of its table; the names are ours where two papers call
# two methods alike.
STOCHASTIC_SOURCE = "Akbar-Tajari and Pilehvar 2024"
STOCHASTIC_METHODS = {
    "full_tuning": "FullTuning",
    "frozen": "Frozen",
    "random_per_step": "Random per step",
    "dps_mix": "DPS_Mix",
    "multi_head": "Multi-Head",
    "bitfit": "Bitfit",
    "top_tuning": "Top Tuning",
    "stochastic_tuning": "Stochastic Tuning",
}
STOCHASTIC_TASKS = ("CoLA", "SST-2", "MRPC", "STS-B", "QNLI", "RTE")
# The way of splitting in which the reported set is the dev set.
STOCHASTIC_SPLIT = "dev_as_test"
FIGURE5 = ("test_mean", "test_std", "train_mean", "train_std")


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


@cache
def _cells(name: str) -> dict[tuple[str, str], float]:
    """(method's name, column) -> number; what is not printed is not there."""
    return {
        (row["method"], column): float(text)
        for row in _lines(name)
        for column, text in row.items()
        if column != "method" and text != "NA"
    }


def _lines(name: str) -> Iterator[dict[str, str]]:
    with open(DIRECTORY / name, encoding="utf-8", newline="") as stream:
        yield from csv.DictReader(stream)


def _name(method: str | None) -> str:
    return METHODS.get(method or "", "")


def value(method: str | None, task: str | None, table: int = 1) -> Value | None:
    """What the paper prints for a method's key and a task's title (or AVERAGE); None if nothing."""
    return _table(table).get((_name(method), task or ""))


def hours(method: str | None, task: str | None) -> float | None:
    """Table 3: training time in hours for a method's key and a task's title (or AVERAGE)."""
    return _cells("table3_hours.csv").get((_name(method), task or ""))


@cache
def percent_tuned(method: str | None) -> float | None:
    """Table 4: weights that a method's key tunes, in percent of RoBERTa-base's; None if not there.

    BitFit's 0.09 is the share of BERT-base; LoRA's 0.91 cannot be traced to a setting.
    """
    (row,) = _lines("table4_percent_parameters.csv")
    name = _name(method)
    return float(row[name]) if name else None


def t_test(method: str | None, task: str | None, table: int) -> tuple[float, float] | None:
    """t and p of SAM against a method's key on a task's title: `table` 5, to Table 1, or 6, to 2.

    Positive t: SAM is better. Pooled, two-sided, 10 runs each; p is printed to two decimals, so
    that 0.0 means below 0.005. None where nothing is printed.
    """
    cells = _cells(T_TESTS[table])
    t = cells.get((_name(method), f"{task}_t"))
    p = cells.get((_name(method), f"{task}_p"))
    return None if t is None or p is None else (t, p)


@cache
def figure5() -> Mapping[tuple[str, str], tuple[tuple[float, float | None], ...]]:
    """Figure 5: (part, task's title) -> (SAM's density, percent), densities ascending.

    A part is one of FIGURE5; None where nothing is drawn (density 0.005 on the training set).
    """
    return MappingProxyType(
        {
            (part, row["task"]): tuple(
                (float(density), None if text == "NA" else float(text))
                for density, text in row.items()
                if density != "task"
            )
            for part in FIGURE5
            for row in _lines(f"figure5_{part}.csv")
        }
    )


def table_of(settings: Mapping[str, Any]) -> int:
    """The table whose experiment is the one in `settings`: 2 if a tenth of the data is left out."""
    return TABLES.get(_drop_train(settings), 1)


def are_all_tasks(titles: Iterable[str | None]) -> bool:
    """Whether these are the paper's seven tasks, each once: its AVG stands beside no others."""
    return sorted(map(str, titles)) == sorted(TASKS)


def has_table(settings: Mapping[str, Any]) -> bool:
    """Whether a table reports runs with as much data left out; not if that is not recorded."""
    return _drop_train(settings) in TABLES


def departures(settings: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    """The settings in which a run is not the published experiment, with their values.

    Compares model, pooling, split, share of data left out, training and density (Mixout's q). A
    setting that is not recorded is a departure, its value None. Other fields of a method are not
    compared: the paper states hardly any.

    >>> ours = {"model": "roberta-base", "pooling": "pooler", "split": "files", "drop_train": 0.1}
    >>> departures(ours | {"train": TRAINING}, "bitfit")
    {'split': 'files'}
    """
    found = {}
    if settings.get("model") not in MODELS:
        found["model"] = settings.get("model")
    for name, expected in (("split", "published"), ("pooling", "pooler")):
        if settings.get(name) != expected:
            found[name] = settings.get(name)
    if not has_table(settings):
        found["drop_train"] = settings.get("drop_train")
    return found | _training(settings.get("train")) | _sizes(settings, method)


def other_data(data: Data | None) -> dict[str, Any]:
    """The rows of a run as a departure, if they are not the rows of the published experiment."""
    if data is None:
        return {"data": None}
    is_theirs = data.published_train_val and data.published_test
    return {} if is_theirs else {"data": "not the authors'"}


def is_published_size(settings: Mapping[str, Any], method: str | None) -> bool:
    """Whether these settings tune the share of these weights that Table 4 counts."""
    return settings.get("model") in MODELS and not _sizes(settings, method)


def _sizes(settings: Mapping[str, Any], method: str | None) -> dict[str, Any]:
    fields = settings.get("method")
    fields = fields if isinstance(fields, Mapping) else {}
    found = {}
    if method in WITH_DENSITY and fields.get("density") != DENSITY:
        found["density"] = fields.get("density")
    if method == "mixout" and fields.get("q") != MIXOUT_Q:
        found["q"] = fields.get("q")
    return found


def _training(train: Any) -> dict[str, Any]:
    if not isinstance(train, Mapping):
        return {"training": None}
    absent, known = object(), _UNSAID | dict(train)
    return {
        name: known.get(name)
        for name, expected in TRAINING.items()
        if known.get(name, absent) != expected
    }


def _drop_train(settings: Mapping[str, Any]) -> Any:
    drop = settings.get("drop_train")
    return drop if drop is None or isinstance(drop, (int, float)) else str(drop)


def shown(setting: Any) -> str:
    """A setting's value as text; a value that is not recorded, None, is "unknown"."""
    return "unknown" if setting is None else str(setting)
