"""The JSON header of a delta's file: versions, fields, and a digest over all of it."""

import hashlib
import json
import reprlib
from collections.abc import Mapping
from typing import Any

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import rounding

FORMAT_VERSION = 3
# Headers of version 2 are read as well; they have no digest.
_READ = (FORMAT_VERSION, 2)
_MAPPINGS = ("changed", "codes", "rounded", "base", "meta", "stored")


def write(fields: Mapping[str, Any]) -> str:
    """The text of a header with these fields: `values` and the names-to-texts mappings."""
    header = {"format_version": FORMAT_VERSION, **fields}
    return json.dumps({**header, "digest": digest(header)})


def parse(text: str) -> dict[str, Any]:
    """The fields of a header. Raises InputError if it is damaged or of another version."""
    try:
        header = json.loads(text)
        expected = digest(header) if isinstance(header, dict) else None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the header is not JSON: {error}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version not in _READ:
        allowed = " or ".join(map(str, _READ))
        raise InputError(f"format version is {reprlib.repr(version)}; it must be {allowed}")
    if header.get("digest") != (expected if version == FORMAT_VERSION else None):
        raise InputError("the header is damaged: its digest does not match")
    for field in _MAPPINGS:
        value = header.get(field)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            got = reprlib.repr(value)
            raise InputError(f"header field {field!r} is {got}; it must map names to texts")
    rounding.check_name(header.get("values"))
    return header


def digest(header: Mapping[str, Any]) -> str:
    """SHA-256, in hex, over all fields but `digest`, written in one way."""
    fields = {key: value for key, value in header.items() if key != "digest"}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
