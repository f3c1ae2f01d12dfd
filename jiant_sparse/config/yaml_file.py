"""Reads YAML files that may include one another; the values are plain and unchecked.

Numbers are decimal (`5`, `-0.5`, `1e-4`), `true` and `false` are bools, `null` and `~` are None.
Every other plain scalar is text, also where YAML 1.1 has a number, a bool or a date: `010`, `0x1f`,
`1_000`, `1:30`, `yes`, `2024-01-31`.
"""

import functools
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import yaml

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_regular, read_input

LARGEST_BYTES = 300_000
MOST_VALUES = 100_000
"""In one file; each use of an alias counts."""
MOST_LEVELS = 30
MOST_FILES = 30
"""In one chain of `include`."""

_TAG = "tag:yaml.org,2002:"
_DECIMAL = r"(0|[1-9][0-9]*)"
_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"(~|null|Null|NULL|)\Z", lambda text: None),
    "bool": (r"(true|True|TRUE|false|False|FALSE)\Z", lambda text: text.lower() == "true"),
    "int": (rf"[-+]?{_DECIMAL}\Z", int),
    "float": (rf"[-+]?(\.[0-9]+|{_DECIMAL}(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", float),
}


class _Loader(yaml.SafeLoader):
    """A safe loader in which a key that is given twice is an error."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
        f"{_TAG}map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,
    }

    def where(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key, where = self.construct_object(key_node, deep=True), self.where(key_node)
            if not isinstance(key, str):
                raise InputError(f"{where}: the key {key!r} is {type(key).__name__}; keys are text")
            if key in seen:
                raise InputError(f"{where}: the key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_plain(self, node: yaml.ScalarNode) -> Any:
        """Construct a number, a bool or None."""
        kind, text = node.tag.removeprefix(_TAG), node.value
        pattern, convert = _SCALARS[kind]
        if not re.match(pattern, text):
            raise InputError(f"{self.where(node)}: {text!r} is no {kind}")
        if kind == "int" and (len(text) > 20 or abs(int(text)) >= 2**63):
            shown = text if len(text) <= 30 else f"{text[:30]}..."
            problem = "it must lie between -2^63 and 2^63"
            raise InputError(f"{self.where(node)}: is {shown}; {problem}")
        return convert(text)

    def construct_text(self, node: yaml.ScalarNode) -> str:
        node.value.encode()  # raises for half a surrogate pair, which no file can hold
        return node.value

    def weigh(self, node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
        """Return (values, levels) of a node and all below it. known: of nodes met before."""
        if id(node) in known:
            weight = known[id(node)]
            if weight is None:
                raise InputError(f"{self.where(node)}: holds itself")
            return weight
        known[id(node)] = None
        parts = [] if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        values, levels = 1, 0
        for part in parts:
            below = self.weigh(part, known)
            values, levels = values + below[0], max(levels, below[1])
        known[id(node)] = values, levels + 1
        if values > MOST_VALUES:
            what = "each use of an alias counts"
            raise InputError(f"{self.name}: has more than {MOST_VALUES:,} values; {what}")
        if levels >= MOST_LEVELS:
            raise InputError(f"{self.where(node)}: is nested more than {MOST_LEVELS} levels deep")
        return values, levels + 1


for _kind, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), None)
    _Loader.add_constructor(_TAG + _kind, _Loader.construct_plain)
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), None)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)


def _parse(text: str, where: str) -> Any:
    """Parse one YAML document; raises InputError that names `where`."""
    stream = io.StringIO(text)
    stream.name = where
    try:
        loader = _Loader(stream)
        node = loader.get_single_node()
        if node is None:
            return None
        loader.weigh(node, {})
        return loader.construct_document(node)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{where}: is nested more than {MOST_LEVELS} levels deep") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in the file `path`, merged over the file that its `include:` names.

    Paths of `include` and `select` are relative to the file in which they stand; those of `select`
    are returned absolute. Raises InputError if a file cannot be read, is not YAML, holds no
    mapping, gives a key twice or includes itself, or is too large or too deep.
    """
    path = Path(path)
    chain: dict[str, dict[str, Any]] = {}
    while True:
        raw, real = _read(path), os.path.realpath(path)
        if real in chain:
            raise InputError(f"{path}: include: the file includes itself")
        included = raw.pop("include", None)
        chain[real] = raw
        if included is None:
            return functools.reduce(merge, reversed(chain.values()))
        if not isinstance(included, str):
            raise InputError(
                f"{path}: include: is {included!r}; it must be the path of one YAML file"
            )
        if len(chain) == MOST_FILES:
            raise InputError(f"{path}: include: the chain has more than {MOST_FILES} files")
        try:
            check_regular(path.parent / included, LARGEST_BYTES)
        except InputError as error:
            raise InputError(f"{path}: include: {error}") from error
        path = path.parent / included


def _read(path: Path) -> dict[str, Any]:
    """Read the mapping in one file, its `include` unresolved."""
    try:
        text = read_input(path, LARGEST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    raw = _parse(text, str(path))
    if not isinstance(raw, dict):
        raise InputError(f"{path}: holds {type(raw).__name__}; it must be a mapping")
    return _rooted(raw, path.parent)


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of `select` in the method blocks absolute."""
    methods = raw.get("methods")
    if not isinstance(methods, dict):
        return raw
    rooted = {}
    for label, block in methods.items():
        rooted[label] = _root(block, folder)
        if isinstance(block, dict) and "train" in block:
            rooted[label]["train"] = _root(block["train"], folder)
    return {**raw, "methods": rooted}


def _root(block: Any, folder: Path) -> Any:
    if not isinstance(block, dict):
        return block
    return {
        key: {**value, "select": os.path.abspath(folder / value["select"])}
        if is_reference(value) and isinstance(value["select"], str)
        else value
        for key, value in block.items()
    }


def is_reference(value: Any) -> bool:
    """Whether a value is `{select: FILE}`."""
    # If `select` is a mapping, it is a block of that name.
    return (
        isinstance(value, Mapping)
        and "select" in value
        and not isinstance(value["select"], Mapping)
    )


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `change` over `base`: mappings key by key; any other value is replaced.

    A `{select: FILE}` is one value, not a mapping.

    >>> merge({"train": {"max_steps": 9, "patience": 3}}, {"train": {"max_steps": 5}})
    {'train': {'max_steps': 5, 'patience': 3}}
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if _is_block(old) and _is_block(value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _is_block(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and not is_reference(value)


def set_key(raw: dict[str, Any], assignment: str) -> None:
    """Apply `a.b.c=value`, the value read as YAML, to nested mappings, in place.

    Raises InputError if there is no `=`, or if the key leads through a value that is no mapping.

    >>> raw = {"seeds": [0]}
    >>> set_key(raw, "train.learning_rate=3e-4")
    >>> raw
    {'seeds': [0], 'train': {'learning_rate': 0.0003}}
    """
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise InputError(f"--set {assignment}: must look like train.learning_rate=3e-4")
    if len(parts) > MOST_LEVELS:
        raise InputError(f"--set {key}: leads more than {MOST_LEVELS} levels down")
    value = _parse(text, f"--set {key}")
    for part in parts[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
        if not isinstance(raw, dict):
            raise InputError(f"--set {assignment}: {part} is {raw!r}, not a mapping")
    raw[parts[-1]] = value
