"""What was measured in one cell: the one schema, read strictly and written atomically."""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from jiant_sparse.errors import InputError
from jiant_sparse.files import write_text
from jiant_sparse.schema.document import read_document

SCHEMA_VERSION = 1
FILE_NAME = "record.json"
# Beside the record of a cell that ended well, and written before it.
DELTA = "delta.safetensors"
LARGEST_NUMBER = 2.0**63
# Percent of the rows of dev, and of test, that may be left out as too long without being asked.
MOST_DROPPED = 1


class _Part(BaseModel):
    """A part of the record: unknown keys are errors, NaN never enters, None = not measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CellKey(_Part):
    """Where the cell stands in its benchmark; also its place on disk."""

    benchmark: str
    task: str
    method: str
    seed: int

    def directory(self, output_dir: Path) -> Path:
        """`<output>/<benchmark>/<task>/<method>/seed-<k>`."""
        return output_dir / self.benchmark / self.task / self.method / f"seed-{self.seed}"


class Primary(_Part):
    """The reported metric and its value, as a fraction, on dev and test."""

    name: str
    dev: float | None
    test: float | None
    majority: float | None = Field(
        default=None,
        description="test value of always giving the most frequent answer of the test set; None "
        "for tasks without classes, and in records of before it was measured",
    )


class Data(_Part):
    """The rows that the cell was given."""

    train: int = Field(description="rows of the phase, with those left out for their length")
    dev: int
    test: int
    published_train_val: bool = Field(
        description="whether train and val together are the rows of Fu et al."
    )
    published_test: bool


class Params(_Part):
    """Counts of weights. The percentages of a report are `tuned` and `changed` of `eligible`."""

    eligible: int = Field(description="weights of the encoder")
    selected: int = Field(
        description="eligible weights that the method tunes: in any step, where they differ"
    )
    added: int = Field(description="new weights inside the encoder (LoRA, adapters)")
    head: int = Field(description="weights of the task head")
    trainable: int = Field(description="weights that the optimiser held")
    changed: int = Field(description="eligible weights that differ from the pretrained ones")
    moved_per_step: float | None = Field(
        default=None,
        description="eligible weights chosen to move in a step, mean over the steps; None where "
        "the same weights train at every step, and in records of before there were other methods",
    )

    @property
    def tuned(self) -> float:
        """Selected and added weights: the count of Table 4 of Fu et al. Where each step moves other
        weights, those of one step, as Akbar-Tajari and Pilehvar count."""
        return (self.selected if self.moved_per_step is None else self.moved_per_step) + self.added

    @property
    def drawn(self) -> int | None:
        """Weights that moved in any step, where each step moves others; else None."""
        return None if self.moved_per_step is None else self.selected


class Cost(_Part):
    """Seconds are wall-clock; memory is the peak of the process (CPU) or the device (CUDA)."""

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
        description="whether the encoder's pooler came with its weights; None = never loaded"
    )
    dropped_examples: dict[str, int] = Field(
        default_factory=dict, description="examples per phase that do not fit max_seq_length"
    )
    nondeterministic: list[str] = Field(
        default_factory=list,
        description="operations that ran without a deterministic algorithm on this device",
    )
    earlier: list[Machine] = Field(
        default_factory=list,
        description="what earlier parts of the run ran on, if it was stopped and went on elsewhere",
    )
    started: str
    finished: str


class Record(_Part):
    """One cell's result, or its failure."""

    schema_version: Literal[1] = SCHEMA_VERSION
    cell: CellKey
    settings: dict[str, Any]
    settings_hash: str
    inputs: dict[str, str] = Field(description="sha256 of the model's and the data's files")
    data: Data | None = Field(
        default=None, description="None if the cell failed, and in records of before it was kept"
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
        default_factory=list, description="[step, dev score that selects the best checkpoint]"
    )
    provenance: Provenance

    def write(self, directory: Path) -> None:
        """Write `record.json` into `directory`, atomically."""
        write_text(directory / FILE_NAME, self.model_dump_json(indent=1) + "\n")


def read(path: Path, cell: CellKey | None = None) -> Record:
    """The record in the file `path`, which is that of `cell` if one is given.

    Raises InputError as `read_document`, and for the record of another cell, numbers that no run
    can have, or settings that are not those of the hash.
    """
    found = read_document(Record, path)
    problems = [*_impossible(found)]
    if not problems and found.settings_hash != settings_hash(found.settings):
        problems.append("settings_hash is not that of the settings; one of them was edited")
    if cell is not None and found.cell != cell:
        place = found.cell.directory(Path()).as_posix()
        problems.append(f"is the record of another cell: {place}")
    if problems:
        raise InputError(*(f"{path}: {problem}" for problem in problems))
    return found


def _impossible(record: Record) -> Iterator[str]:
    """Values of the right type that no run can have had, and that would spoil every mean."""
    scores: list[tuple[str, Any]] = []
    if record.primary:
        scores += [(f"primary.{name}", v) for name, v in record.primary if name != "name"]
    for phase, metrics in record.metrics.items():
        scores += [(f"metrics.{phase}.{name}", value) for name, value in metrics.items()]
    scores += [(f"history: score at step {step}", value) for step, value in record.history]
    for name, value in scores:
        if value is not None and not -1 <= value <= 1:
            yield f"{name} is {value:g}; it must be a fraction from -1 to 1"
    counts: list[tuple[str, Any]] = [("steps", record.steps), ("best_step", record.best_step)]
    counts += [(f"cost.{name}", value) for name, value in record.cost]
    counts += [(f"params.{name}", value) for name, value in record.params or ()]
    counts += [(f"data.{name}", value) for name, value in record.data or ()]
    counts += [("history: step", step) for step, _ in record.history]
    for name, value in counts:
        if value is not None and not 0 <= value < LARGEST_NUMBER:
            yield f"{name} is {value!r}; it must be from 0 to 2^63"
    # Neither NaN nor an integer of 400 digits is.
    if not all(abs(number) <= sys.float_info.max for number in _numbers(record.settings)):
        yield "settings hold a number that is not finite or too large for a float"


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def unscored(record: Record, most: float = 0) -> str:
    """ "4 of 10 dev and 15 of 20 test": of these rows more than `most` percent did not fit
    max_seq_length; empty if of neither. A total that is not recorded counts as 0."""
    found = []
    for phase in ("dev", "test"):
        number = record.provenance.dropped_examples.get(phase, 0)
        total = getattr(record.data, phase) if record.data else 0
        if 100 * number > most * total:
            found.append(f"{number} of {total} {phase}" if total else f"{number} {phase}")
    return " and ".join(found)


def lost_delta(directory: Path, record: Record) -> str | None:
    """Why the delta of a record in `directory` is not the one that was written with it.

    None if it is, by its size, or if the cell failed and so has none.
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
    """One line for people: the cell, and its score and counts or its error."""
    key = record.cell
    name = f"{key.task}/{key.method}/seed-{key.seed}"
    if record.status == "failed":
        return f"{name}: failed: {(record.error or 'no reason given').splitlines()[0]}"
    primary, params, cost = record.primary, record.params, record.cost
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
    """SHA-256 of the settings as canonical JSON: the same settings, the same hash, anywhere.

    The model's name or path is left out: its content counts as an input.
    """
    settings = {key: value for key, value in settings.items() if key != "model"}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
