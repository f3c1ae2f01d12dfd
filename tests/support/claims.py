"""Fabricated benchmarks for the tests of claims: a level and a spread for each method."""

from pathlib import Path

from jiant_sparse.report.arrange import summarise
from jiant_sparse.report.collect import Collection
from jiant_sparse.report.published import METHODS
from support.records import record

TASKS = ("rte", "cb", "copa")
FLAT = (0.0, 0.0, 0.0)
# Three seeds that differ; every verdict on means is then clear or not by their level.
LITTLE = (-0.001, 0.0, 0.001)


def summary_of(*records):
    return summarise(Collection("bench", Path("bench"), None, tuple(records), ()))


def runs(method, level, spread=LITTLE, tasks=TASKS, setting=None):
    """One record for each task and seed: level + spread, as shares."""
    return [
        record(task, method, seed, level + apart, setting=setting)
        for task in tasks
        for seed, apart in enumerate(spread)
    ]


def nine(beating, full=0.6, spread=LITTLE, methods=tuple(METHODS)[1:]):
    """Full tuning and others of the paper's methods, of which the first `beating` are better."""
    levels = [full + 0.02 if place < beating else full - 0.02 for place in range(len(methods))]
    records = runs("full_tuning", full, spread)
    for method, level in zip(methods, levels, strict=True):
        records += runs(method, level, spread)
    return records
