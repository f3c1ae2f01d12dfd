"""`sweep`: one method block and several values of its fields -> a labelled block for each.

    sam: {density: 0.005, sweep: {burn_in: [500, 600]}}

becomes `sam_burn_in_500` and `sam_burn_in_600`. A key is a field of the method or `train.FIELD`;
several keys give every combination, the last key's values changing fastest. A `sweep` at the top
of a file holds for every method that has none of its own; `sweep: {}` keeps a method out of it.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jiant_sparse.config.yaml_file import is_reference
from jiant_sparse.errors import shown

MOST_METHODS = 1000
"""Method blocks that the sweeps of one file may give."""


@dataclass(frozen=True)
class Variant:
    """The origin of a method block: its label in the file, and its values by swept key."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Expanded:
    """A configuration whose sweeps are expanded. variants: by method label.

    problems: of the sweeps. tasks: labels of all tasks of the file; `raw` may have fewer.
    """

    raw: dict[str, Any]
    variants: Mapping[str, Variant]
    problems: tuple[str, ...]
    tasks: tuple[str, ...]

    def narrowed(
        self, tasks: Collection[str] | None = None, methods: Collection[str] | None = None
    ) -> "Expanded":
        """Keep only these tasks and methods; None = all."""
        raw, variants = dict(self.raw), self.variants
        for kind, labels in (("tasks", tasks), ("methods", methods)):
            if labels is not None and isinstance(raw.get(kind), Mapping):
                raw[kind] = {label: block for label, block in raw[kind].items() if label in labels}
        if methods is not None:
            variants = {label: v for label, v in variants.items() if label in methods}
        return replace(self, raw=raw, variants=variants)


def expand(raw: Mapping[str, Any], where: str) -> Expanded:
    """Replace every swept block of a plain configuration that was read from `where`.

    A bad sweep is left out, so that binding finds the other problems.

    >>> sweep = {"sam": {"sweep": {"burn_in": [500, 600]}}}
    >>> [*expand({"methods": sweep}, "a.yaml").raw["methods"]]
    ['sam_burn_in_500', 'sam_burn_in_600']
    """
    rest = without(raw, "sweep")
    problems: list[str] = []
    lists = _lists(raw.get("sweep", {}), f"{where}: sweep", problems)
    blocks, tasks = rest.get("methods"), rest.get("tasks")
    names = tuple(map(str, tasks)) if isinstance(tasks, Mapping) else ()
    if not isinstance(blocks, Mapping):
        return Expanded(rest, {}, tuple(problems), names)
    methods: dict[str, Any] = {}
    variants: dict[str, Variant] = {}
    for label, block in blocks.items():
        place = f"{where}: methods.{label}.sweep"
        own = lists
        if isinstance(block, Mapping) and "sweep" in block:
            own = _lists(block["sweep"], place, problems)
            block = without(block, "sweep")
        problems += [
            f"{place}: {key} is swept and chosen by `select`; give one of the two"
            for key in own
            if is_reference(value_of(block, key))
        ]
        count = len(methods) + math.prod(map(len, own.values()))
        if own and count > MOST_METHODS:
            what = f"{count:,} methods come of sweeps with this one; at most {MOST_METHODS:,}"
            problems.append(f"{place}: {what} can be run")
            own = {}
        for name, made, values in _variants(label, block, own):
            if name in methods:
                other = variants[name].origin
                problems.append(f"{where}: methods: {other} and {label} both make {name!r}")
            methods[name], variants[name] = made, Variant(label, values)
    return Expanded(rest | {"methods": methods}, variants, tuple(problems), names)


def without(block: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Copy a method block without `field` or `train.field`."""
    first, _, field = key.partition(".")
    rest = dict(block)
    if field:
        rest[first] = without(rest[first], field)
    else:
        rest.pop(first, None)
    return rest


def value_of(block: Any, key: str) -> Any:
    """Return the value of `field` or `train.field` in a method block; None if it has none."""
    for part in key.split("."):
        block = block.get(part) if isinstance(block, Mapping) else None
    return block


def with_value(block: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Copy a method block with a value for `field` or `train.field`."""
    first, _, field = key.partition(".")
    if not field:
        return {**block, first: value}
    inner = block.get(first, {})
    # If it is no mapping, it stays: binding reports it.
    return {**block, first: {**inner, field: value}} if isinstance(inner, Mapping) else {**block}


def text(value: Any) -> str:
    """Write a plain value as in a label.

    >>> [text(value) for value in (500, 1e-5, True, None, ["query", "output.dense"])]
    ['500', '1e-05', 'true', 'null', 'query-output.dense']
    """
    if isinstance(value, list):
        return "-".join(map(text, value))
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _variants(
    label: str, block: Any, lists: Mapping[str, list[Any]]
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield (label, block, swept values) of every combination, or the block if none is swept."""
    if not lists or not isinstance(block, Mapping | None):
        yield label, block, {}
        return
    for combination in itertools.product(*lists.values()):
        values = dict(zip(lists, combination, strict=True))
        made: dict[str, Any] = {"method": label, **(block or {})}
        name = label
        for key, value in values.items():
            made = with_value(made, key, value)
            name += f"_{key.rpartition('.')[2]}_{text(value)}"
        yield name, made, values


def _lists(sweep: Any, where: str, problems: list[str]) -> dict[str, list[Any]]:
    """Return the values by key of a `sweep` block; bad ones go to `problems` instead."""
    if not isinstance(sweep, Mapping):
        problems.append(f"{where}: is {shown(sweep)}; it must be a mapping from fields to lists")
        return {}
    lists = {}
    for key, given in sweep.items():
        wrong = _wrong(str(key), given)
        if wrong:
            problems.append(f"{where}.{key}: {wrong}")
        else:
            lists[str(key)] = given
    return lists


def _wrong(key: str, given: Any) -> str:
    first, _, field = key.partition(".")
    if "." in field or (field and first != "train"):
        return "is not a method's field; a swept key is a field or train.FIELD"
    if not isinstance(given, list) or not given:
        return f"is {shown(given)}; it must be a list of at least one value"
    if len(given) > MOST_METHODS:
        return f"has {len(given):,} values; at most {MOST_METHODS:,} can be run"
    for value in given:
        parts = value if isinstance(value, list) and value else [value]
        if not all(isinstance(part, int | float | str | None) for part in parts):
            allowed = "a number, text, true, false, null or a list of these"
            return f"has {shown(value)}; a value is {allowed}"
    for position, value in enumerate(given):
        before = given[:position]
        if value in before or text(value) in map(text, before):
            return f"is {shown(given)}; {text(value)} is given twice"
    return ""
