"""The plan of a benchmark on disk: what is not one is named, whatever it holds."""

import json
import os

import pytest
from support.documents import MANIFEST

from jiant_sparse.errors import InputError
from jiant_sparse.schema import document, manifest
from jiant_sparse.schema.manifest import Manifest


def read(directory, text):
    (directory / manifest.FILE_NAME).write_text(text)
    with pytest.raises(InputError) as caught:
        Manifest.read(directory)
    assert str(directory / manifest.FILE_NAME) in str(caught.value)
    return str(caught.value)


def test_goes_round(tmp_path):
    MANIFEST.write(tmp_path)
    assert Manifest.read(tmp_path) == MANIFEST


@pytest.mark.parametrize("label", ["a\0b", "a/b", "..", ".", "", "x" * 256])
@pytest.mark.parametrize("field", ["task", "method"])
def test_a_label_that_names_no_folder_is_refused(tmp_path, field, label):
    raw = MANIFEST.model_dump()
    raw["cells"][0][field] = raw[f"{field}s"][0] = label
    assert f"cells.0.{field}: is {label[:50]!r}"[:-1] in read(tmp_path, json.dumps(raw))


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        ("-1", "cells.0.seed: Input should be greater than or equal to 0"),
        (str(2**63), "cells.0.seed: Input should be less than 9223372036854775808"),
        ("9" * 5000, "file: Invalid JSON: number out of range"),
        ("1.0", "cells.0.seed: Input should be a valid integer"),
        ("true", "cells.0.seed: Input should be a valid integer"),
    ],
)
def test_a_seed_is_one_that_a_configuration_can_have(tmp_path, seed, expected):
    text = MANIFEST.model_dump_json().replace('"seed":3', f'"seed":{seed}')
    assert expected in read(tmp_path, text)


def test_other_files_are_refused_before_they_are_opened(tmp_path):
    path = tmp_path / manifest.FILE_NAME
    os.mkfifo(path)
    with pytest.raises(InputError, match="benchmark.json: is not a regular file"):
        Manifest.read(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="benchmark.json: is not a regular file"):
        Manifest.read(tmp_path)
    path.unlink()
    with open(path, "wb") as stream:
        stream.truncate(document.LARGEST_BYTES + 1)
    with pytest.raises(InputError, match="has 50,000,001 bytes; at most 50,000,000 are read"):
        Manifest.read(tmp_path)
