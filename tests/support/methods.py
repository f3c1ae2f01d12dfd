"""A method of a test's own, in the folder of methods."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jiant_sparse.methods
from jiant_sparse.config import load as config
from jiant_sparse.methods import base


@contextmanager
def method_file(folder: Path, name: str, text: str) -> Iterator[type[base.Method]]:
    """Put `<name>.py` with this text where methods are found; leave no trace."""
    path = jiant_sparse.methods.__path__
    (folder / f"{name}.py").write_text(text)
    path.append(str(folder))
    base.names.cache_clear()
    try:
        yield base.find(name)
    finally:
        path.remove(str(folder))
        base.names.cache_clear()


def configure(name: str, fields: dict) -> config.Benchmark:
    """A configuration `f.yaml` of this method alone."""
    raw = {"benchmark": "b", "model": "m", "data_dir": "d", "seeds": [0], "tasks": {"cb": {}}}
    return config.parse(raw | {"methods": {name: fields}}, "f.yaml")
