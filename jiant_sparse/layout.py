"""Names of the files that a cell writes while it runs, beside its record and its delta."""

import re
from pathlib import Path

CHECKPOINTS = "checkpoint"
"""Folder of the checkpoints."""
LOG = "log.jsonl"
_CHECKPOINT = re.compile(r"step-([0-9]{1,18})\.[0-9a-f]+\.safetensors")


def checkpoint_step(cell: Path) -> int | None:
    """Return the step of the newest checkpoint in a cell's directory, by file names alone.

    None if there is no checkpoint.
    """
    names = (path.name for path in (cell / CHECKPOINTS).glob("step-*"))
    matches = filter(None, map(_CHECKPOINT.fullmatch, names))
    return max((int(match[1]) for match in matches), default=None)
