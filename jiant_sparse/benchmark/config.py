"""One YAML file -> Benchmark -> Cells: everything is bound and checked before anything runs.

A file is read (`yaml_file`), its sweeps are expanded (`sweep`), its references followed (`select`),
and what comes out is bound (`bind`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jiant_sparse.benchmark.cell import Benchmark
from jiant_sparse.benchmark.judge import Position, Records
from jiant_sparse.benchmark.select import Resolver
from jiant_sparse.benchmark.sweep import Expanded, expand
from jiant_sparse.benchmark.yaml_file import read_yaml, set_key
from jiant_sparse.errors import InputError, suggest


def load(
    path: Path,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    output_dir: Path | None = None,
) -> Benchmark:
    """The benchmark of a YAML file.

    given: top-level keys to replace, in this file and in those that it selects by. overrides:
    changes like `train.learning_rate=3e-4` of this file alone, last. output_dir: where the records
    are that choose values; without it, a value that is to be chosen is a problem.
    Raises InputError with every problem of the file at once.
    """
    raw = read_yaml(path) | dict(given or {})
    for override in overrides:
        set_key(raw, override)
    return parse(raw, str(path), given=given, output_dir=output_dir)


def check(path: Path) -> str:
    """What a good file holds, in words; a file without `benchmark` is there to be included.

    A value that is to be chosen is tried with every candidate. Raises InputError with every problem
    of the file at once.
    """
    raw, where = read_yaml(path), str(path)
    if "benchmark" in raw:
        return f"{len(_try_all(raw, where).cells)} cells"
    whole = {
        "benchmark": "included",
        "model": "any",
        "data_dir": "any",
        "seeds": [0],
        "tasks": {"cb": {}},
        "methods": {"full_tuning": {}},
    }
    _try_all(whole | raw, where)
    return "to be included"


def single(
    task: str,
    method: str,
    seed: int,
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    output_dir: Path | None = None,
) -> Benchmark:
    """One cell: of the file's benchmark if there is a file, else of one called `run`.

    See `load`. Raises InputError as `load` does, and if the file has no such task or method.
    """
    where = str(path) if path else "command line"
    raw = read_yaml(path) if path else {"benchmark": "run", "tasks": {task: {}}, "methods": {}}
    raw = raw | {"seeds": [seed]} | dict(given or {})
    if path is None:
        raw["methods"] = {method: {}}
    for override in overrides:
        set_key(raw, override)
    expanded = expand(raw, where)
    raw = expanded.raw
    for kind, label in (("tasks", task), ("methods", method)):
        block = raw.get(kind)
        if isinstance(block, dict):
            if label not in block:
                absent = f"{where}: {kind} has no {label!r}; {suggest(label, [*block])}"
                raise InputError(*expanded.problems, absent)
            raw[kind] = {label: block[label]}
    if isinstance(raw.get("tasks"), dict) and isinstance(raw["tasks"].get(task), dict):
        raw["tasks"][task].pop("seeds", None)
    variants = {label: v for label, v in expanded.variants.items() if label == method}
    one = Expanded(raw, variants, expanded.problems)
    return _resolver(given, output_dir).benchmark(one, where)


def parse(
    raw: Mapping[str, Any],
    where: str,
    *,
    given: Mapping[str, Any] | None = None,
    output_dir: Path | None = None,
) -> Benchmark:
    """Bind a configuration read from `where`; see `load`. Raises InputError with every problem."""
    return _resolver(given, output_dir).benchmark(expand(raw, where), where)


def _resolver(given: Mapping[str, Any] | None, output_dir: Path | None) -> Resolver:
    given = dict(given or {})
    return Resolver(given, None if output_dir is None else Records(output_dir, given))


def _try_all(raw: Mapping[str, Any], where: str) -> Benchmark:
    """The benchmark with the first candidate of every choice; raises for any that does not bind."""
    expanded = expand(raw, where)
    judge = Position(0)
    first = Resolver({}, judge).benchmark(expanded, where)
    for number in range(1, judge.most):
        Resolver({}, Position(number)).benchmark(expanded, where)
    return first
