"""What is run: a benchmark's cells, fully resolved and frozen."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from jiant_sparse import seeds
from jiant_sparse.data.split import default_split
from jiant_sparse.data.tasks import Task
from jiant_sparse.methods import base as methods
from jiant_sparse.methods import fields, readings
from jiant_sparse.methods.base import Method
from jiant_sparse.schema.record import (
    PUBLISHED_MODEL,
    CellKey,
    MethodFacts,
    Padding,
    Record,
    settings_hash,
)


def _later(did: JsonValue) -> dict[str, JsonValue]:
    """Mark a field that earlier versions lacked; did: its value in effect then, left out of a
    cell's settings, so that older records stay valid."""
    return {"earlier_versions": did}


class Block(BaseModel):
    """A block of a configuration. Unknown keys are errors, and no value is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


# No run is that long or wide: larger numbers would fill the memory, or never end.
_Steps = Annotated[int, Field(le=1_000_000_000)]
_Rows = Annotated[int, Field(le=65_536)]
_Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class Train(Block):
    """How a cell is trained. Defaults: the protocol of Fu et al. 2023 (paper and program).

    Steps are optimizer steps.
    """

    batch_size: _Rows = Field(16, ge=1)
    gradient_accumulation: _Rows = Field(1, ge=1, description="micro-batches of batch_size a step")
    eval_tokens: _Steps = Field(  # earlier versions: 32 rows, the same but for rounding
        8192, ge=1, description="most of an evaluation batch", json_schema_extra=_later(8192)
    )
    learning_rate: float = Field(1e-4, gt=0, description="peak, after the warm-up")
    max_epochs: _Steps = Field(10_000, ge=1, description="sets the steps if max_steps is null")
    max_steps: _Steps | None = Field(None, ge=1)
    warmup_fraction: float = Field(0.1, ge=0, le=1, description="of all steps; rises from 0")
    eval_every: _Steps = Field(500, ge=1, description="steps between evaluations on dev")
    eval_offset: _Steps = Field(
        0, ge=0, description="evaluates when eval_every divides step + offset; jiant: 1"
    )
    dev_examples: _Steps | None = Field(
        None, ge=1, description="score the first dev examples alone; null = all, jiant: 500"
    )
    score_train: _Steps | None = Field(
        None,
        ge=0,
        description="score the first rows of the training data at the end; null = all, 0 = none",
        json_schema_extra=_later(None),
    )
    min_steps: _Steps = Field(20_000, ge=0, description="no early stopping before this step")
    patience: _Steps = Field(40, ge=0, description="evaluations without a better score; 0 = never")
    reshuffle: bool = Field(True, description="new order each epoch; jiant replays the first")
    length_grouping: _Rows | None = Field(
        None, ge=2, description="group rows by length among so many batches; null = off"
    )
    weight_decay: float = Field(0.01, ge=0)
    decay_unselected: bool = Field(
        False, description="decay frozen matrices of the encoder too, as masked gradients do"
    )
    freeze_head: bool = Field(False, description="leave the task head at its random start")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", json_schema_extra=_later("adamw"))
    sgd_momentum: float | None = Field(
        None, ge=0, lt=1, description="of sgd; null = 0.9", json_schema_extra=_later(None)
    )
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_seq_length: int = Field(256, ge=8, le=512)
    padding: Padding = Field(
        "packed",
        description="packed: computes none; trimmed: up to a batch's longest row; jiant: a file's",
        json_schema_extra=_later("trimmed"),
    )
    allow_dropped: bool = Field(
        False, description="score even if more than 1 % of dev or test exceed max_seq_length"
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_every: _Steps | None = Field(
        None, ge=1, description="steps between checkpoints; null = by time alone"
    )
    checkpoint_minutes: float = Field(5, gt=0, description="most minutes between checkpoints")


_LATER_TRAIN = {
    name: field.json_schema_extra["earlier_versions"]
    for name, field in Train.model_fields.items()
    if isinstance(field.json_schema_extra, dict)
}


class Setup(Block):
    """The settings that all cells of a benchmark share, beside `train`."""

    model: _Path = Field(description="hub name, local directory or pkg://package/folder")
    pooling: Literal["pooler", "first_token", "mean"] = Field(
        "pooler", description="the head's input; RoBERTa's hub weights lack a pooler: it is random"
    )
    data_dir: _Path
    split: Literal["published", "random", "files", "dev_as_test"] | None = Field(
        None,
        description="dev_as_test: train on train and val, and report dev; null = published for the "
        "seven tasks of Fu et al. 2023, files for other tasks",
    )
    split_seed: int = Field(0, ge=0, lt=seeds.LIMIT)
    drop_train: float = Field(0.0, ge=0, lt=1, description="fraction of train left out, by seed")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        1,
        ge=1,
        le=1024,
        description="CPU threads of a cell; they decide its last bits; null = cores / workers",
    )

    def of(self, task: Task) -> "Setup":
        """These settings, with the default split of `task` if none is set."""
        return self if self.split else self.model_copy(update={"split": default_split(task)})


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method x task x seed, with every setting resolved."""

    key: CellKey
    task: Task
    method_name: str
    method_fields: Mapping[str, Any]
    train: Train
    setup: Setup

    @property
    def seed(self) -> int:
        return self.key.seed

    def make_method(self) -> Method:
        """A fresh instance of the cell's method."""
        return methods.find(self.method_name)(**self.method_fields)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that decide the result.

        Left out: the place of the data, whose content is hashed; checkpoints, because a resumed run
        is the run that never stopped; `allow_dropped`, which decides whether there is a result;
        and fields that earlier versions lacked, at the value of what these did.
        """
        idle = {"checkpoint_every", "checkpoint_minutes", "allow_dropped"}
        kind = methods.find(self.method_name)
        return {
            **self.setup.model_dump(exclude={"data_dir"}),
            "seed": self.seed,
            "task": {"name": self.task.name, "like": self.task.like, "metric": self.task.metric},
            "method": {
                "name": self.method_name,
                **({"revision": kind.revision} if kind.revision > 1 else {}),
                **_without(self.method_fields, fields.later_defaults(kind)),
            },
            "train": _without(self.train.model_dump(exclude=idle), _LATER_TRAIN),
        }

    @property
    def settings_hash(self) -> str:
        """The hash of `settings`, as in a record."""
        return settings_hash(self.settings)

    @property
    def method_facts(self) -> MethodFacts:
        """What a record says of the method beside its settings."""
        method, model = self.make_method(), self.setup.model
        model = PUBLISHED_MODEL[0] if model in PUBLISHED_MODEL else model
        word, differences = readings.compare(method, self.train.model_dump(), model)
        return MethodFacts(
            title=method.title,
            paper=method.paper,
            category=method.category,
            reading=word,
            differences=differences,
        )


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One YAML file, resolved: its cells in the order task, method, seed.

    planned: every cell of the file; `cells` are the ones asked for.
    chosen: a line for each value that another benchmark's records chose. evidence: those records.
    """

    name: str
    model: str
    cells: tuple[Cell, ...]
    planned: tuple[CellKey, ...]
    chosen: tuple[str, ...] = ()
    evidence: tuple[Record, ...] = ()


def _without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without the ones that equal their defaults."""
    return {k: v for k, v in values.items() if k not in defaults or v != defaults[k]}
