"""Progress of a run or a grid on stderr: a bar on a terminal, elsewhere a line a minute.

A thread reads it from outside; training never waits for it.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from jiant_sparse.grid import lock_file
from jiant_sparse.units import duration

if TYPE_CHECKING:
    from jiant_sparse.schema.control import Control, Progress

LINE_SECONDS = 60.0
"""Between two lines."""
LOOK_SECONDS = 5.0
"""Between two looks at a grid's running cells, for its bar."""
POLL_SECONDS = 1.0
"""Between two looks at the run of this process."""
FIRST_SECONDS = 10.0
"""Of a phase, before its rate is printed."""
SHOWN = 8
"""Running cells that a line names."""


@contextlib.contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """Make the call every so many seconds until the block ends, or until the call meets OSError."""
    ended = threading.Event()

    def repeat() -> None:
        with contextlib.suppress(OSError):  # stderr is closed
            while not ended.wait(seconds):
                call()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def told(control: "Control", *, bounded: bool, bar: bool) -> Iterator[None]:
    """Print the lines of one run. bar: none while it trains, for jiant then shows a bar."""
    lines = RunLines(time.monotonic(), bounded=bounded)

    def look() -> None:
        text = lines.due(time.monotonic(), control.progress)
        if text and not (bar and control.progress.phase == "training"):
            tqdm.write(text, file=sys.stderr)

    with every(POLL_SECONDS, look):
        yield


class RunLines:
    """Words the progress of one run, and says when to print it.

    begun: when the run began, in seconds of a monotonic clock. bounded: whether early stopping may
    end it before its last step.
    """

    def __init__(self, begun: float, *, bounded: bool) -> None:
        self._begun = self._printed = begun
        self._bound = "at most" if bounded else "about"
        # The phase, when it was first seen, and how many steps or batches were done then.
        self._phase, self._since, self._from = "", begun, 0
        self._measured = False

    def due(self, now: float, progress: "Progress") -> str | None:
        """The line to print at `now`: one a minute, and one when training's rate is first known.

        A rate is the mean over the phase so far, evaluations and checkpoints included.
        """
        unit, done, total = "step", progress.step, progress.steps
        if progress.batches:
            unit, done, total = "batch", progress.batch, progress.batches
        if progress.phase != self._phase:
            self._phase, self._since, self._from = progress.phase, now, done
        elapsed, count = now - self._since, done - self._from
        rate = elapsed / count if count and elapsed >= FIRST_SECONDS else None
        first = rate is not None and progress.phase == "training" and not self._measured
        if not first and now - self._printed < LINE_SECONDS:
            return None
        self._printed, self._measured = now, self._measured or first
        parts: list[str] = [progress.phase]
        if total and progress.phase != "scoring":
            parts.append(f"{unit} {done:,} of {total:,}")
        if progress.score is not None:
            parts.append(f"best dev {100 * progress.score:.1f} %")
        if rate is not None and total is not None:
            left = duration(rate * (total - done))
            left = f"{self._bound} {left} left" if unit == "step" else f"about {left} to training"
            parts.append(f"{rate:.3g} s a {unit}, at this rate {left}")
        return f"{duration(now - self._begun)}: {', '.join(parts)}"


class Bar:
    """Counts ended cells: a bar on a terminal, elsewhere a line a minute.

    open_cells: directories of the cells that have not ended, in order; the caller may remove some.
    at_once: how many of them run at a time. left: the time left in words, from the steps that each
    running cell has done.
    """

    def __init__(
        self,
        open_cells: Collection[Path],
        at_once: int,
        left: Callable[[Mapping[Path, int]], str],
    ) -> None:
        self._open_cells = open_cells
        self._at_once = at_once
        self._left = left
        # disable=None shows the bar on a terminal alone.
        self._bar = tqdm(total=len(open_cells), unit="cell", disable=None, dynamic_ncols=True)
        self._ended = 0
        plain = self._bar.disable
        self._looks = every(
            LINE_SECONDS if plain else LOOK_SECONDS, self._print if plain else self._show_running
        )

    def __enter__(self) -> "Bar":
        self._looks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._looks.__exit__(*error)
        self._bar.close()

    def line(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        self._bar.write(text, file=sys.stderr)

    def show(self, ended: int) -> None:
        """Show that so many cells have ended."""
        self._ended = ended
        self._bar.update(ended - self._bar.n)

    def _show_running(self) -> None:
        self._bar.set_postfix_str(_listed(_running(self._open_cells, self._at_once)))

    def _print(self) -> None:
        running = _running(self._open_cells, self._at_once)
        steps = {directory: told.step if told else 0 for directory, told in running.items()}
        shown = f": {_listed(running)}" if running else ""
        self.line(
            f"[{self._ended}/{self._bar.total}] {len(running)} running{shown}; "
            f"time left: {self._left(steps)}"
        )


def _running(directories: Collection[Path], most: int) -> "dict[Path, Progress | None]":
    """The first `most` cells that a process runs, with the progress of their last heartbeat."""
    running: dict[Path, Progress | None] = {}
    for directory in [*directories]:
        if len(running) == most:
            break  # hundreds of directories of a network file system take long to read
        try:
            holder = lock_file.holder(directory)
        except OSError:
            continue  # the grid itself reports a directory that cannot be read
        if holder is not None:
            running[directory] = holder.progress
    return running


def _listed(running: "Mapping[Path, Progress | None]") -> str:
    """The first SHOWN cells with their steps or phases."""
    texts = []
    for directory, told in [*running.items()][:SHOWN]:
        at = "" if told is None else f"{told.step}/{told.steps}" if told.steps else told.phase
        texts.append(f"{'/'.join(directory.parts[-3:])} {at}".rstrip())
    return ", ".join(texts) + (", ..." if len(running) > SHOWN else "")
