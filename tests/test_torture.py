"""SIGKILL at any moment, again and again: what comes out is what would have come out."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.models import quick_fields
from support.processes import in_child
from support.resuming import outcome

from jiant_sparse.grid import lock_file, plan
from jiant_sparse.grid.worker import work
from jiant_sparse.host import checkpoint, runner
from jiant_sparse.schema import record

TRAIN = {"max_steps": 8, "eval_every": 2, "checkpoint_every": 1}
# The system calls by which files come to be; killed at the n-th of them a process leaves any mess
# that a killed process can leave.
CALLS = ("replace", "fsync", "unlink")


def killed(pid: int) -> bool:
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work_and_die_at(job, name: str, count: int) -> None:
    """Work on the cell; die just before, or just after, the `count`-th call of os.<name>."""
    real, calls = getattr(os, name), 0

    def wrapped(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == count:
            die()
        result = real(*arguments, **options)
        if calls == count - 1 and count % 2:
            die()
        return result

    setattr(os, name, wrapped)
    work(job)


def work_and_die_in_evaluation(job, batch: int) -> None:
    real, seen = runner.batches, 0

    def batches(*arguments, **options):
        nonlocal seen
        for made in real(*arguments, **options):
            seen += 1
            if seen == batch:
                die()
            yield made

    runner.batches = batches
    work(job)


def nothing_is_half_written(job) -> None:
    path = job.directory / record.FILE_NAME
    if path.exists():
        assert record.read(path).status == "ok"
    for path in (job.directory / checkpoint.FOLDER).glob("step-*"):
        assert checkpoint.sealed.read(path)


@pytest.fixture
def twins(make_job):
    """twins(method, **train fields) -> a cell that ran without interruption, and its like."""

    def make(method, **train):
        fields = quick_fields(method) | ({"density": 0.05} if method != "bitfit" else {})
        cell = ("cb", method, fields, TRAIN | train)
        whole, parts = (make_job(*cell, output) for output in ("whole", "parts"))
        assert work(whole).status == "ok"
        return whole, parts

    return make


@pytest.mark.parametrize("method", ["sam", "child_pruning"])
def test_killed_at_thirty_moments_a_cell_ends_as_if_never_interrupted(method, twins):
    begun = time.perf_counter()
    # Evaluation in small batches: many moments in it.
    whole, parts = twins(method, eval_tokens=50)
    seconds = time.perf_counter() - begun
    draw = random.Random(method)
    deaths = 0
    for attempt in range(30):
        kind = attempt % 3
        if kind == 0:
            pid = in_child(lambda: work(parts))
            time.sleep(draw.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
        elif kind == 1:
            name, count = draw.choice(CALLS), draw.randint(1, 12)
            pid = in_child(lambda name=name, count=count: work_and_die_at(parts, name, count))
        else:
            batch = draw.randint(1, 30)
            pid = in_child(lambda batch=batch: work_and_die_in_evaluation(parts, batch))
        deaths += killed(pid)
        nothing_is_half_written(parts)
        if (parts.directory / record.FILE_NAME).exists():
            # Done: taken away again, so that the rest of the moments are met as well.
            assert outcome(parts) == outcome(whole)
            (parts.directory / record.FILE_NAME).unlink()
    assert deaths >= 20
    assert work(parts).status == "ok"
    assert outcome(parts) == outcome(whole)
    left = {path.name for path in parts.directory.iterdir()}
    assert left == {path.name for path in whole.directory.iterdir()}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_record_it_is_written_once_and_whole(moment, twins):
    whole, parts = twins("bitfit", max_steps=2)

    def die_at_the_record() -> None:
        real = os.replace

        def replace(source, target):
            if Path(target).name != record.FILE_NAME:
                return real(source, target)
            if moment == "after":
                real(source, target)
            die()

        os.replace = replace
        work(parts)

    assert killed(in_child(die_at_the_record))
    assert (parts.directory / record.FILE_NAME).exists() == (moment == "after")
    assert plan.states([parts]) == ["ok" if moment == "after" else "missing"]
    assert lock_file.holder(parts.directory) is None
    assert work(parts).status == "ok"
    assert outcome(parts) == outcome(whole)


def test_killed_while_weights_are_chosen_it_chooses_the_same(twins):
    whole, parts = twins("sam", max_steps=2)

    def die_while_choosing() -> None:
        runner.ModelProbe._backward = lambda *_: die()
        work(parts)

    assert killed(in_child(die_while_choosing))
    assert work(parts).status == "ok"
    assert outcome(parts) == outcome(whole)
