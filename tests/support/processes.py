"""Grids as processes of their own, for the tests that kill and interrupt them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from jiant_sparse.grid import lock_file

SHORT = {"max_steps": 10, "eval_every": 5, "batch_size": 4, "max_seq_length": 64, "patience": 0}
METHODS = {"full_tuning": {}, "bitfit": {}}
LONG = SHORT | {"max_steps": 60, "eval_every": 30, "checkpoint_every": 5}


def write_config(path: Path, raw: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


@contextlib.contextmanager
def grid(
    config: Path, output: Path, *options: str, script: Path | None = None
) -> Iterator[subprocess.Popen]:
    """`jiant-sparse grid`, or a script that acts as it, in a process group of its own."""
    program = ["-m", "jiant_sparse"] if script is None else [script]
    command = [sys.executable, *program, "grid", config, "--output-dir", output]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [str(part) for part in (*command, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(what: Callable[[], Any], seconds: float = 300) -> Any:
    """The first true value of `what()`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it has not come to pass")


def alive(pid: int) -> bool:
    """Whether the process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid(job: Any, *, retry: Any) -> tuple[int, bool]:
    """As a cell: which process runs it, and whether Ctrl-C is nothing to it."""
    return os.getpid(), signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def deaf(job: Path, *, retry: Any) -> None:
    """As a cell that does not stop; it says so in files."""

    def ask(number: int, frame: Any) -> None:
        (job / "asked").touch()

    signal.signal(signal.SIGTERM, ask)
    job.mkdir(parents=True)
    (job / "new").write_text(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']}")
    (job / "new").rename(job / "me")
    time.sleep(600)


def steps_logged(cell: Path) -> int:
    """Training steps in the cell's log so far."""
    log = cell / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(1 for line in lines if '"event"' in line and "loss" in json.loads(line))


def owner_pid(cell: Path) -> int | None:
    """The process that has the cell's lock."""
    holder = lock_file.holder(cell)
    return holder.owner.pid if holder and holder.owner else None


def results(output: Path) -> dict[str, bytes]:
    """The bytes of the cells' deltas and logs, by their place below `output`."""
    paths = [*output.rglob("delta.safetensors"), *output.rglob("log.jsonl")]
    return {str(path.relative_to(output)): path.read_bytes() for path in paths}


@contextlib.contextmanager
def unwritable(*directories: Path) -> Iterator[None]:
    """Directories in which this process cannot make files; root becomes nobody for a while."""
    for directory in directories:
        directory.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for directory in directories:
            directory.chmod(0o755)


def in_child(act) -> int:
    """Run `act` in a forked process, to spare the imports; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid
