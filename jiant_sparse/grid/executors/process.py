"""A worker process on this machine.

Nothing slow is imported here: a worker must ignore Ctrl-C before it imports torch.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any


class Gone(Exception):
    """The worker process has ended. begun: whether it may have started the call."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__(begun)
        self.begun = begun


class Worker:
    """A process that makes one call after another; it ends with this process, however that ends.

    device: its CUDA_VISIBLE_DEVICES; None = that of this process.
    """

    def __init__(self, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, device), daemon=True)
        with theirs:
            _start(self.process)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call the function there and return its result; raises Gone if the worker ends before."""
        try:
            self._connection.send(function)
            return self._connection.recv()
        except ConnectionError:  # also on reading, if the worker left data unread
            raise Gone(begun=False) from None
        except EOFError:
            raise Gone(begun=True) from None

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended: its pid may be another process's by now."""
        # is_alive reaps a zombie; a pid that was not reaped is not given to another process.
        pid = self.process.pid
        if pid is not None and self.process.is_alive():
            os.kill(pid, number)

    def end(self) -> None:
        """Kill the process and wait for its end."""
        self._connection.close()
        self.send(signal.SIGKILL)
        self.process.join()


def _start(process: BaseProcess) -> None:
    """Start a process that never gets the SIGINT of Ctrl-C, which goes to the process group.

    A child inherits the signals that the starting thread blocks.
    """
    # Otherwise process.start() starts the tracker, and unblocks SIGINT after it.
    resource_tracker.ensure_running()
    former = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _serve(connection: Connection, device: str | None) -> None:
    """Run in the worker: answer calls until the connection closes."""
    # Ignore SIGINT and unblock it: processes started here must not inherit a blocked signal.
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
    """End this process when its parent ends: nobody would read the result."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
