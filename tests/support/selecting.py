"""Shared by the tests of `select`: two files that refer to each other, and records."""

import json
from pathlib import Path

import pytest
import yaml

from jiant_sparse.config import load as config
from jiant_sparse.errors import InputError
from jiant_sparse.schema.record import Primary, Provenance, Record

BASE = {"model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}, "rte": {}}}
SEARCH = {"benchmark": "s", "methods": {"sam": {"sweep": {"burn_in": [5, 6, 7]}}}}
MAIN = {"benchmark": "b", "methods": {"sam": {"burn_in": {"select": "search.yaml"}}}}
PROVENANCE = Provenance(
    commit=None,
    dirty=None,
    versions={},
    device="cpu",
    threads=1,
    pooler=None,
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:09+00:00",
)
MODEL = "0" * 64


def write(name: str, raw: dict) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(BASE | raw, sort_keys=False))
    return path


def run(name: str, dev, output: str = "out", given=None, inputs=None, **changes) -> None:
    """A record of every cell of a file; dev: (task, method, seed) -> the score, or None."""
    for cell in config.load(Path(name), given=given, output_dir=Path(output)).cells:
        key = cell.key
        fields = {
            "cell": key,
            "method": cell.method_facts,
            "settings": cell.settings,
            "settings_hash": cell.settings_hash,
            "inputs": inputs or {"model": MODEL},
            "status": "ok",
            "primary": Primary(name="acc", dev=dev(key.task, key.method, key.seed), test=0.5),
            "provenance": PROVENANCE,
        }
        Record(**fields | changes).write(key.directory(Path(output)))


def change(place: str, **changes) -> None:
    """Change fields of the record of `task/method` of the search."""
    path = Path("out/s") / place / "seed-0/record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def table(**scores):
    """Scores by task, those of each candidate in turn."""
    return lambda task, method, seed: scores[task][int(method[-1]) - 5]


def load(name="main.yaml", **options):
    return config.load(Path(name), output_dir=Path("out"), **options)


def problems(name="main.yaml", check=False, **options) -> list[str]:
    with pytest.raises(InputError) as caught:
        config.check(Path(name)) if check else load(name, **options)
    return list(caught.value.problems)


def burn_ins(benchmark) -> dict[str, int]:
    return {cell.key.task: cell.method_fields["burn_in"] for cell in benchmark.cells}
