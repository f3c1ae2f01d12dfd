"""What is run: a benchmark's cells, fully resolved and frozen."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jiant_sparse import seeds
from jiant_sparse.data.split import default_split
from jiant_sparse.data.tasks import Task
from jiant_sparse.methods import base as methods
from jiant_sparse.methods.base import Method
from jiant_sparse.schema.record import CellKey, Record, settings_hash

# Marks a field that earlier versions did not have. At its default it does not count among the
# settings of a cell, so that records from before stay valid; see also `methods.base.later`.
LATER = {"later": True}


class Block(BaseModel):
    """A block of a configuration: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


# No run is as long, or as wide: what is beyond would fill the memory, or never end.
_Steps = Annotated[int, Field(le=1_000_000_000)]
_Rows = Annotated[int, Field(le=65_536)]
_Path = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]*$")]


class Train(Block):
    """How a cell is trained. Defaults: the protocol of Fu et al. 2023 (paper and program).

    Steps are optimiser steps. Fractions are in [0, 1].
    """

    batch_size: _Rows = Field(16, ge=1)
    gradient_accumulation: _Rows = Field(
        1, ge=1, description="micro-batches of batch_size per step"
    )
    eval_batch_size: _Rows = Field(32, ge=1)
    learning_rate: float = Field(1e-4, gt=0, description="peak, after the warm-up")
    max_epochs: _Steps = Field(10_000, ge=1, description="decides the steps if max_steps is null")
    max_steps: _Steps | None = Field(None, ge=1)
    warmup_fraction: float = Field(0.1, ge=0, le=1, description="of all steps, rising from 0")
    eval_every: _Steps = Field(500, ge=1, description="steps between evaluations on dev")
    eval_offset: _Steps = Field(0, ge=0, description="step + offset must divide; jiant has 1")
    dev_examples: _Steps | None = Field(
        None, ge=1, description="first dev examples that select the best step; jiant 500"
    )
    min_steps: _Steps = Field(20_000, ge=0, description="no early stop up to here")
    patience: _Steps = Field(40, ge=0, description="evaluations without a better score; 0 = off")
    reshuffle: bool = Field(True, description="new order each epoch; jiant replays the first one")
    length_grouping: _Rows | None = Field(
        None, ge=2, description="batches whose rows are grouped by length together; null = off"
    )
    weight_decay: float = Field(0.01, ge=0)
    decay_unselected: bool = Field(
        False, description="decay frozen matrices of the encoder too, as masked gradients let it"
    )
    freeze_head: bool = Field(False, description="leave the task head at its random first values")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", json_schema_extra=LATER)
    sgd_momentum: float | None = Field(
        None, ge=0, lt=1, description="of sgd; null = 0.9", json_schema_extra=LATER
    )
    adam_epsilon: float = Field(1e-8, gt=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_seq_length: int = Field(256, ge=8, le=512)
    allow_dropped: bool = Field(
        False, description="score even if over 1 % of dev or test do not fit max_seq_length"
    )
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_every: _Steps | None = Field(
        None, ge=1, description="steps between checkpoints; null = by the clock alone"
    )
    checkpoint_minutes: float = Field(5, gt=0, description="minutes between checkpoints, at most")


_LATER_TRAIN = {
    name: field.default
    for name, field in Train.model_fields.items()
    if field.json_schema_extra == LATER
}


class Setup(Block):
    """What all cells of a benchmark have in common beside `train`."""

    model: _Path = Field(description="hub name, local directory or pkg://package/folder")
    pooling: Literal["pooler", "first_token", "mean"] = Field(
        "pooler", description="what the head reads; `pooler` is random in RoBERTa's hub weights"
    )
    data_dir: _Path
    split: Literal["published", "random", "files", "dev_as_test"] | None = Field(
        None,
        description="dev_as_test trains on train and val, and dev is test; null = published for "
        "the seven tasks of Fu et al., files for all others",
    )
    split_seed: int = Field(0, ge=0, lt=seeds.LIMIT)
    drop_train: float = Field(0.0, ge=0, lt=1, description="fraction of train left out, by seed")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(
        1,
        ge=1,
        le=1024,
        description="CPU threads of a cell, which decide its last bits; null = cores / workers",
    )

    def of(self, task: Task) -> "Setup":
        """These settings with the way of splitting that `task` gets by default, if none is set."""
        return self if self.split else self.model_copy(update={"split": default_split(task)})


@dataclasses.dataclass(frozen=True)
class Cell:
    """One method x task x seed, fully resolved."""

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
        """All that decides the result; the place of the data does not, its content is hashed.

        Nor do checkpoints: a run that went on from one is the run that was never stopped. Nor does
        `allow_dropped`, which decides whether there is a result, nor a field that earlier versions
        did not have, at its default.
        """
        idle = {"checkpoint_every", "checkpoint_minutes", "allow_dropped"}
        kind = methods.find(self.method_name)
        later = {f.name: f.default for f in dataclasses.fields(kind) if f.metadata.get("later")}
        return {
            **self.setup.model_dump(exclude={"data_dir"}),
            "seed": self.seed,
            "task": {"name": self.task.name, "like": self.task.reader, "metric": self.task.metric},
            "method": {
                "name": self.method_name,
                **({"revision": kind.revision} if kind.revision > 1 else {}),
                **_without(self.method_fields, later),
            },
            "train": _without(self.train.model_dump(exclude=idle), _LATER_TRAIN),
        }

    @property
    def settings_hash(self) -> str:
        """The hash of `settings`, as in a record."""
        return settings_hash(self.settings)


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One YAML file, resolved: its cells in the order task, method, seed.

    planned: every cell of the file; `cells` are fewer if only some were asked for.
    chosen: a line for each value that another benchmark's records chose. evidence: those records.
    """

    name: str
    model: str
    cells: tuple[Cell, ...]
    planned: tuple[CellKey, ...]
    chosen: tuple[str, ...] = ()
    evidence: tuple[Record, ...] = ()


def _without(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`values` but for those that are in `defaults` with the same value."""
    return {k: v for k, v in values.items() if k not in defaults or v != defaults[k]}
