"""SparseConfig: what is tuned, by which method. Written beside every saved delta."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge

from jiant_sparse import files
from jiant_sparse.errors import InputError, shown, suggest
from jiant_sparse.methods import base, fields
from jiant_sparse.methods.fields import Density, Scope

VERSION = 1
"""Raised when a field changes its meaning, or when a new one may not be ignored."""
FILE = "sparse_config.json"
_MOST_BYTES = 2**24  # of the file

Names = str | list[str]
"""Modules or tensors: a list of full names or ends of names, such as ["query", "value.bias"]; or a
regular expression that has to match a full name. A module stands for every tensor in it."""


@dataclass(frozen=True)
class SparseConfig:
    """Settings of a sparse fine-tuning, checked when they are made.

    method: a key of `jiant_sparse.methods`, such as random, sam or bitfit.
    density: fraction of the targeted weights that trains. scope: `global` or `per_tensor`. None =
        the method's default.
    target_modules: the eligible weights. None = every weight of a transformers model without its
        head, or of another model; "all-linear" = weights and biases of the linear layers there.
    exclude_modules: weights that are not eligible after all.
    modules_to_save: modules that train whole and are saved whole. None = the head of a transformers
        model for classification, multiple choice or question answering.
    seed: of every random draw.
    values_dtype: "float32" trains chosen entries of a 16-bit model in float32; None, in its dtype.
    method_kwargs: further fields of the method.

    Raises InputError for a wrong value, and for a field that the method does not have.
    """

    method: str
    density: Density | None = None
    scope: Scope | None = None
    target_modules: Names | None = None
    exclude_modules: Names | None = None
    modules_to_save: list[str] | None = None
    seed: Annotated[int, Ge(0)] = 0
    values_dtype: Literal["float32"] | None = "float32"
    method_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good, wrong = fields.check(SparseConfig, vars(self))
        if wrong:
            raise InputError(*(f"SparseConfig: {name} {text}" for name, text in wrong.items()))
        vars(self).update(good)
        self.make_method()

    def make_method(self) -> base.Method:
        """A new instance of the method. Raises InputError for fields that do not fit."""
        kind, own = base.find(self.method), {"density": self.density, "scope": self.scope}
        given = {name: value for name, value in own.items() if value is not None}
        if twice := given.keys() & self.method_kwargs:
            raise InputError(f"SparseConfig: {min(twice)} stands in method_kwargs too")
        for name in given | self.method_kwargs:
            if name not in fields.of(kind):
                known = suggest(name, fields.of(kind)) if fields.of(kind) else "leave it out"
                raise InputError(f"SparseConfig: {self.method} has no field {name!r}; {known}")
        return kind(**given, **self.method_kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the format's version, as JSON values."""
        return {"version": VERSION, **vars(self)}

    @classmethod
    def from_dict(cls, values: object) -> "SparseConfig":
        """Read what `to_dict` gave. Raises InputError for a newer version or an unknown key."""
        if not isinstance(values, Mapping) or "method" not in values:
            raise InputError(f"a SparseConfig is {shown(values)}; it must be a mapping with method")
        given = dict(values)
        version = given.pop("version", None)
        if type(version) is not int or not 1 <= version <= VERSION:
            raise InputError(
                f"the SparseConfig has version {shown(version)}; it must be {VERSION}: a newer "
                "version needs a newer jiant_sparse"
            )
        for name in given:
            if name not in fields.of(cls):
                known = suggest(name, fields.of(cls))
                raise InputError(f"the SparseConfig has the unknown key {shown(name)}; {known}")
        return cls(**given)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "SparseConfig":
        """The settings of a saved delta. Raises InputError for a file that is damaged."""
        return read_file(Path(directory))[0]


def read_file(directory: Path) -> tuple[SparseConfig, dict[str, Any]]:
    """The settings in sparse_config.json, and all of it. Raises InputError, naming the file."""
    path = directory / FILE
    found = read_mapping(path)
    try:
        return SparseConfig.from_dict(found.get("sparse")), found
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """A JSON file that holds a mapping. Raises InputError, naming the file."""
    text = files.read_input(path, _MOST_BYTES)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is {shown(found)}; it must be a mapping")
    return found
