"""jiant made to run, and left as it was."""

import importlib.metadata

import pytest
from support.refusals import refusal

from jiant_sparse.host import compat


@pytest.mark.parametrize("version", [None, "2.1.4"])
def test_a_missing_or_wrong_jiant_is_one_error_with_the_mending_command(monkeypatch, version):
    def find(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)
    assert refusal(compat.require_jiant) == (
        f"jiant is {version or 'not installed'}; it must be 2.2.0. "
        "Run: pip install --no-deps jiant==2.2.0"
    )


def test_the_shim_ends_with_its_block():
    from jiant.tasks.lib import copa

    def fields():
        return list(copa.CopaTask.Batch.get_annotations())

    assert fields() == []
    with compat.shims():
        assert "input_ids" in fields()
    assert fields() == []
