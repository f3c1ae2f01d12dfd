"""The plan of a benchmark on disk: what is not one is named, whatever it holds."""

import json

import pytest
from support.documents import MANIFEST
from support.refusals import refusal

from jiant_sparse.schema import manifest
from jiant_sparse.schema.manifest import Manifest


def read(directory, text):
    (directory / manifest.FILE_NAME).write_text(text)
    found = refusal(Manifest.read, directory)
    assert str(directory / manifest.FILE_NAME) in found
    return found


def test_goes_round(tmp_path):
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST


@pytest.mark.parametrize(("field", "label"), [("task", "a/b"), ("method", "x" * 256)])
def test_a_label_that_names_no_folder_is_refused(tmp_path, field, label):
    raw = MANIFEST.model_dump()
    raw["cells"][0][field] = raw[f"{field}s"][0] = label
    assert f"cells.0.{field}: is {label[:50]!r}"[:-1] in read(tmp_path, json.dumps(raw))


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        ("-1", "cells.0.seed: Input should be greater than or equal to 0"),
        (str(2**63), "cells.0.seed: Input should be less than 9223372036854775808"),
        ('"1"', "cells.0.seed: Input should be a valid integer"),
    ],
)
def test_a_seed_is_one_that_a_configuration_can_have(tmp_path, seed, expected):
    text = MANIFEST.model_dump_json().replace('"seed":3', f'"seed":{seed}')
    assert expected in read(tmp_path, text)
