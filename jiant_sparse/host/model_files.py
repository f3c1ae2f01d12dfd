"""The files of a model directory that are read: found, bounded, checked, shown to transformers.

Whatever else lies in a directory has no influence: transformers is given a view of these files.
"""

import hashlib
import json
import os
import reprlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jiant_sparse.errors import InputError
from jiant_sparse.files import check_regular, read_input, sha256

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# jiant builds these two from their slow tokenizers; its other architectures are not tested here.
VOCABULARY = {"bert": ("vocab.txt",), "roberta": ("vocab.json", "merges.txt")}
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# The digest is over the files in this order.
FILES = (CONFIG, WEIGHTS, "vocab.txt", "vocab.json", "merges.txt", *TOKENIZER)
# 16 billion weights of 32 bits; a hundred times the text of the largest vocabulary in use.
_MOST_BYTES = {WEIGHTS: 2**36}
_MOST_TEXT_BYTES = 2**26

# A test of a field's value, and what it asks for in words.
Rule = tuple[Callable[[Any], bool], str]


def present(path: Path) -> list[str]:
    """Names of the files in the directory `path`, in the order of `FILES`.

    Raises InputError for one that is no regular file or larger than any that is in use.
    """
    found = [file for file in FILES if os.path.lexists(path / file)]
    for file in found:
        check_regular(path / file, _MOST_BYTES.get(file, _MOST_TEXT_BYTES))
    return found


def digest(path: Path) -> str:
    """SHA-256 over names and bytes of the files that decide a model: weights and tokenizer."""
    found = [file for file in FILES if (path / file).is_file()]
    return hashlib.sha256(repr([(f, sha256(path / f)) for f in found]).encode()).hexdigest()


@contextmanager
def view(path: Path, written: Mapping[str, Mapping[str, Any]]) -> Iterator[Path]:
    """A temporary directory with links to the files of `path`, some of which are written anew.

    written: objects of JSON files, by name.
    """
    with tempfile.TemporaryDirectory() as made:
        for file in present(path):
            if file not in written:
                (Path(made) / file).symlink_to((path / file).absolute())
        for file, fields in written.items():
            (Path(made) / file).write_text(json.dumps(fields), encoding="utf-8")
        yield Path(made)


def read_text(file: Path) -> str:
    """A file's text. Raises InputError unless it is a regular file of UTF-8."""
    try:
        return read_input(file, _MOST_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError for all else, and for a key given twice."""
    text = read_text(file)
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise InputError(f"{file}: not JSON: it is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{file}: holds a {type(found).__name__}; it must be an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"key {reprlib.repr(key)} is given twice")
        made[key] = value
    return made


def whole(low: int, high: int) -> Rule:
    """Whole numbers from low to high."""
    words = f"a whole number in [{low}, {high}]"
    return lambda value: type(value) is int and low <= value <= high, words


def number(low: float, high: float) -> Rule:
    """Numbers from low to high."""
    words = f"a number in [{low}, {high}]"
    return lambda value: type(value) in (int, float) and low <= value <= high, words


def one_of(*values: Any) -> Rule:
    """These values alone; 0 is not False."""
    words = " or ".join(map(repr, values))
    return lambda value: any(type(value) is type(v) and value == v for v in values), words


def wrong(where: object, fields: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    """A line for each field that breaks its rule; what is absent breaks none."""
    return [
        f"{where}: {key} is {reprlib.repr(fields[key])}; it must be {words}"
        for key, (test, words) in rules.items()
        if key in fields and not test(fields[key])
    ]
