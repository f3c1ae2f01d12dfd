"""Fabricated benchmarks for the tests of claims: a level and a spread for each method."""

from pathlib import Path

from jiant_sparse.report.claims import Verdict, judge
from jiant_sparse.report.collect import Collection
from jiant_sparse.report.frame import Frame, arrange
from jiant_sparse.report.published import METHODS
from support.records import record

TASKS = ("rte", "cb", "copa")
OTHERS = tuple(METHODS)[1:]
FLAT = (0.0, 0.0, 0.0)
# Three seeds that differ; every verdict on means is then clear or not by their level.
LITTLE = (-0.001, 0.0, 0.001)


def frame_of(*records) -> Frame:
    return arrange(Collection("bench", Path("bench"), None, tuple(records), ()))


def verdicts(*records) -> dict[str, Verdict]:
    """The verdicts by the number of the claim."""
    return {found.claim.number: found for found in judge(frame_of(*records))}


def runs(method, level, spread=LITTLE, tasks=TASKS, setting=None):
    """One record for each task and seed: level + spread, as shares."""
    return [
        record(task, method, seed, level + apart, setting=setting)
        for task in tasks
        for seed, apart in enumerate(spread)
    ]


def levels(methods, spread=LITTLE, tasks=TASKS, setting=None):
    """The runs of several methods. methods: method -> level, or method -> (level, spread)."""
    records = []
    for method, level in methods.items():
        level, apart = level if isinstance(level, tuple) else (level, spread)
        records += runs(method, level, apart, tasks, setting)
    return records


def nine(beating, full=0.6, spread=LITTLE, methods=OTHERS):
    """Full tuning and others of the paper's methods, of which the first `beating` are better."""
    better = {m: full + 0.02 if i < beating else full - 0.02 for i, m in enumerate(methods)}
    return levels({"full_tuning": full, **better}, spread)
