"""Find tasks by name, and read their files strictly.

table.py has the known tasks. Every reader of a task's file calls `read_rows`, so that a bad file is
an error before anything runs, not a KeyError inside jiant.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeGuard

from jiant_sparse.data.table import PHASES, TASKS, HubSource, Label, Task
from jiant_sparse.errors import InputError, cut, suggest
from jiant_sparse.files import NAME_RULE, is_folder_name, read_input

__all__ = [
    "PHASES",
    "TASKS",
    "HubSource",
    "Label",
    "Task",
    "find",
    "read_rows",
    "row_problems",
    "variant",
]

# A file of another task has a problem in every line; the first lines say enough.
PRINTED_PROBLEMS = 20
LARGEST_BYTES = 1_000_000_000
MOST_LINES = 10_000_000
# The deepest row of a task has two.
MOST_LEVELS = 20


def find(name: str) -> Task:
    """The known task called `name`. Raises InputError for another name."""
    if name in TASKS:
        return TASKS[name]
    raise InputError(f"task {name!r} is unknown; {suggest(name, TASKS)}")


def variant(name: str, like: str, metric: str | None = None) -> Task:
    """A task with its own folder `name` and the reader of the known task `like`.

    metric: None takes the metric of `like`.

    Raises InputError if `like` is unknown, if `name` cannot be a folder or belongs to another known
    task, or if jiant's evaluation of `like` has no such metric.

    >>> variant("mnli", like="rte").texts
    ('premise', 'hypothesis')
    """
    known = find(like)
    problems = []
    if not is_folder_name(name):
        problems.append(f"task name {name!r} cannot be a folder name; a name has {NAME_RULE}")
    if name in TASKS and name != like:
        problems.append(f"task {name!r} is read like {name}, got like: {like}; choose another name")
    if metric is not None and metric not in known.metrics:
        problems.append(
            f"task {name!r}: metric is {metric!r}, which a task like {like} has not; "
            f"{suggest(metric, known.metrics)}"
        )
    if problems:
        raise InputError(*problems)
    title = known.title if name == like else name
    return replace(known, name=name, title=title, metric=metric or known.metric)


def read_rows(path: Path, task: Task) -> list[dict]:
    """The rows of one JSONL file of `task`, in the order of the file.

    Raises InputError if the file cannot be read or is empty, and with a problem "path:line: ..."
    for each field that jiant's reader would not take.
    """
    data = read_input(path, LARGEST_BYTES)
    if (count := data.count(b"\n")) > MOST_LINES:
        raise InputError(f"{path}: has {count:,} lines; at most {MOST_LINES:,} are read")
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        raise InputError(f"{path}: the file is empty; {_EXPECTED}")
    rows: list[dict] = []
    problems: list[str] = []
    unprinted = 0
    for number, line in enumerate(lines, start=1):
        try:
            row = _parse(line)
        except ValueError as error:
            found = [str(error)]
        else:
            found = list(row_problems(row, task))
            rows.append(row)
        room = PRINTED_PROBLEMS - len(problems)
        problems += [f"{path}:{number}: {problem}" for problem in found[:room]]
        unprinted += len(found[room:])
    if unprinted:
        problems.append(f"{path}: and {unprinted} more")
    if problems:
        raise InputError(*problems)
    return rows


_EXPECTED = "expected one JSON object per line"


def _parse(line: bytes) -> dict:
    """Raise ValueError with the whole problem unless the line is one strict JSON object."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from None
    if not text.strip():
        raise ValueError(f"the line is blank; {_EXPECTED}")
    try:
        row = _DECODER.decode(text)
        if _is_deep(row, MOST_LEVELS):
            raise RecursionError
        if "\\u" in text:
            # A lone surrogate cannot be encoded anywhere.
            json.dumps(row, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON ({error}); {_EXPECTED}") from None
    if not isinstance(row, dict):
        raise ValueError(f"got {_shown(row)}; {_EXPECTED}")
    return row


def _is_deep(value: object, levels: int) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 1 or _is_deep(part, levels - 1) for part in parts)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) < int(digits) < 2**63:
        raise ValueError(f"{cut(digits, 10)} is beyond 2^63")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{cut(digits, 10)} is no finite number")
    return number


def _object(pairs: list[tuple[str, object]]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f'field "{twice}" is given twice')
    return made


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_refuse_constant,
)


def row_problems(row: dict, task: Task) -> Iterator[str]:
    """Why jiant's reader of `task` would not take `row`: a line per field, without the place."""
    names = [*task.texts, *(name for name, _ in task.choices), "label"]
    names += ["idx"] * task.needs_idx + ["target"] * task.has_spans
    for name in names:
        if name not in row:
            yield f'field "{name}" is missing; got {", ".join(row) or "no field"}'
    for name in task.texts:
        if name in row and not _is_text(row[name]):
            yield f"{name} is {_shown(row[name])}; it must be a string that is not blank"
    for name, allowed in task.choices:
        if name in row and row[name] not in allowed:
            yield f"{name} is {_shown(row[name])}; allowed are {_listed(allowed)}"
    if "label" in row:
        yield from _label_problems(row["label"], task)
    # Only some readers need idx, but splits are drawn by it.
    if "idx" in row and not _is_count(row["idx"]):
        yield f"idx is {_shown(row['idx'])}; it must be a whole number >= 0"
    if task.has_spans and "target" in row:
        yield from _span_problems(row["target"], row.get("text"))


def _label_problems(label: object, task: Task) -> Iterator[str]:
    if task.label_range is None:
        # By type too: 1 == True, but jiant looks up the label as the file has it.
        if not any(type(label) is type(each) and label == each for each in task.labels):
            yield f"label is {_shown(label)}; allowed are {_listed(task.labels)}"
        return
    low, high = task.label_range
    # NaN is in no range, and a boolean is no number.
    if isinstance(label, bool) or not isinstance(label, (int, float)) or not low <= label <= high:
        yield f"label is {_shown(label)}; it must be a number from {low:g} to {high:g}"


def _span_problems(target: object, text: object) -> Iterator[str]:
    if not isinstance(target, dict):
        yield f"target is {_shown(target)}; it must be an object with the two spans"
        return
    for span in ("span1", "span2"):
        index, words = target.get(f"{span}_index"), target.get(f"{span}_text")
        if not _is_text(words):
            got = _shown(words)
            yield f"target.{span}_text is {got}; it must be a string that is not blank"
        if not _is_count(index):
            yield f"target.{span}_index is {_shown(index)}; it must be a whole number >= 0"
        elif _is_text(words) and _is_text(text) and index + _words(words) > _words(text):
            yield (
                f"target.{span} is {_words(words)} words from word {index} on; "
                f"text has {_words(text)} words, counted from 0 and parted by spaces"
            )


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _words(text: str) -> int:
    return len(text.split())


def _shown(value: object) -> str:
    """`value` as JSON, cut to fit an error line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _listed(values: tuple) -> str:
    return ", ".join(_shown(value) for value in values)
