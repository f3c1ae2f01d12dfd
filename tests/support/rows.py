"""A good row of each task, for tests to spoil; and rows on disk."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

PAIR = {"text_a": "A.", "text_b": "B.", "idx": 3}
NLI = {"premise": "A.", "hypothesis": "B.", "idx": 3}
CHOICES = {"premise": "A.", "choice1": "B.", "choice2": "C.", "question": "cause", "idx": 3}
SPANS = {"span1_index": 0, "span1_text": "Anna", "span2_index": 4, "span2_text": "she"}
GOOD = {
    "cola": {"text": "The boy runs.", "label": "1", "idx": 3},
    "stsb": PAIR | {"label": 2.5},
    "mrpc": PAIR | {"label": "0"},
    "rte": NLI | {"label": "entailment"},
    "cb": NLI | {"label": "neutral"},
    "copa": CHOICES | {"label": 0},
    "wsc": {
        "text": "Anna saw Mary because she was there.",
        "target": SPANS,
        "label": True,
        "idx": 3,
    },
    "sst": {"text": "fine", "label": "1"},
    "qnli": {"premise": "A?", "hypothesis": "B.", "label": "not_entailment"},
}


def cb(index: int, label: str = "neutral") -> dict:
    """A row of CB that its idx tells from others."""
    return {"premise": f"p {index} é", "hypothesis": "h", "label": label, "idx": index}


def read(path: Path) -> list[dict]:
    """The rows of a task's file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: Iterable[dict]) -> Path:
    """Write a task's file, and its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def uneven(data_dir: Path, task: str, directory: Path) -> Path:
    """The task's files with a random number of words after each text."""
    draw = np.random.RandomState(0)
    for path in (data_dir / task).iterdir():
        rows = read(path)
        for row in rows:
            for name in {"text", "text_a", "text_b", "premise", "hypothesis", "choice1"} & {*row}:
                row[name] += " king" * draw.randint(20)
        write(directory / task / path.name, rows)
    return directory
