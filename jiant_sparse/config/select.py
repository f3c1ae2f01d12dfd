"""`select`: hyper-parameters that the dev scores of another benchmark select, task by task.

    sam: {burn_in: {select: burn_in.yaml}}

takes for each task the burn-in with which `sam` is best in that benchmark, which sweeps it. If the
benchmark sweeps several keys together, the best combination counts.
"""

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from jiant_sparse.config.bind import Binder
from jiant_sparse.config.selector import Reference, Selected, Selection, Selector
from jiant_sparse.config.sweep import Expanded, expand, value_of, with_value, without
from jiant_sparse.config.yaml_file import LARGEST_BYTES, is_reference, read_yaml
from jiant_sparse.errors import InputError, shown
from jiant_sparse.files import check_regular
from jiant_sparse.schema.cell import Benchmark

MOST_FILES = 20
"""In one chain of `select`, the file that is run included."""


class _Unusable(InputError):
    """The problems of a selection benchmark's own file, which they name."""


class Resolver:
    """Makes a benchmark of a configuration, and of the files that its references name.

    given: top-level keys to replace in each of these files. selector: None = selects nothing, a
    reference is a problem. tasks: the only tasks to select for in selection benchmarks that have
    references themselves; None = all.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        selector: Selector | None,
        tasks: Collection[str] | None = None,
    ) -> None:
        self.given = given
        self.selector = selector
        self.tasks = tasks
        self._selections: dict[Path, Selection | _Unusable] = {}
        self._fixed: dict[Path, Selection] = {}  # without references
        self._open: list[Path] = []

    def with_selector(self, selector: Selector) -> "Resolver":
        """Return a copy with another selector; files without references are not read again."""
        other = Resolver(self.given, selector, self.tasks)
        other._selections, other._fixed = {**self._fixed}, self._fixed
        return other

    def benchmark(self, expanded: Expanded, where: str) -> Benchmark:
        """Select, then bind what was read from `where`.

        Raises InputError with every problem at once: if a reference cannot be resolved, its field
        is left out, and the rest is bound to find its problems.
        """
        problems = [*expanded.problems]
        found: list[Selected] = []
        tasks = expanded.raw.get("tasks")
        blocks = dict(expanded.raw["methods"]) if expanded.variants else {}
        self._open.append(_real(Path(where)))
        for reference in _references(expanded):
            block = blocks[reference.label]
            blocks[reference.label] = without(block, reference.key)
            if not isinstance(tasks, Mapping):
                continue
            try:
                selected = self._select(reference, value_of(block, reference.key), tasks)
                blocks[reference.label] = with_value(block, reference.key, dict(selected.values))
                found.append(selected)
            except InputError as error:
                place = "" if isinstance(error, _Unusable) else f"{where}: {reference.place}: "
                problems += [f"{place}{text}" for text in error.problems]
        self._open.pop()
        raw = expanded.raw | ({"methods": blocks} if expanded.variants else {})
        bound = Binder(where, problems, expanded.tasks).benchmark(raw)
        evidence = {record.cell.model_dump_json(): record for s in found for record in s.evidence}
        lines = dict.fromkeys(line for selected in found for line in selected.lines)
        return dataclasses.replace(bound, chosen=(*lines,), evidence=(*evidence.values(),))

    def _select(
        self, reference: Reference, value: Mapping[str, Any], tasks: Collection[str]
    ) -> Selected:
        others = sorted(value.keys() - {"select"})
        if others:
            raise InputError(f"`select` stands alone; remove {', '.join(others)}")
        if not isinstance(value["select"], str):
            raise InputError(
                f"select: is {shown(value['select'])}; it must be the path of one YAML file"
            )
        selection = self._selection(Path(os.path.abspath(value["select"])))
        selection.candidates(reference)
        bound = selection.benchmark
        known = dict.fromkeys(cell.key.task for cell in bound.cells)
        absent = [task for task in tasks if task not in known]
        if absent:
            has = f"it has {', '.join(known)}"
            raise InputError(f"{selection.path} has no task {', '.join(absent)}; {has}")
        if self.selector is None:
            raise InputError(
                f"is chosen by {selection.path} from the records of an output directory, "
                "and there is none here"
            )
        selected = self.selector(reference, selection, tasks)
        # The selection benchmark may have values that were selected too.
        return dataclasses.replace(
            selected,
            lines=(*bound.chosen, *selected.lines),
            evidence=(*bound.evidence, *selected.evidence),
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


def _shown(path: Path) -> str:
    """A path as people write it: relative if it lies below the current directory."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
