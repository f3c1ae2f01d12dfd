"""Binds the plain values of a file to types, collecting every problem, and makes a Benchmark."""

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from jiant_sparse import seeds as seeding
from jiant_sparse.config.yaml_file import merge
from jiant_sparse.data import tasks
from jiant_sparse.data.tasks import Task
from jiant_sparse.errors import InputError, shown, suggest
from jiant_sparse.files import FOLDER_NAME, LONGEST_NAME, NAME_RULE, is_folder_name
from jiant_sparse.methods import base as methods
from jiant_sparse.methods import fields as method_fields
from jiant_sparse.methods import readings
from jiant_sparse.methods.base import Method
from jiant_sparse.schema import manifest
from jiant_sparse.schema.cell import Benchmark, Block, Cell, Setup, Train
from jiant_sparse.schema.record import CellKey

MOST_CELLS = 100_000
MOST_PROBLEMS = 1000
# What lies beside the folders of the tasks.
_TAKEN = ("data", "report", manifest.FILE_NAME)
_Bound = TypeVar("_Bound", bound=BaseModel)


class _File(Setup):
    """The whole file, its task and method blocks still unbound. benchmark: folders, with '/'."""

    benchmark: str = Field(pattern=rf"^{FOLDER_NAME}(/{FOLDER_NAME})*$", max_length=LONGEST_NAME)
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
    """Binds the blocks of the file `where`, and collects problems.

    tasks: further labels that a field with values by task may name.
    """

    def __init__(self, where: str, problems: Iterable[str] = (), tasks: Iterable[str] = ()) -> None:
        self.where = where
        self.problems = dict.fromkeys(problems)
        self.tasks = [*tasks]

    def benchmark(self, raw: Mapping[str, Any]) -> Benchmark:
        """Bind the whole file; raises InputError with every problem, also those of before."""
        file = self.bind(_File, raw, "")
        if file is None:
            # Its blocks may have problems of their own.
            for name in ("tasks", "methods"):
                given = raw.get(name)
                block = given if isinstance(given, dict) else {}
                self.names(block, name)
                for label, fields in block.items():
                    self.sub_block(name, str(label), fields or {})
            self.bind(Train, raw.get("train") or {}, "train")
            raise InputError(*self.problems)
        self.bind(Train, file.train, "train")
        self.seeds(file.seeds, "seeds")
        cells = self.cells(file)
        if self.problems:
            raise InputError(*self.problems)
        return Benchmark(file.benchmark, file.model, cells, tuple(cell.key for cell in cells))

    def cells(self, file: _File) -> tuple[Cell, ...]:
        setup = Setup(**file.model_dump(include=set(Setup.model_fields)))
        known, cells = tuple(dict.fromkeys([*file.tasks, *self.tasks])), []
        self.names(file.tasks, "tasks")
        self.names(file.methods, "methods")
        bound = {label: self.task(label, raw or {}) for label, raw in file.tasks.items()}
        seeds = {label: (found and found[1].seeds) or file.seeds for label, found in bound.items()}
        count = sum(map(len, seeds.values())) * len(file.methods)
        if count > MOST_CELLS:
            self.problem("", f"has {count:,} cells; at most {MOST_CELLS:,} can be run")
            return ()
        for (label, found), (name, raw) in itertools.product(bound.items(), file.methods.items()):
            method = self.method(name, raw or {}, label, known)
            if found is None or method is None:
                continue
            task, block = found
            method_name, fields, method_train = method
            changes = {f"tasks.{label}": block.train, f"methods.{name}": method_train}
            train = self.train(file.train, changes)
            for seed in seeds[label]:
                if train is not None:
                    key = CellKey(benchmark=file.benchmark, task=label, method=name, seed=seed)
                    cells.append(Cell(key, task, method_name, fields, train, setup.of(task)))
        return tuple(cells)

    def sub_block(self, kind: str, label: str, raw: Any) -> None:
        if not isinstance(raw, dict):
            self.problem(f"{kind}.{label}", f"is {shown(raw)}; it must be a mapping")
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
            self.problem(f"{where}.train", f"is {shown(train)}; it must be a mapping")
            return None
        try:
            kind = methods.find(str(name))
        except InputError as error:
            self.problem(where, str(error))
            return None
        for key in readings.rules(kind):
            if key.startswith("train.") and key.removeprefix("train.") not in Train.model_fields:
                known_train = [f"train.{field}" for field in Train.model_fields]
                self.problem(where, f"readings of {name} name {key}; {suggest(key, known_train)}")
        fields = self.at_task(where, fields, task, known)
        train = self.at_task(f"{where}.train", train, task, known)
        instance = self.instance(str(name), kind, fields, where)
        return None if instance is None else (str(name), method_fields.values(instance), train)

    def instance(
        self, name: str, kind: type[Method], fields: Mapping[str, Any], where: str
    ) -> Method | None:
        """The method with these fields, or None with the problems noted."""
        known = method_fields.of(kind)
        wrong = {key: _unknown(key, known) for key in fields if key not in known}
        wrong |= method_fields.check(kind, {key: fields[key] for key in fields if key in known})[1]
        wrong |= {key: "is missing" for key in method_fields.required(kind) if key not in fields}
        for key, text in wrong.items():
            self.problem(f"{where}.{key}", text)
        if wrong:
            return None
        try:
            return kind(**fields)
        except InputError as error:  # two fields that do not fit each other
            for problem in error.problems:
                self.problem(where, problem.removeprefix(f"{name}: "))
            return None

    def at_task(
        self, where: str, fields: Mapping[str, Any], task: str | None, known: tuple[str, ...]
    ) -> dict[str, Any]:
        """Replace fields that are given by task by their value for `task`."""
        return {
            field: self.per_task(f"{where}.{field}", value, task, known)
            if isinstance(value, dict)
            else value
            for field, value in fields.items()
        }

    def per_task(
        self, where: str, values: Mapping[str, Any], task: str | None, known: tuple[str, ...]
    ) -> Any:
        """Return the value for `task` of a field that is given as a mapping from task to value."""
        # Reported once, not for each task.
        for name in sorted(values.keys() - set(known)) if known and task == known[0] else ():
            # A table of published values may name tasks that the benchmark does not run.
            if name not in tasks.TASKS:
                self.problem(where, f"names {name!r}, which is not a task; {suggest(name, known)}")
        if task is not None and task in values:
            return values[task]
        if task is not None:
            self.problem(where, f"has no value for task {task}; give one or a single value for all")
        return next(iter(values.values()), None)

    def train(
        self, common: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]
    ) -> Train | None:
        """Bind `train` with the changes of each block, which are given by the block's place."""
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
        if train is not None and train.optimizer != "sgd" and train.sgd_momentum is not None:
            self.problem(
                "train.sgd_momentum",
                f"is {train.sgd_momentum}, but optimizer is {train.optimizer}; it must be null",
            )
        return train

    def seeds(self, seeds: list[int], where: str) -> None:
        fit = all(0 <= seed < seeding.LIMIT for seed in seeds)
        if not fit or len(set(seeds)) < len(seeds):
            self.problem(where, f"is {shown(seeds)}; seeds must be distinct and in [0, 2^63)")

    def names(self, labels: Iterable[str], where: str) -> None:
        """Check that labels of tasks or methods can be folders, each its own."""
        folders: dict[str, str] = {}
        for label in labels:
            if not is_folder_name(label):
                self.problem(where, f"names {shown(label)}; a name has {NAME_RULE}")
            elif where == "tasks" and label.lower() in _TAKEN:
                self.problem(
                    where,
                    f"names {label!r}, which is a file or folder of its own here; choose another",
                )
            twin = folders.setdefault(label.lower(), label)
            if twin != label:
                what = "which are one folder where case is ignored"
                self.problem(where, f"names {shown(twin)} and {shown(label)}, {what}")

    def bind(self, kind: type[_Bound], raw: Any, where: str) -> _Bound | None:
        """An instance of `kind` from plain values, or None with the problems noted.

        No value is converted: text is not a number, and `true` is not 1.
        """
        try:
            return kind.model_validate(raw)
        except ValidationError as error:
            for detail in error.errors():
                path = ".".join(str(part) for part in (where, *detail["loc"]) if part != "")
                if detail["type"] == "extra_forbidden":
                    self.problem(path, _unknown(detail["loc"][-1], kind.model_fields))
                elif detail["type"] == "missing":
                    self.problem(path, "is missing")
                else:
                    # Input, String, List
                    message = re.sub(r"^\w+ (?=should|must)", "", detail["msg"])
                    self.problem(path, f"is {shown(detail['input'])}; it {message}")
            return None

    def problem(self, key: str, text: str) -> None:
        self.problems[f"{self.where}: {key or 'file'}: {text}"] = None
        if len(self.problems) > MOST_PROBLEMS:
            told = [*self.problems][:MOST_PROBLEMS]
            more = f"has more problems; the first {MOST_PROBLEMS:,} are told"
            raise InputError(*told, f"{self.where}: file: {more}")


def _unknown(key: Any, known: Iterable[str]) -> str:
    if key == "eval_batch_size" and "eval_tokens" in known:
        return "is no longer a key; set eval_tokens, the most tokens of an evaluation batch"
    return f"is not a known key; {suggest(key, known) if known else 'it has no keys'}"
