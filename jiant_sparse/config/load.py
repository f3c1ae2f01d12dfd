"""Loads a YAML file as a Benchmark; everything is bound and checked before anything runs.

A file is read (`yaml_file`), its sweeps are expanded (`sweep`), its references are replaced by
selected values (`select`), and the result is bound to types (`bind`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jiant_sparse.config.select import Resolver
from jiant_sparse.config.selector import DevScores, Position
from jiant_sparse.config.sweep import expand
from jiant_sparse.config.yaml_file import read_yaml, set_key
from jiant_sparse.errors import InputError, suggest
from jiant_sparse.schema.cell import Benchmark
from jiant_sparse.schema.record import CellKey


def load(
    path: Path,
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    *,
    output_dir: Path | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
) -> Benchmark:
    """Load the benchmark of a YAML file.

    given: top-level keys to replace, in this file and in the files that it selects from.
    overrides: changes such as `train.learning_rate=3e-4`, of this file alone, applied last.
    output_dir: where the records are that select values; without it, each `select` is a problem.
    only: labels of the wanted cells by `task`, `method` and `seed`. Records that select values for
    other cells are not read; the other cells are in `planned` alone.
    Raises InputError with every problem of the file at once.
    """
    raw = read_yaml(path) | dict(given or {})
    for override in overrides:
        set_key(raw, override)
    return parse(raw, str(path), given=given, output_dir=output_dir, only=only)


def check(path: Path) -> str:
    """Check a file, with every candidate of each `select`, and say in words what it holds.

    A file without `benchmark` is one that others include. Raises InputError with every problem of
    the file at once.
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
    """Load one cell: of the benchmark in the file `path`, or of one called `run` without a file.

    See `load`. Raises InputError as `load`, and if the file has no such task or method.
    """
    where = str(path) if path else "command line"
    raw = read_yaml(path) if path else {"benchmark": "run", "tasks": {task: {}}, "methods": {}}
    raw = raw | {"seeds": [seed]} | dict(given or {})
    if path is None:
        raw["methods"] = {method: {}}
    for override in overrides:
        set_key(raw, override)
    expanded = expand(raw, where)
    for kind, label in (("tasks", task), ("methods", method)):
        block = expanded.raw.get(kind)
        if isinstance(block, dict) and label not in block:
            absent = f"{where}: {kind} has no {label!r}; {suggest(label, [*block])}"
            raise InputError(*expanded.problems, absent)
    one = expanded.narrowed([task], [method])
    if isinstance(one.raw.get("tasks"), dict) and isinstance(one.raw["tasks"].get(task), dict):
        one.raw["tasks"][task].pop("seeds", None)
    return _resolver(given, output_dir).benchmark(one, where)


def parse(
    raw: Mapping[str, Any],
    where: str,
    *,
    given: Mapping[str, Any] | None = None,
    output_dir: Path | None = None,
    only: Mapping[str, Sequence[str]] | None = None,
) -> Benchmark:
    """Bind a configuration read from `where`; see `load`. Raises InputError with every problem."""
    expanded = expand(raw, where)
    if not only:
        return _resolver(given, output_dir).benchmark(expanded, where)
    # Labels and problems of the file are the same for every candidate.
    whole = Resolver(dict(given or {}), Position(0)).benchmark(expanded, where)
    check_only(only, whole.planned)
    tasks, methods = only.get("task"), only.get("method")
    resolver = _resolver(given, output_dir, tasks)
    found = resolver.benchmark(expanded.narrowed(tasks, methods), where)
    cells = tuple(cell for cell in found.cells if is_wanted(cell.key, only))
    return dataclasses.replace(found, cells=cells, planned=whole.planned)


def check_only(only: Mapping[str, Sequence[str]], planned: Sequence[CellKey]) -> None:
    """Raise InputError for every label that no cell has, and if no cell has all of them."""
    problems = []
    for name, values in only.items():
        known = dict.fromkeys(str(getattr(key, name)) for key in planned)
        problems += [
            f"--only {name}={value}: there is no such {name}; {suggest(value, known)}"
            for value in values
            if value not in known
        ]
    if problems:
        raise InputError(*problems)
    if not any(is_wanted(key, only) for key in planned):
        shown = ",".join(f"{name}={value}" for name, values in only.items() for value in values)
        raise InputError(f"--only {shown}: none of {len(planned)} cells matches")


def is_wanted(key: CellKey, only: Mapping[str, Sequence[str]]) -> bool:
    """Whether `only` asks for the cell; see `load`."""
    return all(str(getattr(key, name)) in values for name, values in only.items())


def _resolver(
    given: Mapping[str, Any] | None,
    output_dir: Path | None,
    tasks: Sequence[str] | None = None,
) -> Resolver:
    given = dict(given or {})
    return Resolver(given, None if output_dir is None else DevScores(output_dir, given), tasks)


def _try_all(raw: Mapping[str, Any], where: str) -> Benchmark:
    """Bind with each candidate of every `select`; return the benchmark with the first ones."""
    expanded = expand(raw, where)
    selector = Position(0)
    resolver = Resolver({}, selector)
    first = resolver.benchmark(expanded, where)
    for number in range(1, selector.most):
        resolver.with_selector(Position(number)).benchmark(expanded, where)
    return first
