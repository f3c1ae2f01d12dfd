"""A worker process on this machine, and this one's end of it.

Nothing heavy is imported here: until a worker has loaded torch, Ctrl-C must not reach it either.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any


class Gone(Exception):
    """The worker process has ended. begun: whether it may have begun the call."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__(begun)
        self.begun = begun


class Worker:
    """A process that makes one call after another; it ends with this one, whatever ends this one.

    device: what it sees of CUDA, None = what we see.
    """

    def __init__(self, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, device), daemon=True)
        with theirs:
            _start(self.process)

    def call(self, function: Callable[[], Any]) -> Any:
        """What the function gives there. Raises Gone if the worker has ended before it did."""
        try:
            self._connection.send(function)
            return self._connection.recv()
        except ConnectionError:  # on reading too: it has left something unread
            raise Gone(begun=False) from None
        except EOFError:
            raise Gone(begun=True) from None

    def send(self, number: int) -> None:
        """Send a signal. One that has ended gets none: its pid may be another's by now."""
        # Found to have ended, it is no zombie any more; that it has not keeps its pid its own.
        if self.process.is_alive():
            os.kill(self.process.pid, number)

    def end(self) -> None:
        """End it at once, and wait for that."""
        self._connection.close()
        self.send(signal.SIGKILL)
        self.process.join()


def _start(process: multiprocessing.Process) -> None:
    """Start a process that never hears of Ctrl-C, which reaches the whole process group.

    What the starting thread blocks is blocked there from the first moment on.
    """
    # multiprocessing starts it with the first process, and then unblocks SIGINT.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _serve(connection: Connection, device: str | None) -> None:
    """The worker: answers calls until nobody can make any."""
    # What it starts itself does not inherit a blocked signal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # before torch looks for devices
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function = connection.recv()
            connection.send(function())


def _end_with_parent() -> None:
    """End this process once its parent is gone: nobody would read its result."""
    multiprocessing.parent_process().join()
    os._exit(1)
