"""YAML files that may include one another; the values are plain and unchecked."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import yaml

from jiant_sparse.errors import InputError


class _Loader(yaml.SafeLoader):
    """Safe, and a key given twice is an error instead of silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            where = f"{self.name}:{key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                raise InputError(f"{where}: the key {key!r} is {type(key).__name__}; keys are text")
            if key in seen:
                raise InputError(f"{where}: the key {key!r} is given twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _parse(source: TextIO | str) -> Any:
    loader = _Loader(source)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(path: Path, _including: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The mapping in the file `path`, laid over the file that its `include:` names, if any.

    The paths of `include` and `select` are relative to the file in which they stand; those of
    `select` come out absolute. Raises InputError if a file is missing, is not YAML, holds no
    mapping, gives a key twice or includes itself.
    """
    path = Path(path)
    if path.resolve() in _including:
        raise InputError(f"{path}: include: the file includes itself")
    try:
        with open(path, encoding="utf-8") as stream:
            raw = _parse(stream)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path}: holds {type(raw).__name__}; it must be a mapping")
    raw = _rooted(raw, path.parent)
    included = raw.pop("include", None)
    if included is None:
        return raw
    if not isinstance(included, str):
        raise InputError(f"{path}: include: is {included!r}; it must be the path of one YAML file")
    return merge(read_yaml(path.parent / included, (*_including, path.resolve())), raw)


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
    try:
        value = _parse(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {assignment}: {text!r} is not a YAML value") from error
    for part in parts[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
        if not isinstance(raw, dict):
            raise InputError(f"--set {assignment}: {part} is {raw!r}, not a mapping")
    raw[parts[-1]] = value
