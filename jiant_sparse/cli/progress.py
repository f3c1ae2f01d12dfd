"""A bar on a terminal for the cells of a grid, and which step the running ones are at."""

import sys
import threading
from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

from jiant_sparse.benchmark import lock_file

LOOK_SECONDS = 2.0


class Bar:
    """Counts ended cells. Without a terminal there is no bar, and lines are plain.

    running: directories of the cells that have not ended; it may shrink. total: of them at first.
    """

    def __init__(self, running: Collection[Path], total: int) -> None:
        self._running = running
        # None: only on a terminal.
        self._bar = tqdm(total=total, unit="cell", disable=None, dynamic_ncols=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Bar":
        if not self._bar.disable:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.close()

    def line(self, text: str) -> None:
        """Print a line on stderr, above the bar."""
        self._bar.write(text, file=sys.stderr)

    def advance(self) -> None:
        """One more cell has ended."""
        self._bar.update()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._bar.set_postfix_str(", ".join(_shown(self._running)))


def _shown(directories: Collection[Path]) -> list[str]:
    """The cells that somebody runs, with phase or step, by their last heartbeats."""
    shown = []
    for directory in sorted(directories):
        try:
            holder = lock_file.holder(directory)
        except OSError:
            continue  # a bar is no place to complain
        if holder is not None and holder.progress is not None:
            progress = holder.progress
            at = f"{progress.step}/{progress.steps}" if progress.steps else progress.phase
            shown.append(f"{directory.parent.parent.name}/{directory.parent.name} {at}")
    return shown
