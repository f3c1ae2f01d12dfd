"""Pages to look at in tests: everything that a report shows, of records that are fabricated."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from jiant_sparse.report import claims, figures, tables
from jiant_sparse.report.frame import Frame, load
from jiant_sparse.report.oddities import oddities
from jiant_sparse.report.page import render_page
from jiant_sparse.report.table import Cell, Column, Table
from jiant_sparse.schema.record import Machine, Primary, Record
from support.records import failure, plan, provenance, record, write

ATTACK = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
# Without a slash, so that it can name a directory.
LABEL = '"><img src=x onerror=alert(3)><i id=results onclick=alert(4)>'
METHODS = ("full_tuning", "random", "bitfit", "lora", "sam")


def content_of(frame: Frame) -> dict[str, Any]:
    """What a report hands to its page, but for the tables that add nothing to look at."""
    drawn, absent = figures.draw(frame)
    made = tables.make(frame, None, ())
    return {
        "tables": [t for t in made if t.name in ("results", "published", "time_to_stop")],
        "figures": drawn,
        "absent": absent,
        "verdicts": claims.judge(frame),
        "oddities": oddities(frame),
    }


def page_of(directory: Path, *records: Record) -> str:
    """The page of nothing but the frames."""
    return render_page(load(write(directory, *records)))


@cache
def ordinary_content() -> tuple[Frame, dict[str, Any]]:
    """An ordinary benchmark and all that its page shows; figures take their time."""
    with TemporaryDirectory() as directory:
        frame = load(ordinary(Path(directory)))
        return frame, content_of(frame)


def ordinary(output_dir: Path) -> Path:
    """Three tasks, five methods, three seeds; one cell failed and a method of it is missing."""
    records = [
        record(task, method, seed, 0.5 + 0.03 * i + 0.011 * seed + 0.004 * i * seed)
        for task in ("rte", "cb", "wsc")
        for i, method in enumerate(METHODS)
        for seed in range(3)
        if (task, method) != ("cb", "lora")
    ]
    moved = Machine(commit="f" * 40, dirty=True, versions={"torch": "2.12"}, device="T4", threads=8)
    origin = provenance(nondeterministic=["scatter_add"], earlier=[moved])
    records[-1] = records[-1].model_copy(update={"provenance": origin})
    records.append(failure("cb", "lora", 0, "RuntimeError: diverged\nat step 7"))
    directory = write(output_dir, *records)
    plan(["rte", "cb", "wsc"], [*METHODS], 3).write(directory)
    return directory


def hostile(output_dir: Path) -> Path:
    """A record of which every string is an attack, a failure, and a directory that is one."""
    machine = Machine(
        commit=ATTACK, dirty=True, versions={ATTACK: ATTACK}, device=ATTACK, threads=1
    )
    origin = provenance(
        versions={ATTACK: ATTACK},
        device=ATTACK,
        commit=ATTACK,
        started=ATTACK,
        finished=ATTACK,
        dropped_examples={ATTACK: 3},
        nondeterministic=[ATTACK],
        earlier=[machine],
    )
    setting = {
        **{"model": ATTACK, "split": ATTACK, "pooling": ATTACK, ATTACK: {ATTACK: [ATTACK]}},
        "task": {"name": LABEL, "like": ATTACK, "metric": ATTACK},
        "method": {"name": ATTACK, "density": ATTACK},
    }
    changes = {
        "provenance": origin,
        "inputs": {ATTACK: ATTACK},
        "metrics": {"test": {ATTACK: 0.5}, "dev": {ATTACK: 0.4}},
        "primary": Primary(name=ATTACK, dev=0.4, test=0.5),
    }
    cells = [record(LABEL, LABEL, seed, 0.5, setting=setting, **changes) for seed in range(3)]
    directory = write(output_dir, *cells, failure(LABEL, LABEL, 3, ATTACK))
    odd = directory / LABEL / "<script>alert(5)<" / "seed-1"
    odd.mkdir(parents=True)
    (odd / "record.json").write_text("{}")
    return directory


@cache
def hostile_page() -> str:
    """The page of `hostile` records, with attacks in all that is not made of records."""
    with TemporaryDirectory() as directory:
        frame = load(hostile(Path(directory)))
        # No claim is about the task of the attack.
        plain = load(write(Path(directory) / "plain", record("rte", "sam", 0, 0.5)))
    content = content_of(frame)
    table = content["tables"][0]
    cell = replace(table.rows[0][1], text=ATTACK, spread=ATTACK, note=ATTACK, tone="quiet")
    rows = ((table.rows[0][0], cell, *table.rows[0][2:]),)
    odd = replace(table, name="step_time", title=ATTACK, caption=ATTACK, notes=(ATTACK,), rows=rows)
    verdict = replace(claims.judge(plain)[0], reason=ATTACK, published=ATTACK)
    content |= {"tables": [*content["tables"], odd], "verdicts": [verdict]}
    return render_page(frame, **content | {"absent": {ATTACK: ATTACK}})


def table_of(*rows: tuple[Cell, ...], **changes: Any) -> Table:
    """A table of these rows, "method" and "c1" to "cn" its heads; of two columns without a row."""
    number = len(rows[0]) if rows else 2
    columns = (Column("method"), *(Column(f"c{i}", "acc") for i in range(1, number)))
    fields = {"name": "results", "title": "Title", "caption": "Caption.", "columns": columns}
    return Table(**{**fields, "rows": rows, "data": pd.DataFrame(), **changes})
