"""Runs the cells of a benchmark until all have ended; a failed cell does not stop the grid.

A cell that another process runs is looked at again every few seconds. It has ended when its record
is there; if its lock is free and there is no record, it is run here.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from jiant_sparse.grid import lock_file, plan
from jiant_sparse.grid import worker as work
from jiant_sparse.grid.executors import Died, Executor
from jiant_sparse.grid.worker import Outcome, Waiting
from jiant_sparse.host.job import Job
from jiant_sparse.schema.record import Record

LOOK_SECONDS = 3.0
"""Between two looks at the cells that other processes run."""
TRIES = 20
"""Times that a cell is submitted before it fails: its owners vanish again and again."""

Notify = Callable[[Job, Record], None]
Wait = Callable[[Job, str], None]


def run(
    jobs: Sequence[Job],
    executor: Executor,
    notify: Notify,
    *,
    retry: bool = False,
    waiting: Wait = lambda job, owner: None,
) -> None:
    """Run the jobs until all have ended; those with a failed record only with `retry`.

    `notify(job, record)` is called from this thread when a cell ends, here or in another process,
    and `waiting(job, owner)` once for each cell that another process runs. KeyboardInterrupt stops
    the running cells, which write a checkpoint each, notifies of the cells that ended meanwhile,
    and is raised again; a second one ends the wait. If a call of `notify` is interrupted, it is
    repeated.
    """
    grid = _Grid(executor, notify, waiting)
    cells = [_Cell(job, _failed_before(job) if retry else None) for job in jobs]
    try:
        for cell in cells:
            grid.submit(cell)
        grid.run()
    except KeyboardInterrupt:
        executor.stop()
        grid.tell_ended()
        raise


@dataclass(eq=False)
class _Cell:
    """A job that has not ended.

    retry: the failed record to replace. tries: times it was submitted. told: whether `waiting` was
    called for it. death: why its worker died, if no record says so yet.
    """

    job: Job
    retry: Record | None
    tries: int = 0
    told: bool = False
    death: str | None = None


class _Grid:
    def __init__(self, executor: Executor, notify: Notify, waiting: Wait) -> None:
        self.executor = executor
        self.notify = notify
        self.waiting = waiting
        self.running: dict[Future[Outcome], _Cell] = {}
        self.held: list[_Cell] = []

    def submit(self, cell: _Cell) -> None:
        cell.tries += 1
        self.running[self.executor.submit(cell.job, cell.retry)] = cell

    def run(self) -> None:
        looked = time.monotonic()
        while self.running or self.held:
            if self.running:
                timeout = LOOK_SECONDS if self.held else None
                for future in wait(self.running, timeout, FIRST_COMPLETED).done:
                    self.take(future)
                    # Not before: an interrupted notification is repeated.
                    del self.running[future]
            else:
                time.sleep(LOOK_SECONDS)
            if self.held and time.monotonic() - looked >= LOOK_SECONDS:
                self.look()
                looked = time.monotonic()

    def take(self, future: "Future[Outcome]") -> None:
        """Handle the end of a submitted cell."""
        cell = self.running[future]
        try:
            outcome = future.result()
        except Died as died:
            self.bury(cell, str(died))
        except Exception as error:
            self.bury(cell, work.reason(error))
        else:
            self.sort(cell, outcome)

    def sort(self, cell: _Cell, outcome: Outcome) -> None:
        if isinstance(outcome, Record):
            self.notify(cell.job, outcome)
            return
        # A halted cell was not stopped by us: its node is drained, say. It will be resumed.
        self.held.append(cell)
        if isinstance(outcome, Waiting) and not cell.told:
            cell.told = True
            self.waiting(cell.job, outcome.owner)

    def bury(self, cell: _Cell, death: str) -> None:
        cell.death = death
        outcome = work.record_death(cell.job, death, retry=cell.retry)
        self.sort(cell, outcome)

    def look(self) -> None:
        """Submit the cells whose lock is free; a cell that is done by now ends at once."""
        held, self.held = self.held, []
        for cell in held:
            with contextlib.suppress(OSError):  # the worker meets the error again and records it
                if lock_file.holder(cell.job.directory) is not None:
                    self.held.append(cell)
                    continue
            if cell.tries >= TRIES:
                cell.death = f"begun {TRIES} times, and its owner was gone each time"
            if cell.death is not None:
                self.bury(cell, cell.death)
            else:
                self.submit(cell)

    def tell_ended(self) -> None:
        """Notify of the cells that ended while the executor was stopped."""
        for future, cell in self.running.items():
            if future.done() and not future.cancelled() and future.exception() is None:
                outcome = future.result()
                if isinstance(outcome, Record):
                    self.notify(cell.job, outcome)


def _failed_before(job: Job) -> Record | None:
    (found,) = plan.records([job])
    return found if found is not None and found.status == "failed" else None
