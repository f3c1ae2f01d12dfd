"""What a worker does with a cell: lock it, check for a record, train, write one, release."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from jiant_sparse.errors import InputError, NotFinite
from jiant_sparse.grid import lock, lock_file, plan
from jiant_sparse.host import checkpoint
from jiant_sparse.host.job import Job
from jiant_sparse.schema import provenance
from jiant_sparse.schema.control import Control, Stopped
from jiant_sparse.schema.record import Provenance, Record


@dataclass(frozen=True)
class Waiting:
    """Another process runs the cell. owner: which one, and since when."""

    owner: str


@dataclass(frozen=True)
class Halted:
    """The cell was stopped on request. It has not failed: it can be resumed."""

    reason: str


Outcome = Record | Waiting | Halted


def work(job: Job, *, retry: Record | None = None) -> Outcome:
    """Run or resume the cell, unless it is done or another process runs it.

    retry: the failed record to replace; any other record is a new result of another process. Every
    failure gives a failed record, which says so if it could not be written. In the main thread,
    SIGTERM and SIGINT end the cell after its current step, with a checkpoint.
    """
    attempt = _Attempt(job, retry)
    try:
        return attempt.run()
    except Exception as error:
        # The lock is not ours, or the record is of other settings: nothing may be written.
        return attempt.failed(reason(error))


def work_here(
    job: Job,
    control: Control | None = None,
    *,
    retry: Record | None = None,
    verbose: bool = False,
) -> Outcome:
    """Run the cell as `work` does, for a user who waits: bad input is raised instead of recorded.

    So is a directory that cannot be used. control: gives the caller the progress.
    """
    control = control or Control()
    return _Attempt(job, retry, passing=(InputError,), verbose=verbose, control=control).run()


def record_death(job: Job, error: str, *, retry: Record | None = None) -> Outcome:
    """Write a failed record for a cell whose worker died, unless it is done or run elsewhere."""
    attempt = _Attempt(job, retry)
    try:
        return attempt.locked(lambda held: attempt.recorded(error, held))
    except Exception as problem:
        return attempt.failed(_beside(error, reason(problem)))


def tidy(job: Job) -> None:
    """Remove the checkpoints and lock files of a good cell whose process was killed at its end.

    Does nothing if the lock is held. Files that cannot be removed do no harm.
    """
    with contextlib.suppress(OSError):
        left = lock_file.files(job.directory) or (job.directory / checkpoint.FOLDER).exists()
        # A failed cell keeps its files: it may be run again.
        if left and plan.states([job]) == ["ok"]:
            _Attempt(job).locked(lambda held: Halted("there is nothing to run"))


def reason(error: BaseException) -> str:
    """Describe an error: in one line, with advice, if it is expected; else with its traceback."""
    import torch

    line = f"{type(error).__name__}: {error}"
    if isinstance(error, InputError):
        return str(error)
    # The CPU's allocator raises a plain RuntimeError.
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in line:
        return (
            f"out of memory: {' '.join(line.split())}; run fewer cells at once (--workers, "
            "--gpus-per-cell), or halve train.batch_size and double train.gradient_accumulation"
        )
    if isinstance(error, NotFinite | OSError):
        return line
    return f"{line}\n{''.join(traceback.format_exception(error))}"


@dataclass(frozen=True)
class _Attempt:
    """One attempt to run a cell. passing: errors that are raised instead of recorded."""

    job: Job
    retry: Record | None = None
    passing: tuple[type[Exception], ...] = ()
    verbose: bool = False
    control: Control = field(default_factory=Control)
    started: str = field(default_factory=provenance.now)

    def run(self) -> Outcome:
        with _signals(self.control):
            return self.locked(self.train)

    def locked(self, make: Callable[[lock.Lock], Outcome]) -> Outcome:
        """Under the lock, return the cell's record if it has one by now, else call `make`."""
        job = self.job
        try:
            with lock.acquire(job.directory, self.control) as held:
                outcome = self.ended() or make(held)
                done = isinstance(outcome, Record) and outcome.status == "ok"
                if done:
                    held.check()  # checkpoints of a new owner must stay
                    checkpoint.clear(job.directory)
                held.release(done=done)
                return outcome
        except (lock.Busy, lock.Lost) as other:
            return Waiting(str(other))

    def ended(self) -> Record | None:
        """Return the record, unless it is the one to replace; raises as `plan.records`."""
        (found,) = plan.records([self.job])
        return None if found == self.retry else found

    def train(self, held: lock.Lock) -> Outcome:
        from jiant_sparse.host.train import train

        self.control.confirm = held.check
        try:
            return train(self.job, self.control, verbose=self.verbose)
        except Stopped as stopped:
            held.check()
            return Halted(str(stopped))
        except self.passing:
            raise
        except Exception as error:
            return self.recorded(reason(error), held)

    def recorded(self, error: str, held: lock.Lock) -> Record:
        """Write a failed record and return it; it says so if it cannot be written.

        A good record that an earlier owner has finished after all is kept. Raises Lost if another
        process has taken over.
        """
        failed = self.failed(error)
        held.check()
        try:
            (found,) = plan.records([self.job])
            if found is not None and found.status == "ok":
                return found
            failed.write(self.job.directory)
        except OSError as problem:
            return self.failed(_beside(error, f"its record cannot be written: {problem}"))
        return failed

    def failed(self, error: str) -> Record:
        commit, dirty = provenance.commit()
        return Record(
            **self.job.identity,
            status="failed",
            error=error,
            provenance=Provenance(
                commit=commit,
                dirty=dirty,
                versions=provenance.versions(),
                device=None,
                threads=None,
                pooler=None,
                started=self.started,
                finished=provenance.now(),
            ),
        )


@contextlib.contextmanager
def _signals(control: Control) -> Iterator[None]:
    """Let SIGTERM and SIGINT ask the run to stop; a second SIGINT ends it at once."""
    interrupts = 0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            raise KeyboardInterrupt
        control.stop(f"stopped by {signal.Signals(number).name}")

    numbers = [signal.SIGTERM, signal.SIGINT]
    if threading.current_thread() is not threading.main_thread():
        numbers = []  # only the main thread can handle signals
    former = {number: signal.getsignal(number) for number in numbers}
    # An ignored signal stays ignored: the parent of a worker handles Ctrl-C.
    former = {number: old for number, old in former.items() if old != signal.SIG_IGN}
    for number in former:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, old in former.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _beside(error: str, more: str) -> str:
    """Append `more` to the first line, which a summary shows."""
    first, *rest = error.split("\n")
    return "\n".join([f"{first}; {more}", *rest])
