"""jiant's tasks, examples, rows and batches, kept in memory and never in jiant's caches."""

import contextlib
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jiant.proj.main.preprocessing as preprocessing
import jiant.shared.caching as caching
import jiant.tasks.evaluate as evaluate
import numpy as np
from jiant.proj.main.modeling.primary import JiantTransformersModelFactory
from jiant.shared.model_resolution import ModelArchitectures
from jiant.tasks.core import BatchMixin, Task
from jiant.tasks.lib import wsc
from jiant.tasks.retrieval import create_task_from_config
from jiant.utils.torch_utils import ListDataset

from jiant_sparse.errors import InputError
from jiant_sparse.schema.cell import Train
from jiant_sparse.schema.record import MOST_DROPPED
from jiant_sparse.seeds import derive

_PADDED = ("input_ids", "input_mask", "segment_ids")


@dataclass(frozen=True)
class Phase:
    """One phase's rows, all padded to one width, with the labels jiant's metrics want."""

    rows: list[dict]
    labels: Any
    dropped: int
    _by_length: dict[int, tuple[list[dict], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def by_length(self, limit: int | None = None) -> tuple[list[dict], Any]:
        """The first `limit` rows, or all, and their labels, longest first: with rows of like length
        in a batch there is little padding to compute, and memory peaks at once.

        jiant's metrics do not depend on the order. Rows of one length stay in theirs.
        """
        limit = len(self.rows[:limit])
        if limit not in self._by_length:
            order = np.argsort(-lengths(self.rows[:limit]), kind="stable").tolist()
            labels = self.labels[:limit]
            if isinstance(labels, np.ndarray):
                labels = labels[order]
            else:
                labels = [labels[position] for position in order]
            self._by_length[limit] = [self.rows[position] for position in order], labels
        return self._by_length[limit]


def make_task(reader: str, paths: dict[str, Path]) -> Task:
    """jiant's task `reader`, under its own name, on our files."""
    return create_task_from_config(task_config(reader, paths))


def task_config(reader: str, paths: dict[str, Path]) -> dict[str, Any]:
    """jiant's task configuration, absolute paths."""
    return {
        "task": reader,
        "name": reader,
        "paths": {phase: str(path) for phase, path in paths.items()},
    }


def load_phase(task: Task, path: Path, tokenizer: Any, encoder: Any, max_seq_length: int) -> Phase:
    """Read, tokenise and featurise one file with its true labels.

    The file is read as jiant's `val` phase whatever it is: as `test` jiant would replace every
    label by a dummy. WSC examples one of whose spans is cut off at max_seq_length are dropped and
    counted. Raises InputError naming the example that jiant cannot read.
    """
    reader = type(task)(name=task.name, path_dict={"val": str(path)})
    examples = reader.get_val_examples()
    architecture = ModelArchitectures(encoder.config.model_type)
    factory = JiantTransformersModelFactory.get_registry()[architecture]
    specification = factory.get_feat_spec(encoder, max_seq_length)
    rows = []
    for example in examples:
        try:
            # jiant prints the architecture for every WSC example.
            with contextlib.redirect_stdout(io.StringIO()):
                tokenized = _fit(example.tokenize(tokenizer), max_seq_length)
                row = tokenized and tokenized.featurize(tokenizer, specification)
        except Exception as error:
            raise InputError(
                f"{path}: example {example.guid}: jiant cannot make features of it: "
                f"{type(error).__name__}: {error}"
            ) from error
        if row is not None:
            rows.append({"data_row": row, "metadata": {"example_id": len(rows)}})
    if not rows:
        raise InputError(f"{path}: none of {len(examples)} examples fits {max_seq_length} tokens")
    dataset, _ = preprocessing.smart_truncate(ListDataset(rows), max_seq_length)
    scheme = evaluate.get_evaluation_scheme_for_task(task)
    labels = scheme.get_labels_from_cache_and_examples(
        task=task, cache=caching.InMemoryDataCache(dataset.data), examples=examples
    )
    return Phase(dataset.data, labels, dropped=len(examples) - len(rows))


def check_dropped(phases: Mapping[str, Phase], paths: Mapping[str, Path], train: Train) -> None:
    """Raise InputError if more than MOST_DROPPED percent of val or test would not be scored."""
    problems = []
    for name in () if train.allow_dropped else ("val", "test"):
        dropped = phases[name].dropped
        total = len(phases[name].rows) + dropped
        if 100 * dropped > MOST_DROPPED * total:
            problems.append(
                f"{paths[name]}: {dropped} of {total} rows do not fit train.max_seq_length "
                f"{train.max_seq_length} and would be left out; at most {MOST_DROPPED} % may be; "
                "raise it, or set train.allow_dropped to true"
            )
    if problems:
        raise InputError(*dict.fromkeys(problems))


def _fit(tokenized: Any, max_seq_length: int) -> Any:
    """A WSC example cut to length, or None if a span is lost; every other task cuts for itself.

    jiant makes the segment ids of WSC from the uncut tokens and then stumbles over their number.
    """
    room = max_seq_length - 2
    if not isinstance(tokenized, wsc.TokenizedExample) or len(tokenized.tokens) <= room:
        return tokenized
    if max(tokenized.span1_span.end, tokenized.span2_span.end) > room:
        return None
    return tokenized.new(tokens=tokenized.tokens[:room])


def trim(batch: BatchMixin) -> BatchMixin:
    """The batch cut to its longest sequence; the padding of the others' does not change logits.

    Padding is on the right; of multiple choice, (batch, choices, width), the longest choice counts.
    """
    used = batch.input_mask.reshape(-1, batch.input_mask.shape[-1]).any(0).nonzero()
    width = int(used[-1]) + 1
    return batch.new(**{name: getattr(batch, name)[..., :width] for name in _PADDED})


def batches(task: Task, rows: list[dict], batch_size: int) -> Iterator[tuple[BatchMixin, dict]]:
    """jiant's collated batches in the order of the rows, trimmed; the last may be smaller."""
    for start in range(0, len(rows), batch_size):
        batch, metadata = task.collate_fn(rows[start : start + batch_size])
        yield trim(batch), metadata


def lengths(rows: list[dict]) -> np.ndarray:
    """(rows,) int64: the width that `trim` leaves of each row alone, in tokens."""
    # The last axis is the tokens', of multiple choice too: (width,) or (choices, width).
    return np.array([row["data_row"].input_mask.nonzero()[-1].max() + 1 for row in rows])


class Epochs:
    """Endless training batches: a new permutation of the rows each epoch.

    Stands in for jiant's InfiniteYield, which replays the first epoch's batches for ever; that is
    `train.reshuffle=False`. With `train.length_grouping` the rows of a batch are of like length.
    The order depends on seed and epoch alone, not on a global generator.
    """

    def __init__(
        self,
        task: Task,
        rows: list[dict],
        batch_size: int,
        *,
        seed: int,
        train: Train | None = None,
    ) -> None:
        """batch_size: this stream's, whatever train's is. train: None is the defaults."""
        self.task = task
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.train = train or Train()
        self._lengths = lengths(rows) if self.train.length_grouping else None
        self._first = 0
        self._batches = self._endless()

    @property
    def batches(self) -> int:
        """Number of batches in one pass over the rows."""
        return math.ceil(len(self.rows) / self.batch_size)

    def skip(self, count: int) -> None:
        """Begin `count` batches later, without making them; before the first `pop`."""
        self._first += count

    def pop(self) -> tuple[BatchMixin, dict]:
        """The next batch and its metadata."""
        return next(self._batches)

    def order(self, epoch: int) -> np.ndarray:
        """(rows,) the rows' positions in the order of `epoch`, from 0."""
        stream = derive(self.seed, "epoch", str(epoch if self.train.reshuffle else 0))
        generator = np.random.RandomState([stream >> 32, stream & 0xFFFFFFFF])
        order = generator.permutation(len(self.rows))
        return order if self._lengths is None else self._grouped(order, generator)

    def _grouped(self, order: np.ndarray, generator: np.random.RandomState) -> np.ndarray:
        """`order` with the rows of each window of batches sorted by length, and then its batches
        shuffled: by length they would come from short to long, a curriculum nobody asked for.

        What fills no batch stays as it is at the end of the epoch: sorted in, the short batch would
        always be one of the longest rows, and each of them would weigh more than the others.
        """
        whole = len(order) - len(order) % self.batch_size
        size = self.train.length_grouping * self.batch_size
        parts = []
        for window in np.split(order[:whole], range(size, whole, size)):
            ranks = np.argsort(self._lengths[window], kind="stable")
            grouped = window[ranks].reshape(-1, self.batch_size)
            parts += [*grouped[generator.permutation(len(grouped))]]
        return np.concatenate([*parts, order[whole:]])

    def _endless(self) -> Iterator[tuple[BatchMixin, dict]]:
        epoch, first = divmod(self._first, self.batches)
        while True:
            order = self.order(epoch)[first * self.batch_size :]
            rows = [self.rows[position] for position in order]
            yield from batches(self.task, rows, self.batch_size)
            epoch, first = epoch + 1, 0
