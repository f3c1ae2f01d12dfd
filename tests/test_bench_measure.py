"""Turns are taken in order, and ratios are those of one turn."""

import os

import pytest
import torch

from jiant_sparse.bench import measure, process


def test_contenders_take_turns_and_warm_up_uncounted():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in "ABC"}
    times = measure.alternate(contenders, 2, warmup=1, synchronize=lambda: calls.append("|"))
    assert "".join(calls) == "|A||B||C|" * 3
    assert [*times] == ["A", "B", "C"]
    assert all(len(rounds) == 2 and min(rounds) >= 0 for rounds in times.values())
    calls.clear()
    measure.alternate(contenders, 1, warmup=0)
    assert calls == ["A", "B", "C"]


def test_times_are_milliseconds(monkeypatch):
    clock = iter([1.0, 1.25, 5.0, 5.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    times = measure.alternate({"A": int, "B": int}, 1, warmup=0)
    assert times == {"A": [250.0], "B": [500.0]}


def test_summary_and_ratio():
    assert measure.summary([3.0, 1.00049, 2.0]) == {
        "milliseconds_median": 2.0,
        "milliseconds_min": 1.0,
        "milliseconds_max": 3.0,
    }
    # The machine is twice as slow in the second round; the ratio does not see it.
    assert measure.ratio("full", [1.0, 2.0, 1.5], [2.0, 4.0, 2.0]) == {
        "ratio_to_full": 0.5,
        "ratio_to_full_min": 0.5,
        "ratio_to_full_max": 0.75,
    }


def test_environment_says_what_is_not_there(monkeypatch):
    monkeypatch.setattr(measure, "PACKAGES", ("torch", "no-such-package"))
    found = measure.environment(torch.device("cpu"))
    assert found["threads"] == torch.get_num_threads()
    assert found["device_name"] == "cpu"
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["no-such-package"] is None


def test_a_fresh_process_and_what_it_raises():
    assert process.fresh(os.getpid) != os.getpid()
    with pytest.raises(ZeroDivisionError):
        process.fresh(divmod, 1, 0)


def test_the_peak_starts_anew():
    cpu = torch.device("cpu")
    before = process.restart_peak(cpu)
    torch.ones(1 << 24)
    assert process.peak(cpu) - before > 1 << 25
    assert process.restart_peak(cpu) - before < 1 << 25


def test_unknown_memory_is_an_error(monkeypatch):
    monkeypatch.setattr("jiant_sparse.host.device.peak_bytes", lambda device: None)
    with pytest.raises(OSError, match="does not tell VmHWM"):
        process.peak(torch.device("cpu"))
