"""Runs the cells of a benchmark until every one has ended; a failed one does not stop the others.

A cell that another process has is left to it, and looked at again every few seconds: it has ended
when the other's record is there, and is ours to run when the other has let go of it.
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
"""Between two looks at the cells that others have."""
TRIES = 20
"""Times that a cell is begun. More often means that whoever has it is gone again and again."""

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
    """Run the jobs, those that have failed before only with `retry`, until all have ended.

    `notify(job, record)` is called from this thread as cells end, here or in another process, and
    `waiting(job, owner)` once for each that another process has. On KeyboardInterrupt the running
    cells are stopped, with a checkpoint each, the ones that ended meanwhile are told, and it goes
    up; a second one stops the waiting for them. A cell whose telling was interrupted is told again.
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
    """A job on its way.

    retry: the failed record that it shall replace. tries: times it was begun. told: whether its
    owner was told. death: what killed its worker, if that is still to be recorded.
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
                    # Only now: one whose telling is interrupted is told again.
                    del self.running[future]
            else:
                time.sleep(LOOK_SECONDS)
            if self.held and time.monotonic() - looked >= LOOK_SECONDS:
                self.look()
                looked = time.monotonic()

    def take(self, future: "Future[Outcome]") -> None:
        """The outcome of a cell that was begun."""
        cell = self.running[future]
        try:
            outcome = future.result()
        except Died as died:
            self.bury(cell, str(died))
        except Exception as error:
            self.bury(cell, work.told(error))
        else:
            self.sort(cell, outcome)

    def sort(self, cell: _Cell, outcome: Outcome) -> None:
        if isinstance(outcome, Record):
            self.notify(cell.job, outcome)
            return
        # Stopped, and not by us: a node that is drained, say. It goes on from its checkpoint.
        self.held.append(cell)
        if isinstance(outcome, Waiting) and not cell.told:
            cell.told = True
            self.waiting(cell.job, outcome.owner)

    def bury(self, cell: _Cell, death: str) -> None:
        cell.death = death
        outcome = work.record_death(cell.job, death, retry=cell.retry)
        self.sort(cell, outcome)

    def look(self) -> None:
        """Begin the cells that nobody has any more; one that is done by now ends at once."""
        held, self.held = self.held, []
        for cell in held:
            with contextlib.suppress(OSError):  # what is wrong shows when the cell is begun
                if lock_file.holder(cell.job.directory) is not None:
                    self.held.append(cell)
                    continue
            if cell.tries >= TRIES:
                cell.death = f"begun {TRIES} times, and whoever had it was gone each time"
            if cell.death is not None:
                self.bury(cell, cell.death)
            else:
                self.submit(cell)

    def tell_ended(self) -> None:
        """Tell the cells that ended while the executor was stopped."""
        for future, cell in self.running.items():
            ended = future.done() and not future.cancelled() and future.exception() is None
            if ended and isinstance(future.result(), Record):
                self.notify(cell.job, future.result())


def _failed_before(job: Job) -> Record | None:
    (found,) = plan.records([job])
    return found if found is not None and found.status == "failed" else None
