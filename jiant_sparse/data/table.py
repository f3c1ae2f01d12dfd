"""The task table: fields and labels of each task's files, their reader, the reported metric.

Fields and labels are the ones that the reader of the same name in jiant.tasks.lib takes. jiant is
not imported here; a test compares the two.
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

# Phase "val" is the dev set; "test" is the original dev set, labels included.
PHASES = ("train", "val", "test")
# Fields of WSC's `target`.
SPAN_FIELDS = ("span1_index", "span1_text", "span2_index", "span2_text")

Label = str | int | bool


@dataclass(frozen=True)
class HubSource:
    """Source of a task's rows on the Hugging Face hub.

    renamed: (hub field, our field) for every text field.
    labels: (name of the hub's class, our label); empty where the hub's label is kept.
    """

    path: str
    config: str
    renamed: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, Label], ...] = ()


@dataclass(frozen=True)
class Task:
    """One task.

    name: key in a configuration, and folder below the data directory.
    title: column of the published tables.
    metric: reported metric, by its name in jiant's evaluation.
    metrics: all metrics of that evaluation.
    texts: fields that hold text.
    like: name of the known task that has the same fields, and of jiant's reader in
        jiant.tasks.retrieval.TASK_DICT; its own name for a known task.
    labels: allowed labels, compared by type and value (True is not 1); empty for a number.
    label_range: smallest and largest label, if the label is a number.
    choices: (field, allowed strings) for a field that is neither text nor label.
    needs_idx: whether jiant reads the field idx.
    has_spans: whether rows have WSC's `target` with two spans of `text`.
    """

    name: str
    title: str
    metric: str
    metrics: tuple[str, ...]
    texts: tuple[str, ...]
    like: str
    hub: HubSource
    labels: tuple[Label, ...] = ()
    label_range: tuple[float, float] | None = None
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    needs_idx: bool = False
    has_spans: bool = False


GLUE = "nyu-mll/glue"
SUPER_GLUE = "aps/super_glue"
PAIR = (("sentence1", "text_a"), ("sentence2", "text_b"))


def _same(*names: str) -> tuple[tuple[str, str], ...]:
    """Fields or classes whose names the hub and jiant share."""
    return tuple((name, name) for name in names)


ENTAILMENT = _same("entailment", "not_entailment")


def _known(name: str, title: str, metrics: tuple[str, ...], hub: HubSource, **fields: Any) -> Task:
    """A row of the table. metrics: the reported one first."""
    return Task(name, title, like=name, metric=metrics[0], metrics=metrics, hub=hub, **fields)


_COLA = _known(
    "cola",
    "CoLA",
    ("mcc",),
    HubSource(GLUE, "cola", (("sentence", "text"),), (("unacceptable", "0"), ("acceptable", "1"))),
    texts=("text",),
    labels=("0", "1"),
)
_STSB = _known(
    "stsb",
    "STS-B",
    ("corr", "pearson", "spearmanr"),
    HubSource(GLUE, "stsb", PAIR),
    texts=("text_a", "text_b"),
    label_range=(0.0, 5.0),
)
_MRPC = _known(
    "mrpc",
    "MRPC",
    ("acc_and_f1", "acc", "f1"),
    HubSource(GLUE, "mrpc", PAIR, (("not_equivalent", "0"), ("equivalent", "1"))),
    texts=("text_a", "text_b"),
    labels=("0", "1"),
)
_RTE = _known(
    "rte",
    "RTE",
    ("acc",),
    HubSource(GLUE, "rte", (("sentence1", "premise"), ("sentence2", "hypothesis")), ENTAILMENT),
    texts=("premise", "hypothesis"),
    labels=("entailment", "not_entailment"),
    needs_idx=True,
)
# jiant selects by the mean of accuracy and macro F1; the papers report accuracy.
_CB = _known(
    "cb",
    "CB",
    ("acc", "avg_f1", "f11", "f12", "f13"),
    HubSource(
        SUPER_GLUE,
        "cb",
        _same("premise", "hypothesis"),
        _same("entailment", "contradiction", "neutral"),
    ),
    texts=("premise", "hypothesis"),
    labels=("neutral", "entailment", "contradiction"),
    needs_idx=True,
)
_COPA = _known(
    "copa",
    "COPA",
    ("acc",),
    HubSource(
        SUPER_GLUE,
        "copa",
        _same("premise", "choice1", "choice2", "question"),
        (("choice1", 0), ("choice2", 1)),
    ),
    texts=("premise", "choice1", "choice2"),
    labels=(0, 1),
    choices=(("question", ("cause", "effect")),),
    needs_idx=True,
)
# Not the configuration "wsc.fixed", which edits texts and indices: jiant and the authors read the
# original files.
_WSC = _known(
    "wsc",
    "WSC",
    ("acc",),
    HubSource(SUPER_GLUE, "wsc", (("text", "text"),), (("False", False), ("True", True))),
    texts=("text",),
    labels=(False, True),
    needs_idx=True,
    has_spans=True,
)
_SST = _known(
    "sst",
    "SST-2",
    ("acc",),
    HubSource(GLUE, "sst2", (("sentence", "text"),), (("negative", "0"), ("positive", "1"))),
    texts=("text",),
    labels=("0", "1"),
)
# jiant's own download takes the question as the premise.
_QNLI = _known(
    "qnli",
    "QNLI",
    ("acc",),
    HubSource(GLUE, "qnli", (("question", "premise"), ("sentence", "hypothesis")), ENTAILMENT),
    texts=("premise", "hypothesis"),
    labels=("entailment", "not_entailment"),
)

TASKS = MappingProxyType(
    {task.name: task for task in (_COLA, _STSB, _MRPC, _RTE, _CB, _COPA, _WSC, _SST, _QNLI)}
)
