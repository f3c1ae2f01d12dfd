"""jiant's tasks, examples, rows and batches, kept in memory instead of in jiant's caches."""

import contextlib
import functools
import io
import math
from collections.abc import Iterable, Iterator, Mapping
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
from jiant_sparse.schema.record import MOST_DROPPED, Padding
from jiant_sparse.seeds import derive

_PADDED = ("input_ids", "input_mask", "segment_ids")


@dataclass(frozen=True)
class Phase:
    """The rows of one phase, padded to one width, and the labels that jiant's metrics take.

    dropped: number of examples that do not fit and are not scored.
    """

    rows: list[dict]
    labels: Any
    dropped: int
    _by_length: dict[int, tuple[list[dict], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def by_length(self, limit: int | None = None) -> tuple[list[dict], Any]:
        """The first `limit` rows (None: all) and their labels, longest row first.

        Batches of rows of similar length need little padding, and memory peaks at once. jiant's
        metrics do not depend on the order. Rows of equal length keep their order.
        """
        limit = len(self.rows[:limit])
        if limit not in self._by_length:
            order = np.argsort(-lengths(self.rows[:limit]), kind="stable").tolist()
            labels = [self.labels[position] for position in order]
            if isinstance(self.labels, np.ndarray):
                labels = self.labels[order]
            self._by_length[limit] = [self.rows[position] for position in order], labels
        return self._by_length[limit]


def make_task(reader: str, paths: dict[str, Path]) -> Task:
    """jiant's task `reader`, under its own name, on our files."""
    return create_task_from_config(task_config(reader, paths))


def task_config(reader: str, paths: dict[str, Path]) -> dict[str, Any]:
    """jiant's configuration of a task. paths: absolute, by phase."""
    files = {phase: str(path) for phase, path in paths.items()}
    return {"task": reader, "name": reader, "paths": files}


def load_phase(task: Task, path: Path, tokenizer: Any, encoder: Any, max_seq_length: int) -> Phase:
    """Read, tokenize and featurize one file, with its true labels.

    Reads every file as jiant's `val` phase, because jiant replaces the labels of `test` by a dummy.
    Drops and counts WSC examples with a span beyond max_seq_length. Raises InputError with the
    example that jiant cannot read.
    """
    reader = type(task)(name=task.name, path_dict={"val": str(path)})
    examples = reader.get_val_examples()
    architecture = ModelArchitectures(encoder.config.model_type)
    factory = JiantTransformersModelFactory.get_registry()[architecture]
    specification = factory.get_feat_spec(encoder, max_seq_length)
    rows: list[dict] = []
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
    """Cut a WSC example to length; None if that loses a span. Leave other tasks' examples alone.

    jiant makes WSC's segment ids from the uncut tokens, and then fails because there are too many.
    """
    room = max_seq_length - 2
    if not isinstance(tokenized, wsc.TokenizedExample) or len(tokenized.tokens) <= room:
        return tokenized
    if max(tokenized.span1_span.end, tokenized.span2_span.end) > room:
        return None
    return tokenized.new(tokens=tokenized.tokens[:room])


def trim(batch: BatchMixin) -> BatchMixin:
    """Cut a batch to its longest sequence, which does not change logits: padding is on the right.

    Multiple choice has the shape (batch, choices, width); its longest choice counts.
    """
    used = batch.input_mask.reshape(-1, batch.input_mask.shape[-1]).any(0).nonzero()
    width = int(used[-1]) + 1
    return batch.new(**{name: getattr(batch, name)[..., :width] for name in _PADDED})


def batches(
    task: Task, parts: Iterable[list[dict]], padding: Padding
) -> Iterator[tuple[BatchMixin, dict]]:
    """jiant's batch of each part of the rows, with metadata."""
    for part in parts:
        batch, metadata = task.collate_fn(part)
        yield batch if padding == "jiant" else trim(batch), metadata


def within(rows: list[dict], tokens: int, padding: Padding) -> Iterator[list[dict]]:
    """Cut rows, in their order, into parts of at most `tokens` computed tokens, or of one row.

    A packed batch computes its real tokens, any other one its rows at the width of the widest.
    """
    start = total = widest = 0
    for at, own in enumerate(_computed(rows, padding)):
        total, widest = total + own, max(widest, own)
        needed = total if padding == "packed" else widest * (at + 1 - start)
        if needed > tokens and at > start:
            yield rows[start:at]
            start, total, widest = at, own, own
    yield rows[start:]


def _computed(rows: list[dict], padding: Padding) -> Iterator[int]:
    """Tokens computed of each row alone, all choices of multiple choice together."""
    for row in rows:
        mask = row["data_row"].input_mask
        if padding == "packed":
            yield int(mask.sum())
        elif padding == "jiant":
            yield mask.size
        else:
            yield mask.size // mask.shape[-1] * int(lengths([row])[0])


def lengths(rows: list[dict]) -> np.ndarray:
    """(rows,) int64: tokens that `trim` leaves of each row alone."""
    # Tokens are the last axis: (width,), or (choices, width) of multiple choice.
    return np.array([row["data_row"].input_mask.nonzero()[-1].max() + 1 for row in rows])


class Epochs:
    """Endless training batches: a new permutation of the rows each epoch.

    Replaces jiant's InfiniteYield, which replays the first epoch for ever, as `train.reshuffle` set
    to false does. With `train.length_grouping` a batch has rows of similar length. The order
    depends on seed and epoch alone, not on a global generator.
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
        """batch_size: of this stream; train's own is not read. train: None is the defaults."""
        self.task = task
        self.rows = rows
        self.batch_size = batch_size
        self.seed = seed
        self.train = train or Train.model_validate({})
        self._first = 0
        self._batches = self._endless()

    @property
    def batches(self) -> int:
        """Number of batches in one pass over the rows."""
        return math.ceil(len(self.rows) / self.batch_size)

    def skip(self, count: int) -> None:
        """Start `count` batches later, without making them. Call it before the first `pop`."""
        self._first += count

    def pop(self) -> tuple[BatchMixin, dict]:
        """The next batch and its metadata."""
        return next(self._batches)

    def order(self, epoch: int) -> np.ndarray:
        """(rows,) positions of the rows in the order of `epoch`, counted from 0."""
        stream = derive(self.seed, "epoch", str(epoch if self.train.reshuffle else 0))
        generator = np.random.RandomState([stream >> 32, stream & 0xFFFFFFFF])
        order = generator.permutation(len(self.rows))
        window = self.train.length_grouping
        return order if window is None else self._grouped(order, window, generator)

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        return lengths(self.rows)

    def _grouped(
        self, order: np.ndarray, window: int, generator: np.random.RandomState
    ) -> np.ndarray:
        """Sort each window of batches by row length, then shuffle the window's batches.

        Unshuffled they would run from short to long, a curriculum. The rows of the short last batch
        stay where they are: sorted in, that batch would always hold the longest rows, and each of
        its rows weighs more than the rows of a full batch.
        """
        whole = len(order) - len(order) % self.batch_size
        size = window * self.batch_size
        parts = []
        for positions in np.split(order[:whole], range(size, whole, size)):
            ranks = np.argsort(self._lengths[positions], kind="stable")
            grouped = positions[ranks].reshape(-1, self.batch_size)
            parts += [*grouped[generator.permutation(len(grouped))]]
        return np.concatenate([*parts, order[whole:]])

    def _endless(self) -> Iterator[tuple[BatchMixin, dict]]:
        epoch, first = divmod(self._first, self.batches)
        while True:
            order = self.order(epoch)[first * self.batch_size :]
            parts = (
                [self.rows[position] for position in order[start : start + self.batch_size]]
                for start in range(0, len(order), self.batch_size)
            )
            yield from batches(self.task, parts, self.train.padding)
            epoch, first = epoch + 1, 0
