"""What a data directory holds: its errors, and notes on what is worth knowing.

Real GLUE and SuperGLUE files repeat rows within and across phases, so a repeated row is a note, not
an error.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from jiant_sparse import files
from jiant_sparse.data.authors import Part, are_published, content
from jiant_sparse.data.split import published_dev_split
from jiant_sparse.data.store import MANIFEST, phase_paths, read_manifest, read_phases
from jiant_sparse.data.tasks import LARGEST_BYTES, PHASES, Task
from jiant_sparse.errors import InputError

Rows = dict[str, list[dict]]
"""Rows by phase."""

# (rows of the original training set, rows of the original dev set, which is our test file)
ORIGINAL_SIZES = {
    "cola": (8551, 1043),
    "stsb": (5749, 1500),
    "mrpc": (3668, 408),
    "rte": (2490, 277),
    "cb": (250, 56),
    "copa": (400, 100),
    "wsc": (554, 104),
    "sst": (67349, 872),
    "qnli": (104743, 5463),
}

# CB's 250 training rows as jiant 2.2.0's own download writes them: it names the hub's classes
# (entailment, contradiction, neutral) in the order of its own list (neutral, entailment,
# contradiction). The right counts are contradiction 119, entailment 115, neutral 16.
CB_MISNAMED = {"entailment": 119, "neutral": 115, "contradiction": 16}

PRINTED_PLACES = 20


@dataclass(frozen=True)
class Findings:
    """errors: files that no run can use, or that have changed. notes: what to know."""

    errors: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PhaseSummary:
    """One file. labels: rows by label, or by unit interval ("0-1") if the label is a number."""

    task: str
    phase: str
    rows: int
    labels: dict[str, int]
    sha256: str


def verify(data_dir: Path, tasks: Sequence[Task]) -> Findings:
    """Check the files of `tasks` against their format, the manifest and the original data sets.

    Returns a line for each finding. Raises nothing for the content of a file.
    """
    errors = [*_manifest_errors(data_dir, tasks)]
    notes: list[str] = []
    for task in tasks:
        rows, problems = read_phases(phase_paths(data_dir, task), task)
        errors += problems
        if not problems:
            notes += _size_notes(task, rows)
            notes += _label_notes(task, rows)
            notes += _index_notes(task, rows)
            notes += _repetition_notes(task, rows)
            notes += _span_notes(task, rows)
    return Findings(errors=tuple(errors), notes=tuple(notes))


def summary(data_dir: Path, tasks: Sequence[Task]) -> list[PhaseSummary]:
    """One entry per task and phase. Raises InputError with the problems of all files."""
    found, problems = [], []
    for task in tasks:
        paths = phase_paths(data_dir, task)
        rows, wrong = read_phases(paths, task)
        problems += wrong
        for phase in rows:
            counts = Counter(_label_name(row["label"], task) for row in rows[phase])
            labels = dict(sorted(counts.items()))
            digest = files.sha256(paths[phase])
            found.append(PhaseSummary(task.name, phase, len(rows[phase]), labels, digest))
    if problems:
        raise InputError(*problems)
    return found


def _manifest_errors(data_dir: Path, tasks: Sequence[Task]) -> Iterator[str]:
    try:
        entries = read_manifest(data_dir)
    except InputError as error:
        yield from error.problems
        return
    for task in tasks:
        for phase, path in phase_paths(data_dir, task).items():
            recorded = entries.get(f"{task.name}/{phase}.jsonl")
            # Reading the rows reports a missing file, and one that is too large.
            if recorded is None or not path.is_file() or path.stat().st_size > LARGEST_BYTES:
                continue
            got = files.sha256(path)
            if got != recorded:
                yield (
                    f"{path}: the file has changed; its SHA-256 is {got[:16]}..., {MANIFEST} has "
                    f"{recorded[:16]}...; restore it, or remove its line there if it was meant"
                )


def _size_notes(task: Task, rows: Rows) -> Iterator[str]:
    if task.name not in ORIGINAL_SIZES:
        return
    pool = rows["train"] + rows["val"]
    sizes = len(pool), len(rows["test"])
    if sizes != ORIGINAL_SIZES[task.name]:
        train, test = ORIGINAL_SIZES[task.name]
        yield (
            f"{task.name}: not the original data: train and val have {sizes[0]} rows and test "
            f"{sizes[1]}; the original has {train} and {test}"
        )
        return
    published = published_dev_split().get(task.name)
    if not published:
        return
    parts: tuple[tuple[str, Part, list[dict]], ...] = (
        ("train and val", "train_val", pool),
        ("test", "test", rows["test"]),
    )
    differing = [name for name, part, its in parts if not are_published(its, task, part)]
    if differing:
        yield (
            f"{task.name}: not the authors' rows: idx, texts or labels differ in "
            f"{' and in '.join(differing)}"
        )
    common = {row.get("idx") for row in rows["val"]}.intersection(published)
    if not len(common) == len(published) == len(rows["val"]):
        yield (
            f"{task.name}: val is not the authors' dev set: {len(common)} of its "
            f"{len(rows['val'])} rows are among the authors' {len(published)}"
        )


def _label_notes(task: Task, rows: Rows) -> Iterator[str]:
    for phase in PHASES:
        got = {row["label"] for row in rows[phase]}
        for label in task.labels:
            if label not in got:
                yield f"{task.name}: no row of {phase} has the label {json.dumps(label)}"
    counts = Counter(row["label"] for row in rows["train"] + rows["val"])
    if task.name == "cb" and counts == CB_MISNAMED:
        yield (
            "cb: the labels are named as jiant's own download and the authors' files name "
            "them: neutral stands for entailment, entailment for contradiction and "
            "contradiction for neutral; accuracy and mean F1 do not depend on the names"
        )


def _index_notes(task: Task, rows: Rows) -> Iterator[str]:
    for phase in PHASES:
        counts = Counter(row["idx"] for row in rows[phase] if "idx" in row)
        repeated = [index for index, count in counts.items() if count > 1]
        if repeated:
            yield (
                f"{task.name}: {len(repeated)} idx occur more than once in {phase}, "
                f"the smallest is {min(repeated)}"
            )


def _repetition_notes(task: Task, rows: Rows) -> Iterator[str]:
    # By phase: the first line of each content, and its label.
    first: dict[str, dict[tuple, tuple[int, object]]] = {phase: {} for phase in PHASES}
    for phase in PHASES:
        for line, row in enumerate(rows[phase], start=1):
            first[phase].setdefault(content(row, task), (line, row["label"]))
    for earlier, later in combinations_with_replacement(PHASES, 2):
        places, relabelled = [], 0
        for line, row in enumerate(rows[later], start=1):
            there = first[earlier].get(content(row, task))
            if there is None or (earlier == later and there[0] == line):
                continue
            places.append(f"{later}.jsonl:{line} = {earlier}.jsonl:{there[0]}")
            relabelled += there[1] != row["label"]
        if places:
            where = f"again in {later}" if earlier == later else f"also in {earlier}"
            shown = ", ".join(places[:PRINTED_PLACES])
            more = len(places) - PRINTED_PLACES
            yield (
                f"{task.name}: {len(places)} rows of {later} are {where}, {relabelled} of them "
                f"with another label: {shown}" + (f" and {more} more" if more > 0 else "")
            )


def _span_notes(task: Task, rows: Rows) -> Iterator[str]:
    """Spans whose index does not point at their text. jiant goes by the index."""
    if not task.has_spans:
        return
    for phase in PHASES:
        for line, row in enumerate(rows[phase], start=1):
            words = row["text"].split()
            for span in ("span1", "span2"):
                wanted = row["target"][f"{span}_text"].split()
                start = row["target"][f"{span}_index"]
                got = words[start : start + len(wanted)]
                if _bare(got) != _bare(wanted):
                    yield (
                        f"{task.name}: {phase}.jsonl:{line}: {span} is {' '.join(wanted)!r}, but "
                        f"the text has {' '.join(got)!r} there; jiant goes by the index"
                    )


def _bare(words: list[str]) -> str:
    return " ".join(words).lower().strip(".,;:!?'\"")


def _label_name(label: object, task: Task) -> str:
    if not isinstance(label, (int, float)) or task.label_range is None:
        return label if isinstance(label, str) else json.dumps(label)
    unit = min(math.floor(label), math.ceil(task.label_range[1]) - 1)
    return f"{unit}-{unit + 1}"
