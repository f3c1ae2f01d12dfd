"""`select`: values of a method that another benchmark's dev scores choose, task by task.

    sam: {burn_in: {select: burn_in.yaml}}

takes for each task the burn-in with which `sam` is best in that benchmark, which sweeps it. Where
several keys are swept together, the best combination is taken.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jiant_sparse.config.bind import Binder
from jiant_sparse.config.selector import Choice, Judge, Reference, Selection
from jiant_sparse.config.sweep import Expanded, expand, value_of, with_value, without
from jiant_sparse.config.yaml_file import LARGEST_BYTES, is_reference, read_yaml
from jiant_sparse.errors import InputError, shown
from jiant_sparse.files import check_regular
from jiant_sparse.schema.cell import Benchmark

MOST_FILES = 20
"""In one chain of `select`, the file that is run included."""


class _Unusable(InputError):
    """A selection benchmark that is wrong itself: its problems name its own file."""


class Resolver:
    """Makes a benchmark of a configuration, and of those that its references name.

    given: top-level keys to replace in each of these. judge: None = nothing can be chosen here.
    tasks: the only ones to choose for, in selections that are chosen themselves; None = all.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        judge: Judge | None,
        tasks: Collection[str] | None = None,
    ) -> None:
        self.given = given
        self.judge = judge
        self.tasks = tasks
        self._selections: dict[Path, Selection | _Unusable] = {}
        # Those in which nothing is chosen.
        self._fixed: dict[Path, Selection] = {}
        self._open: list[Path] = []

    def with_judge(self, judge: Judge) -> "Resolver":
        """The same with another judge; what depends on none is not read again."""
        other = Resolver(self.given, judge, self.tasks)
        other._selections, other._fixed = dict(self._fixed), self._fixed
        return other

    def benchmark(self, expanded: Expanded, where: str) -> Benchmark:
        """Choose, then bind what was read from `where`.

        Raises InputError with every problem at once: a reference that cannot be followed leaves
        its field out, and what else is wrong is found all the same.
        """
        problems = [*expanded.problems]
        choices: list[Choice] = []
        tasks = expanded.raw.get("tasks")
        blocks = dict(expanded.raw["methods"]) if expanded.variants else {}
        self._open.append(_real(Path(where)))
        for reference in _references(expanded):
            block = blocks[reference.label]
            blocks[reference.label] = _left_out(block, reference.key)
            if not isinstance(tasks, Mapping):
                continue
            try:
                choice = self._choose(reference, value_of(block, reference.key), tasks)
                blocks[reference.label] = with_value(block, reference.key, dict(choice.values))
                choices.append(choice)
            except InputError as error:
                place = "" if isinstance(error, _Unusable) else f"{where}: {reference.place}: "
                problems += [f"{place}{text}" for text in error.problems]
        self._open.pop()
        raw = expanded.raw | ({"methods": blocks} if expanded.variants else {})
        bound = Binder(where, problems, expanded.tasks).benchmark(raw)
        evidence = {record.cell.model_dump_json(): record for c in choices for record in c.evidence}
        lines = dict.fromkeys(line for choice in choices for line in choice.lines)
        return dataclasses.replace(bound, chosen=(*lines,), evidence=(*evidence.values(),))

    def _choose(
        self, reference: Reference, value: Mapping[str, Any], tasks: Collection[str]
    ) -> Choice:
        others = sorted(value.keys() - {"select"})
        if others:
            raise InputError(f"`select` stands alone; remove {', '.join(others)}")
        if not isinstance(value["select"], str):
            raise InputError(
                f"select: is {shown(value['select'])}; it must be the path of one YAML file"
            )
        selection = self._selection(Path(os.path.abspath(value["select"])))
        selection.candidates(reference)
        known = dict.fromkeys(cell.key.task for cell in selection.benchmark.cells)
        absent = [task for task in tasks if task not in known]
        if absent:
            has = f"it has {', '.join(known)}"
            raise InputError(f"{selection.path} has no task {', '.join(absent)}; {has}")
        if self.judge is None:
            raise InputError(
                f"is chosen by {selection.path} from the records of an output directory, "
                "and there is none here"
            )
        choice, bound = self.judge(reference, selection, tasks), selection.benchmark
        # What chooses may have been chosen itself.
        return dataclasses.replace(
            choice,
            lines=(*bound.chosen, *choice.lines),
            evidence=(*bound.evidence, *choice.evidence),
        )

    def _selection(self, path: Path) -> Selection:
        where = _shown(path)
        try:
            check_regular(Path(where), LARGEST_BYTES)
        except InputError as error:
            raise InputError(f"select: {error}") from error
        real = _real(path)
        if real in self._open:
            raise InputError(
                f"select: {where} is chosen by itself, directly or by others it selects"
            )
        if real not in self._selections:
            if len(self._open) == MOST_FILES:
                raise InputError(
                    f"select: {where} would be the {MOST_FILES + 1}st file of a chain; at most "
                    f"{MOST_FILES} are followed"
                )
            self._selections[real] = self._read(path, real, where)
        found = self._selections[real]
        if isinstance(found, _Unusable):
            raise found
        return found

    def _read(self, path: Path, real: Path, where: str) -> Selection | _Unusable:
        try:
            expanded = expand(read_yaml(path) | dict(self.given), where).narrowed(self.tasks)
            bound = self.benchmark(expanded, where)
        except InputError as error:
            return _Unusable(*error.problems)
        selection = Selection(Path(where), bound, expanded.variants)
        if not any(_references(expanded)):
            self._fixed[real] = selection
        return selection


def _references(expanded: Expanded) -> Iterator[Reference]:
    for label, variant in expanded.variants.items():
        block = expanded.raw["methods"][label]
        train = value_of(block, "train")
        keys = [*block] if isinstance(block, Mapping) else []
        keys += [f"train.{field}" for field in train] if isinstance(train, Mapping) else []
        for key in keys:
            if is_reference(value_of(block, key)):
                yield Reference(label, variant.origin, key)


def _left_out(block: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A copy of a method block without `field` or `train.field`."""
    first, _, field = key.partition(".")
    if not field:
        return without(block, first)[0]
    return {**block, first: without(block[first], field)[0]}


def _shown(path: Path) -> str:
    """A path as people write it: from the current directory if it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
