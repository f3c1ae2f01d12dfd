"""The files of a model directory: which are read, how, and the rules that check their fields.

Nothing else in a directory has influence: transformers sees a view with these files alone.
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
# jiant builds these two with slow tokenizers. Its other architectures are not tested here.
VOCABULARY = {"bert": ("vocab.txt",), "roberta": ("vocab.json", "merges.txt")}
TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# The digest goes over the files in this order.
FILES = (CONFIG, WEIGHTS, "vocab.txt", "vocab.json", "merges.txt", *TOKENIZER)
# 16 billion weights of 32 bits; a hundred times the largest vocabulary file in use.
_MOST_BYTES = {WEIGHTS: 2**36}
_MOST_TEXT_BYTES = 2**26

# A test of a field's value, and the allowed values in words.
Rule = tuple[Callable[[Any], bool], str]


def present(path: Path) -> list[str]:
    """The files of FILES that are in the directory `path`, in that order.

    Raises InputError for one that is not a regular file, or larger than any in use.
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
    """A temporary directory with links to the files of `path`, except for new JSON files.

    written: the objects to write, by file name.
    """
    with tempfile.TemporaryDirectory() as made:
        for file in present(path):
            if file not in written:
                (Path(made) / file).symlink_to((path / file).absolute())
        for file, fields in written.items():
            (Path(made) / file).write_text(json.dumps(fields), encoding="utf-8")
        yield Path(made)


def read_text(file: Path) -> str:
    """A file's text. Raises InputError unless it is a regular file in UTF-8."""
    try:
        return read_input(file, _MOST_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8: {error}") from error


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises InputError for another value, and for a repeated key."""
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
    """A whole number from low to high; no boolean."""
    words = f"a whole number in [{low}, {high}]"
    return lambda value: type(value) is int and low <= value <= high, words


def number(low: float, high: float) -> Rule:
    """A number from low to high; no boolean."""
    words = f"a number in [{low}, {high}]"
    return lambda value: type(value) in (int, float) and low <= value <= high, words


def one_of(*values: Any) -> Rule:
    """One of these values, compared by type too: 0 is not False."""
    words = " or ".join(map(repr, values))
    return lambda value: any(type(value) is type(v) and value == v for v in values), words


def wrong(where: object, fields: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    """A line for each field that breaks its rule; an absent field breaks none.

    >>> wrong("config.json", {"layers": 0, "name": "x"}, {"layers": whole(1, 9)})
    ['config.json: layers is 0; it must be a whole number in [1, 9]']
    """
    return [
        f"{where}: {key} is {reprlib.repr(fields[key])}; it must be {words}"
        for key, (test, words) in rules.items()
        if key in fields and not test(fields[key])
    ]
