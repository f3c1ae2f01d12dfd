"""Runs that are killed or stopped at a given step, and everything that they leave."""

import json

from jiant_sparse.host import log
from jiant_sparse.schema import record
from jiant_sparse.schema.control import Control

# Fields that differ when the same run is done in two parts.
TIMES = {
    "cost": (
        "train_seconds",
        "eval_seconds",
        "select_seconds",
        "step_milliseconds_median",
        "peak_memory_bytes",
    ),
    "provenance": ("started", "finished"),
}


class Killed(BaseException):
    """Nothing in the package catches it, so files stay as a killed process leaves them."""


class Kill(Control):
    """Kills, or stops, the run when it says that it is in `phase` at `step`."""

    def __init__(self, phase: str, step: int, *, softly: bool = False) -> None:
        super().__init__()
        self.at, self.softly = (phase, step), softly

    def tell(self, phase, step=0, steps=None, score=None):
        super().tell(phase, step, steps, score)
        if (phase, step) == self.at:
            if not self.softly:
                raise Killed
            self.stop("stopped by the test")


def outcome(job) -> tuple:
    """What must be equal: record without times, delta, log."""
    found = record.read(job.directory / record.FILE_NAME).model_dump(mode="json")
    for part, keys in TIMES.items():
        for key in keys:
            found[part].pop(key)
    files = ("delta.safetensors", log.FILE_NAME)
    return found, *((job.directory / name).read_bytes() for name in files)


def logged(job, event: str, field: str) -> list:
    """A field of the log's entries with this event."""
    lines = map(json.loads, (job.directory / log.FILE_NAME).read_text().splitlines())
    return [entry[field] for entry in lines if entry["event"] == event]


def losses(job) -> list[float]:
    return logged(job, "train", "loss")
