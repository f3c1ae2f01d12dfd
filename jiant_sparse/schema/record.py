"""What was measured in one cell: the record's schema, read strictly and written atomically."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from jiant_sparse.errors import InputError
from jiant_sparse.files import write_text
from jiant_sparse.methods.readings import Difference, Word
from jiant_sparse.schema import plausible
from jiant_sparse.schema.document import read_document

SCHEMA_VERSION: Final = 2
# Version 1 lacks `method`.
READ_VERSIONS = (1, 2)
FILE_NAME = "record.json"
# Lies beside the record of a cell that ended well; written before it.
DELTA = "delta.safetensors"
Padding = Literal["packed", "trimmed", "jiant"]
# Percent of the rows of dev, and of test, that may be left out as too long without `allow_dropped`.
MOST_DROPPED = 1
# Names of the model of Fu et al. 2023.
PUBLISHED_MODEL = ("roberta-base", "FacebookAI/roberta-base")


class _Part(BaseModel):
    """A part of the record. Unknown keys and NaN are errors; None = not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CellKey(_Part):
    """The cell's place in its benchmark and on disk."""

    benchmark: str
    task: str
    method: str
    seed: int

    def directory(self, output_dir: Path) -> Path:
        """`<output>/<benchmark>/<task>/<method>/seed-<k>`."""
        return output_dir / self.benchmark / self.task / self.method / f"seed-{self.seed}"


class MethodFacts(_Part):
    """What a report says of a method beside its settings."""

    title: str = Field(description="the name as the paper writes it")
    paper: str = Field(description="authors, year and arXiv number")
    category: str = Field(description="how weights are chosen, such as random or rule-based")
    reading: Word = Field(description="whether the text of the paper ran, or its authors' program")
    differences: list[Difference] = Field(
        default_factory=list, description="the fields that keep the run from being one reading"
    )


class Primary(_Part):
    """The reported metric and its value, as a fraction, on dev and test."""

    name: str
    dev: float | None
    test: float | None
    majority: float | None = Field(
        default=None,
        description="test value of always giving the test set's most frequent answer; None for "
        "tasks without classes, and in records from before it was measured",
    )


class Data(_Part):
    """The number of rows that the cell was given."""

    train: int = Field(description="rows of the phase, too long ones included")
    dev: int
    test: int
    published_train_val: bool = Field(
        description="whether train and val together are the rows of Fu et al. 2023"
    )
    published_test: bool


class Params(_Part):
    """Counts of weights. The percentages of a report are `tuned` and `changed` of `eligible`."""

    eligible: int = Field(description="weights of the encoder")
    selected: int = Field(description="eligible weights that the method tunes in any step")
    added: int = Field(description="new weights inside the encoder (LoRA, adapters)")
    head: int = Field(description="weights of the task head")
    trainable: int = Field(description="weights that the optimizer held at the start")
    changed: int = Field(description="eligible weights that differ from their pretrained values")
    moved_per_step: float | None = Field(
        default=None,
        description="mean number of eligible weights updated per step, for methods that reselect "
        "every step; else None, and in records from before such methods",
    )

    @property
    def tuned(self) -> float:
        """Selected and added weights, as Table 4 of Fu et al. 2023 counts them.

        For a method that reselects every step: the weights of one step, as Akbar-Tajari and
        Pilehvar 2024 count them.
        """
        return (self.selected if self.moved_per_step is None else self.moved_per_step) + self.added

    @property
    def drawn(self) -> int | None:
        """Weights that any step updated, for a method that reselects every step; else None."""
        return None if self.moved_per_step is None else self.selected


class Cost(_Part):
    """Time and space. Seconds are wall-clock; memory is the peak of the process or CUDA device."""

    train_seconds: float | None = None
    eval_seconds: float | None = None
    select_seconds: float | None = None
    step_milliseconds_median: float | None = None
    peak_memory_bytes: int | None = None
    delta_bytes: int | None = None


class Machine(_Part):
    """What a run, or a part of it, ran on."""

    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    device: str | None
    threads: int | None


class Provenance(Machine):
    """Where the numbers come from."""

    pooler: Literal["loaded", "initialised"] | None = Field(
        description="whether the pooler came with the model's weights; None = never loaded"
    )
    padding: Padding | None = Field(
        default=None, description="what ran; None = never ran, or trimmed before it was recorded"
    )
    dropped_examples: dict[str, int] = Field(
        default_factory=dict, description="examples per phase that exceed max_seq_length"
    )
    nondeterministic: list[str] = Field(
        default_factory=list,
        description="operations without a deterministic algorithm on this device",
    )
    earlier: list[Machine] = Field(
        default_factory=list,
        description="what earlier parts of a run ran on that was resumed elsewhere",
    )
    started: str
    finished: str


class Record(_Part):
    """One cell's result, or its failure."""

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    cell: CellKey
    method: MethodFacts | None = Field(
        default=None, description="None in records of schema version 1 alone"
    )
    settings: dict[str, Any]
    settings_hash: str
    inputs: dict[str, str] = Field(description="sha256 of the model's and the data's files")
    data: Data | None = Field(
        default=None, description="None if the cell failed, and in records from before it was kept"
    )
    status: Literal["ok", "failed"]
    error: str | None = None
    metrics: dict[Literal["dev", "test", "train"], dict[str, float | None]] = Field(
        default_factory=dict, description="all of jiant's metrics as fractions; None = undefined"
    )
    primary: Primary | None = None
    best_step: int | None = None
    steps: int | None = None
    stopped_by: Literal["max_steps", "patience"] | None = None
    params: Params | None = None
    cost: Cost = Cost()
    history: list[tuple[int, float | None]] = Field(
        default_factory=list, description="[step, dev score] of every evaluation"
    )
    provenance: Provenance

    def write(self, directory: Path) -> None:
        """Write `record.json` into `directory`, atomically."""
        write_text(directory / FILE_NAME, self.model_dump_json(indent=1) + "\n")


def read(path: Path, cell: CellKey | None = None) -> Record:
    """Read the record in the file `path`; with `cell`, it has to be the record of that cell.

    Raises InputError as `read_document`, and for the record of another cell, impossible numbers,
    or settings that do not fit the hash.
    """
    found = read_document(Record, path)
    problems = [*plausible.problems(found)]
    if not problems and found.settings_hash != settings_hash(found.settings):
        problems.append("settings_hash is not that of the settings; one of them was edited")
    if cell is not None and found.cell != cell:
        place = found.cell.directory(Path()).as_posix()
        problems.append(f"is the record of another cell: {place}")
    if problems:
        raise InputError(*(f"{path}: {problem}" for problem in problems))
    train = found.settings.get("train")
    if isinstance(train, dict) and train.get("eval_batch_size") == 32:
        del train["eval_batch_size"]  # as `eval_tokens` is left out at its default
    return found


def unscored(record: Record, most: float = 0) -> str:
    """Name the phases in which more than `most` percent of the rows exceed max_seq_length.

    Such as "4 of 10 dev and 15 of 20 test"; empty if there is none. An unrecorded total counts
    as 0.
    """
    found = []
    for phase in ("dev", "test"):
        number = record.provenance.dropped_examples.get(phase, 0)
        total = getattr(record.data, phase) if record.data else 0
        if 100 * number > most * total:
            found.append(f"{number} of {total} {phase}" if total else f"{number} {phase}")
    return " and ".join(found)


def lost_delta(directory: Path, record: Record) -> str | None:
    """Why the delta in `directory` is not the one that was written with the record.

    None if it is, by its size, or if the cell failed, which leaves no delta.
    """
    path, size = directory / DELTA, record.cost.delta_bytes
    if record.status != "ok":
        return None
    if not path.exists():
        return f"{path}: is missing, but the record is there"
    there = path.stat().st_size
    if size is not None and there != size:
        return f"{path}: has {there} bytes; the delta of the record beside it has {size}"
    return None


def describe(record: Record) -> str:
    """Describe a record in one line: the cell, and its score and counts, or its error."""
    key = record.cell
    name = f"{key.task}/{key.method}/seed-{key.seed}"
    primary, params, cost = record.primary, record.params, record.cost
    if primary is None or params is None:
        return f"{name}: failed: {(record.error or 'no reason given').splitlines()[0]}"
    added = f" added {params.added:,}" if params.added else ""
    moved = "" if params.moved_per_step is None else f"moves {params.moved_per_step:,.0f} a step, "
    return (
        f"{name}: {primary.name} test {_percent(primary.test)} dev {_percent(primary.dev)}, "
        f"best step {record.best_step} of {record.steps}, "
        f"{moved}selected {params.selected:,} "
        f"changed {params.changed:,} of {params.eligible:,}{added}, "
        f"{cost.train_seconds:.1f} s training"
    )


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def flatten(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested settings into one mapping with dotted keys. An empty mapping stays a value.

    >>> flatten({"seed": 1, "train": {"max_steps": 20}})
    {'seed': 1, 'train.max_steps': 20}
    """
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 of the settings as canonical JSON; equal settings have equal hashes anywhere.

    The model's name or path is left out: its files are hashed among the inputs. Evaluation at its
    default counts as the default of earlier versions, whose scores are the same but for rounding.
    """
    settings = {key: value for key, value in settings.items() if key != "model"}
    if isinstance(train := settings.get("train"), Mapping) and "eval_tokens" not in train:
        settings["train"] = {"eval_batch_size": 32, **train}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
