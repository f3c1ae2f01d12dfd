"""The task table: what a task's files hold, who reads them and which metric is reported.

A row of a file is jiant's: the fields and labels below are those that the reader of the same name
in jiant.tasks.lib takes. jiant itself is not imported here; a test compares the two.
"""

from dataclasses import dataclass, replace
from types import MappingProxyType

# Phase "val" is the dev set; "test" is the original dev set, labels included.
PHASES = ("train", "val", "test")

Label = str | int | bool


@dataclass(frozen=True)
class HubSource:
    """Where a task's rows come from on the Hugging Face hub.

    renamed: (hub field, our field) for every text field.
    labels: (name of the hub's class, our label); empty where the label is kept as it is.
    """

    path: str
    config: str
    renamed: tuple[tuple[str, str], ...]
    labels: tuple[tuple[str, Label], ...] = ()


@dataclass(frozen=True)
class Task:
    """One task.

    name: key in a configuration and folder below the data directory.
    title: column of the published tables.
    reader: the task's name in jiant.tasks.retrieval.TASK_DICT.
    metric: the reported metric, as jiant's evaluation names it.
    metrics: every name that this evaluation gives.
    texts: the fields that hold text.
    labels: the allowed labels, compared by type and value (True is not 1); empty for a number.
    label_range: smallest and largest label where the label is a number.
    choices: (field, allowed strings) for a field that is neither text nor label.
    needs_idx: whether jiant reads the field idx.
    has_spans: whether the row has WSC's `target` with two spans of `text`.
    like: the name of the row of TASKS that this task is read like; itself for a known task.
    """

    name: str
    title: str
    reader: str
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
ENTAILMENT = (("entailment", "entailment"), ("not_entailment", "not_entailment"))


def _known() -> tuple[Task, ...]:
    cola = Task(
        name="cola",
        title="CoLA",
        reader="cola",
        metric="mcc",
        metrics=("mcc",),
        texts=("text",),
        labels=("0", "1"),
        like="cola",
        hub=HubSource(
            GLUE, "cola", (("sentence", "text"),), (("unacceptable", "0"), ("acceptable", "1"))
        ),
    )
    stsb = Task(
        name="stsb",
        title="STS-B",
        reader="stsb",
        metric="corr",
        metrics=("pearson", "spearmanr", "corr"),
        texts=("text_a", "text_b"),
        label_range=(0.0, 5.0),
        like="stsb",
        hub=HubSource(GLUE, "stsb", (("sentence1", "text_a"), ("sentence2", "text_b"))),
    )
    mrpc = Task(
        name="mrpc",
        title="MRPC",
        reader="mrpc",
        metric="acc_and_f1",
        metrics=("acc", "f1", "acc_and_f1"),
        texts=("text_a", "text_b"),
        labels=("0", "1"),
        like="mrpc",
        hub=HubSource(
            GLUE,
            "mrpc",
            (("sentence1", "text_a"), ("sentence2", "text_b")),
            (("not_equivalent", "0"), ("equivalent", "1")),
        ),
    )
    return (cola, stsb, mrpc, *_known_inference(), *_known_super_glue(), _known_sentiment())


def _known_inference() -> tuple[Task, ...]:
    rte = Task(
        name="rte",
        title="RTE",
        reader="rte",
        metric="acc",
        metrics=("acc",),
        texts=("premise", "hypothesis"),
        labels=("entailment", "not_entailment"),
        needs_idx=True,
        like="rte",
        hub=HubSource(
            GLUE, "rte", (("sentence1", "premise"), ("sentence2", "hypothesis")), ENTAILMENT
        ),
    )
    # jiant's own download takes the question as the premise.
    qnli = replace(
        rte,
        name="qnli",
        title="QNLI",
        reader="qnli",
        needs_idx=False,
        like="qnli",
        hub=HubSource(
            GLUE, "qnli", (("question", "premise"), ("sentence", "hypothesis")), ENTAILMENT
        ),
    )
    # jiant selects by the mean of accuracy and macro F1; the papers report accuracy
    # (METHODS 5.3).
    cb = replace(
        rte,
        name="cb",
        title="CB",
        reader="cb",
        metrics=("acc", "avg_f1", "f11", "f12", "f13"),
        labels=("neutral", "entailment", "contradiction"),
        like="cb",
        hub=HubSource(
            SUPER_GLUE,
            "cb",
            (("premise", "premise"), ("hypothesis", "hypothesis")),
            tuple((name, name) for name in ("entailment", "contradiction", "neutral")),
        ),
    )
    return rte, qnli, cb


def _known_super_glue() -> tuple[Task, ...]:
    copa = Task(
        name="copa",
        title="COPA",
        reader="copa",
        metric="acc",
        metrics=("acc",),
        texts=("premise", "choice1", "choice2"),
        labels=(0, 1),
        choices=(("question", ("cause", "effect")),),
        needs_idx=True,
        like="copa",
        hub=HubSource(
            SUPER_GLUE,
            "copa",
            tuple((name, name) for name in ("premise", "choice1", "choice2", "question")),
            (("choice1", 0), ("choice2", 1)),
        ),
    )
    # Not "wsc.fixed": jiant and the authors read the original files, whose texts and indices
    # that configuration edits.
    wsc = Task(
        name="wsc",
        title="WSC",
        reader="wsc",
        metric="acc",
        metrics=("acc",),
        texts=("text",),
        labels=(False, True),
        needs_idx=True,
        has_spans=True,
        like="wsc",
        hub=HubSource(SUPER_GLUE, "wsc", (("text", "text"),), (("False", False), ("True", True))),
    )
    return copa, wsc


def _known_sentiment() -> Task:
    return Task(
        name="sst",
        title="SST-2",
        reader="sst",
        metric="acc",
        metrics=("acc",),
        texts=("text",),
        labels=("0", "1"),
        like="sst",
        hub=HubSource(
            GLUE, "sst2", (("sentence", "text"),), (("negative", "0"), ("positive", "1"))
        ),
    )


_ORDER = ("cola", "stsb", "mrpc", "rte", "cb", "copa", "wsc", "sst", "qnli")
_BY_NAME = {task.name: task for task in _known()}
TASKS = MappingProxyType({name: _BY_NAME[name] for name in _ORDER})
