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


@dataclass(frozen=True)
class SparseConfig:
    """Settings of a sparse fine-tuning, checked when they are made.

    method: a key of `jiant_sparse.methods`, such as random, sam or bitfit.
    density: fraction of the targeted weights that trains; None = the method's default.
    scope: `global` or `per_tensor`; None = the method's default.
    target_modules: which weights are eligible, by names of modules or of tensors:
        - None: every weight of a transformers model without its head, or of another model;
        - "all-linear": weights and biases of the linear layers there;
        - a list of full names or ends of names, such as ["query", "value.bias"];
        - other text: a regular expression that has to match a full name.
        The name of a module stands for every tensor in it.
    exclude_modules: what of these is not eligible after all, as a list or regular expression.
    modules_to_save: names, or ends of names, of modules that train whole and are saved whole; None
        = the head of a transformers model for classification, multiple choice or question
        answering.
    seed: of every random draw.
    values_dtype: "float32" trains chosen entries of a bfloat16 or float16 model in float32; None
        trains them in the model's dtype.
    method_kwargs: further fields of the method.

    Raises InputError for a wrong value, and for a field that the method does not have.
    """

    method: str
    density: Density | None = None
    scope: Scope | None = None
    target_modules: str | list[str] | None = None
    exclude_modules: str | list[str] | None = None
    modules_to_save: list[str] | None = None
    seed: Annotated[int, Ge(0)] = 0
    values_dtype: Literal["float32"] | None = "float32"
    method_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        good, wrong = fields.check(SparseConfig, vars(self))
        if wrong:
            raise InputError(*(f"SparseConfig.{name} {text}" for name, text in wrong.items()))
        vars(self).update(good)
        self.make_method()

    def make_method(self) -> base.Method:
        """A new instance of the method. Raises InputError as the class does."""
        kind, given = base.find(self.method), dict(self.method_kwargs)
        for name in ("density", "scope"):
            value = getattr(self, name)
            if value is None:
                continue
            if name not in fields.of(kind):
                raise InputError(
                    f"SparseConfig.{name} is {shown(value)}; {self.method} has no {name}: leave "
                    "it out"
                )
            if name in given:
                raise InputError(f"SparseConfig.{name} stands in method_kwargs too; give it once")
            given[name] = value
        for name in given:
            if name not in fields.of(kind):
                known = suggest(name, fields.of(kind)) if fields.of(kind) else "it has no fields"
                raise InputError(f"method_kwargs: {self.method} has no field {name!r}; {known}")
        return kind(**given)

    def to_dict(self) -> dict[str, Any]:
        """All fields and the format's version, as JSON values."""
        return {"version": VERSION, **vars(self)}

    @classmethod
    def from_dict(cls, values: object) -> "SparseConfig":
        """Read what `to_dict` gave.

        Raises InputError for a newer version, an unknown key, and as the class does.
        """
        if not isinstance(values, Mapping):
            raise InputError(f"a SparseConfig is {shown(values)}; it must be a mapping")
        given = dict(values)
        version = given.pop("version", None)
        if type(version) is not int or not 1 <= version <= VERSION:
            raise InputError(
                f"the SparseConfig has version {shown(version)}; this program reads versions 1 to "
                f"{VERSION}: a newer one needs a newer jiant_sparse"
            )
        for name in given:
            if name not in fields.of(cls):
                raise InputError(
                    f"the SparseConfig has an unknown key {shown(name)}; "
                    f"{suggest(name, fields.of(cls))}"
                )
        if "method" not in given:
            raise InputError("the SparseConfig has no method")
        return cls(**given)

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> "SparseConfig":
        """The settings of a saved delta. Raises InputError for a file that is damaged."""
        return cls.from_dict(read_file(Path(directory)).get("sparse"))


def read_file(directory: Path) -> dict[str, Any]:
    """The content of sparse_config.json. Raises InputError, naming the file."""
    path = directory / FILE
    try:
        found = json.loads(files.read_input(path, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: is {shown(found)}; it must be a mapping")
    return found
