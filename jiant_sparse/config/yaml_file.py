"""YAML files that may include one another; the values are plain and unchecked.

Numbers are decimal (`5`, `-0.5`, `1e-4`), `true` and `false` are truth, `null` and `~` are nothing.
Every other plain scalar is text, also where YAML 1.1 sees a number or a date: `010`, `0x1f`,
`1_000`, `1:30`, `yes`, `2024-01-31`.
"""

import functools
import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_regular, read_input

LARGEST_BYTES = 300_000
MOST_VALUES = 100_000
"""In one file; what an alias repeats counts each time."""
MOST_LEVELS = 30
MOST_FILES = 30
"""In one chain of `include`."""

_TAG = "tag:yaml.org,2002:"
_DECIMAL = r"(0|[1-9][0-9]*)"
_SCALARS = {
    "null": (r"(~|null|Null|NULL|)\Z", lambda text: None),
    "bool": (r"(true|True|TRUE|false|False|FALSE)\Z", lambda text: text.lower() == "true"),
    "int": (rf"[-+]?{_DECIMAL}\Z", int),
    "float": (rf"[-+]?(\.[0-9]+|{_DECIMAL}(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z", float),
}


class _Loader(yaml.SafeLoader):
    """Safe, and a key given twice is an error instead of silently the last one."""

    yaml_implicit_resolvers: dict = {}
    yaml_constructors: dict = {}

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
        """A number, a truth value or None."""
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
        node.value.encode()  # half a character cannot be written anywhere
        return node.value

    def weigh(self, node: yaml.Node, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
        """(values, levels) of a node and all below; known: of the nodes that were met before."""
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
            what = "what an alias repeats counts each time"
            raise InputError(f"{self.name}: has more than {MOST_VALUES:,} values; {what}")
        if levels >= MOST_LEVELS:
            raise InputError(f"{self.where(node)}: is nested more than {MOST_LEVELS} levels deep")
        return values, levels + 1


for _kind, (_pattern, _) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), None)
    _Loader.add_constructor(_TAG + _kind, _Loader.construct_plain)
_Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"<<\Z"), None)
_Loader.add_constructor(f"{_TAG}str", _Loader.construct_text)
_Loader.add_constructor(f"{_TAG}seq", _Loader.construct_yaml_seq)
_Loader.add_constructor(f"{_TAG}map", _Loader.construct_yaml_map)
_Loader.add_constructor(None, _Loader.construct_undefined)


def _parse(text: str, where: str) -> Any:
    """The value of one YAML document; raises InputError naming `where`."""
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
    """The mapping in the file `path`, laid over the file that its `include:` names, if any.

    The paths of `include` and `select` are relative to the file in which they stand; those of
    `select` come out absolute. Raises InputError if a file cannot be read, is not YAML, holds no
    mapping, gives a key twice or includes itself, or is larger or deeper than any that is meant.
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
    """The mapping in one file, `include` still in it."""
    try:
        text = read_input(path, LARGEST_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    raw = _parse(text, str(path))
    if not isinstance(raw, dict):
        raise InputError(f"{path}: holds {type(raw).__name__}; it must be a mapping")
    return _rooted(raw, path.parent)


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The references of the method blocks made absolute."""
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
    """Whether a value is `{select: FILE}`: chosen by the experiment in that file."""
    # A mapping below `select` is a block of that name.
    return (
        isinstance(value, Mapping)
        and "select" in value
        and not isinstance(value["select"], Mapping)
    )


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the fields of `change`; mappings are merged key by key, all else is replaced.

    A reference is one value: it replaces, and is replaced, as a whole.
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        both = both and not is_reference(old) and not is_reference(value)
        merged[key] = merge(old, value) if both else value
    return merged


def set_key(raw: dict[str, Any], assignment: str) -> None:
    """Apply `a.b.c=value`, the value read as YAML, to nested mappings, in place.

    Raises InputError if the assignment has no `=`, or if it leads through something that is not a
    mapping.
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
