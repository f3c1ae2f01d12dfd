"""A bar on a terminal for the cells of a grid, and which step the running ones are at."""

import sys
import threading
from collections.abc import Collection
from pathlib import Path

from tqdm import tqdm

from jiant_sparse.benchmark import lock_file

LOOK_SECONDS = 5.0


class Bar:
    """Counts ended cells. Without a terminal there is no bar, and lines are plain.

    open_cells: directories of the cells that have not ended, in their order; it may shrink.
    at_once: how many of them run at a time, and so are looked for.
    """

    def __init__(self, open_cells: Collection[Path], at_once: int) -> None:
        self._open_cells = open_cells
        self._at_once = at_once
        # None: only on a terminal.
        self._bar = tqdm(total=len(open_cells), unit="cell", disable=None, dynamic_ncols=True)
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

    def show(self, ended: int) -> None:
        """So many cells have ended."""
        self._bar.update(ended - self._bar.n)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._bar.set_postfix_str(", ".join(_shown(self._open_cells, self._at_once)))


def _shown(directories: Collection[Path], most: int) -> list[str]:
    """The first cells that somebody runs, with phase or step, by their last heartbeats."""
    shown: list[str] = []
    for directory in [*directories]:
        if len(shown) == most:
            break  # to look at hundreds of directories of a network file system takes its time
        try:
            holder = lock_file.holder(directory)
        except OSError:
            continue  # a bar is no place to complain
        if holder is not None and holder.progress is not None:
            progress = holder.progress
            at = f"{progress.step}/{progress.steps}" if progress.steps else progress.phase
            shown.append(f"{'/'.join(directory.parts[-3:])} {at}")
    return shown
