"""Plain values -> Benchmark: every block is bound to its type, and every problem is collected.

Stands above `methods` and `data`, whose types the blocks of a file are bound to.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from jiant_sparse.benchmark.cell import Benchmark, Block, Cell, Setup, Train
from jiant_sparse.benchmark.record import CellKey
from jiant_sparse.benchmark.yaml_file import merge
from jiant_sparse.data import tasks
from jiant_sparse.data.tasks import Task
from jiant_sparse.errors import InputError, suggest
from jiant_sparse.methods import base as methods

_ALTERNATIVE = re.compile(r"int|float|bool|str|literal\[.*\]")
# Names become folders, and a benchmark's may have levels.
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


class _File(Setup):
    """The whole file, its task and method blocks still unbound."""

    benchmark: str = Field(pattern=rf"^{_NAME}(/{_NAME})*$")
    seeds: list[int] = Field(min_length=1)
    train: dict[str, Any] = {}
    tasks: dict[str, dict[str, Any] | None] = Field(min_length=1)
    methods: dict[str, dict[str, Any] | None] = Field(min_length=1)


class _TaskBlock(Block):
    like: str | None = Field(None, description="known task whose format and metric this one has")
    metric: str | None = None
    seeds: list[int] | None = Field(None, min_length=1)
    train: dict[str, Any] = {}


class Binder:
    """Binds block after block of the file `where`, and adds what is wrong to `problems`.

    tasks: labels beside those that are bound, for which a field may have values too.
    """

    def __init__(self, where: str, problems: Iterable[str] = (), tasks: Iterable[str] = ()) -> None:
        self.where = where
        self.problems = [*problems]
        self.tasks = [*tasks]

    def benchmark(self, raw: Mapping[str, Any]) -> Benchmark:
        """The whole file. Raises InputError with every problem, those known before included."""
        file = self.bind(_File, raw, "")
        if file is None:
            # The other blocks still have something to say.
            for name in ("tasks", "methods"):
                block = raw.get(name)
                for label, fields in block.items() if isinstance(block, dict) else ():
                    self.sub_block(name, str(label), fields or {})
            self.bind(Train, raw.get("train") or {}, "train")
            raise InputError(*dict.fromkeys(self.problems))
        self.bind(Train, file.train, "train")
        self.seeds(file.seeds, "seeds")
        cells = self.cells(file)
        if self.problems:
            raise InputError(*dict.fromkeys(self.problems))
        return Benchmark(file.benchmark, file.model, cells, tuple(cell.key for cell in cells))

    def cells(self, file: _File) -> tuple[Cell, ...]:
        setup = Setup(**file.model_dump(include=set(Setup.model_fields)))
        known, cells = tuple(dict.fromkeys([*file.tasks, *self.tasks])), []
        for (label, task_raw), (name, method_raw) in itertools.product(
            file.tasks.items(), file.methods.items()
        ):
            self.name(label, "tasks")
            self.name(name, "methods")
            bound = self.task(label, task_raw or {})
            method = self.method(name, method_raw or {}, label, known)
            if bound is None or method is None:
                continue
            task, block = bound
            method_name, fields, method_train = method
            changes = {f"tasks.{label}": block.train, f"methods.{name}": method_train}
            train = self.train(file.train, changes)
            for seed in file.seeds if block.seeds is None else block.seeds:
                if train is not None:
                    key = CellKey(benchmark=file.benchmark, task=label, method=name, seed=seed)
                    cells.append(Cell(key, task, method_name, fields, train, setup.of(task)))
        return tuple(cells)

    def sub_block(self, kind: str, label: str, raw: Any) -> None:
        if not isinstance(raw, dict):
            self.problem(f"{kind}.{label}", f"is {raw!r}; it must be a mapping")
        elif kind == "tasks":
            self.task(label, raw)
        else:
            self.method(label, raw, None, ())

    def task(self, label: str, raw: Mapping[str, Any]) -> tuple[Task, _TaskBlock] | None:
        where = f"tasks.{label}"
        block = self.bind(_TaskBlock, raw, where)
        if block is None:
            return None
        self.seeds(block.seeds or [0], f"{where}.seeds")
        try:
            if block.like is None and block.metric is None:
                return tasks.find(label), block
            return tasks.variant(label, block.like or label, block.metric), block
        except InputError as error:
            self.problem(where, str(error))
            return None

    def method(
        self, label: str, raw: Mapping[str, Any], task: str | None, known: tuple[str, ...]
    ) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
        """(method's key, its fields, its changes of `train`), values per task resolved."""
        where = f"methods.{label}"
        fields = dict(raw)
        name = fields.pop("method", label)
        train = fields.pop("train", {})
        if not isinstance(train, dict):
            self.problem(f"{where}.train", f"is {train!r}; it must be a mapping")
            return None
        try:
            kind = methods.find(str(name))
        except InputError as error:
            self.problem(where, str(error))
            return None
        fields = self.at_task(where, fields, task, known)
        train = self.at_task(f"{where}.train", train, task, known)
        instance = self.bind(kind, fields, where)
        return None if instance is None else (str(name), dataclasses.asdict(instance), train)

    def at_task(
        self, where: str, fields: Mapping[str, Any], task: str | None, known: tuple[str, ...]
    ) -> dict[str, Any]:
        """The fields, those given by task resolved."""
        return {
            field: self.per_task(f"{where}.{field}", value, task, known)
            if isinstance(value, dict)
            else value
            for field, value in fields.items()
        }

    def per_task(
        self, where: str, values: Mapping[str, Any], task: str | None, known: tuple[str, ...]
    ) -> Any:
        """The value for `task` of a field that is given as a mapping from task to value."""
        for name in values.keys() - set(known) if known else ():
            # A table of published values may name more tasks than a benchmark runs.
            if name not in tasks.TASKS:
                self.problem(where, f"names {name!r}, which is not a task; {suggest(name, known)}")
        if task is not None and task not in values:
            self.problem(where, f"has no value for task {task}; give one or a single value for all")
        return values.get(task, next(iter(values.values()), None))

    def train(
        self, common: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
    ) -> Train | None:
        """`train` with the changes of each block, by the block's place, one after another."""
        whole = common
        for where, block in changes.items():
            if self.bind(Train, block, f"{where}.train") is None:
                return None
            whole = merge(whole, block)
        train = self.bind(Train, whole, "train")
        if train is not None and train.eval_offset >= train.eval_every:
            self.problem(
                "train.eval_offset",
                f"is {train.eval_offset}; it must be below eval_every ({train.eval_every})",
            )
        return train

    def seeds(self, seeds: list[int], where: str) -> None:
        if any(seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
            self.problem(where, f"is {seeds}; seeds must be distinct and not negative")

    def name(self, label: str, where: str) -> None:
        if not re.fullmatch(_NAME, label):
            self.problem(where, f"names {label!r}; a name has letters, digits, '.', '_' and '-'")

    def bind(self, kind: type, raw: Any, where: str) -> Any | None:
        """An instance of `kind` from plain values, or None with the problems noted."""
        try:
            bound = TypeAdapter(kind).validate_python(raw)
        except ValidationError as error:
            for detail in error.errors():
                self.invalid(kind, where, detail)
            return None
        for name, value in raw.items() if isinstance(raw, Mapping) else ():
            # Pydantic reads true as 1.
            if isinstance(value, bool) and not isinstance(getattr(bound, name), bool):
                self.problem(f"{where}.{name}".strip("."), f"is {value}; it must be a number")
                return None
        return bound

    def invalid(self, kind: type, where: str, detail: Mapping[str, Any]) -> None:
        # Of a field that may be of several types, pydantic tells one error for each of them.
        place = (part for part in detail["loc"] if not _ALTERNATIVE.fullmatch(str(part)))
        path = ".".join(str(part) for part in (where, *place) if part != "")
        if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            known = _fields(kind)
            hint = suggest(detail["loc"][-1], known) if known else "it has no keys"
            self.problem(path, f"is not a known key; {hint}")
        elif detail["type"] == "missing":
            self.problem(path, "is missing")
        elif detail["type"] == "value_error":
            self.problem(path, str(detail["ctx"]["error"]))
        else:
            message = detail["msg"].removeprefix("Input ").removeprefix("Value ")
            self.problem(path, f"is {detail['input']!r}; it {message}")

    def problem(self, key: str, text: str) -> None:
        self.problems.append(f"{self.where}: {key or 'file'}: {text}")


def _fields(kind: type) -> tuple[str, ...]:
    if issubclass(kind, BaseModel):
        return tuple(kind.model_fields)
    return tuple(field.name for field in dataclasses.fields(kind))
