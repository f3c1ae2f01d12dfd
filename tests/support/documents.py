"""A small record and a small manifest, for tests of how they are written and read."""

from jiant_sparse.methods.readings import Difference
from jiant_sparse.schema import record
from jiant_sparse.schema.manifest import Manifest, PlannedCell

RECORD = record.Record(
    cell=record.CellKey(benchmark="b", task="cb", method="sam", seed=3),
    method=record.MethodFacts(
        title="SAM", paper="F", category="c", reading="neither",
        differences=[Difference("x", 1, "neither")],
    ),
    settings={"a": 1},
    settings_hash=record.settings_hash({"a": 1}),
    inputs={"train": "0"},
    status="failed",
    error="line one\nline two",
    history=[(1, None), (2, 0.5)],
    provenance=record.Provenance(
        commit=None, dirty=None, versions={}, device="cpu", threads=1, pooler=None,
        started="s", finished="f",
    ),
)  # fmt: skip


MANIFEST = Manifest(
    benchmark="b",
    tasks=["cb"],
    methods=["sam"],
    cells=[PlannedCell(task="cb", method="sam", seed=3)],
)
