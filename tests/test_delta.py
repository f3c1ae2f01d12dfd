"""A delta gives back the tuned model bit for bit, or says why it cannot."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.models import file_sizes_up_to
from typer.testing import CliRunner

from jiant_sparse.cli import app
from jiant_sparse.errors import InputError
from jiant_sparse.sparse import delta as module
from jiant_sparse.sparse.delta import apply, changed, extract, fingerprint, load, rounded, save
from jiant_sparse.sparse.delta_diff import DiffRow, diff

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.uint8, torch.bool)


def raw(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist()


def assert_bit_equal(got, expected):
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert got[name].shape == tensor.shape
        assert raw(got[name]) == raw(tensor)


def through_file(delta, path):
    save(delta, path)
    return load(path)


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[module._HEADER])


def refusal(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    return str(error.value)


def cli(*arguments):
    return CliRunner().invoke(app, ["delta", *map(str, arguments)])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "delta.safetensors"


@pytest.fixture
def base():
    generator = torch.Generator().manual_seed(0)
    return {
        "embed.weight": torch.randn(6, 4, generator=generator),
        "layer.weight": torch.randn(5, generator=generator).bfloat16(),
        "layer.bias": torch.zeros(3),
    }


@pytest.fixture
def tuned(base):
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    tuned["embed.weight"].view(-1)[[2, 3, 23]] += 1
    tuned["layer.weight"][4] = 7
    tuned["head.weight"] = torch.ones(2, 2)
    return tuned


def test_round_trip_through_a_file(base, tuned, tmp_path):
    delta = extract(base, tuned, {"method": "SAM", "benchmark": "größer"})
    assert list(delta.entries) == ["embed.weight", "layer.weight"]
    index, values = delta.entries["embed.weight"]
    assert (index.dtype, index.tolist()) == (torch.int64, [2, 3, 23])
    assert torch.equal(values, tuned["embed.weight"].view(-1)[index])
    assert (list(delta.new), delta.base, changed(delta)) == (["head.weight"], fingerprint(base), 4)
    path = tmp_path / "deep" / "delta.safetensors"
    assert save(delta, path) == path.stat().st_size
    written = path.read_bytes()
    loaded = load(path)
    assert_bit_equal(apply(loaded, base), tuned)
    assert (loaded.base, loaded.meta) == (delta.base, delta.meta)
    save(extract(base, tuned, delta.meta), path)
    assert path.read_bytes() == written, "equal deltas are equal files"
    assert [entry.name for entry in path.parent.iterdir()] == ["delta.safetensors"]


@st.composite
def models(draw):
    """A base, and a tuned model with arbitrary bytes in a few of its entries, or in none."""
    base, tuned = {}, {}
    for _ in range(draw(st.integers(0, 4))):
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.sampled_from([(), (0,), (1,), (3,), (2, 3), (4, 1, 2)]))
        size = torch.Size(shape).numel() * dtype.itemsize
        before = draw(st.binary(min_size=size, max_size=size))
        after = draw(st.one_of(st.just(before), st.binary(min_size=size, max_size=size)))
        name = draw(st.sampled_from(["w", "w.index", "w.value", "w.index.value", "a b", "é"]))
        for model, content in ((base, before), (tuned, after)):
            flat = torch.tensor(list(content), dtype=torch.uint8)
            model[name] = (flat % 2 if dtype is torch.bool else flat).view(dtype).view(shape)
        if draw(st.booleans()):
            tuned["w+"] = torch.ones(2)
    for name in draw(st.lists(st.sampled_from(["w.index", "w.value", "w+.index", "head"]))):
        if name not in base:
            tuned[name] = torch.arange(3)
    return base, tuned


@settings(max_examples=150, deadline=None)
@given(pair=models())
def test_any_bytes_and_names_survive(pair, tmp_path_factory):
    base, tuned = pair
    path = tmp_path_factory.mktemp("delta") / "delta.safetensors"
    delta = through_file(extract(base, tuned), path)
    assert_bit_equal(apply(delta, base), tuned)
    differ = {name for name, old in base.items() if raw(old) != raw(tuned[name])}
    assert delta.entries.keys() == differ


def test_nothing_is_shared_with_the_models(base, tuned):
    delta = extract(base, tuned)
    expected = {name: tensor.clone() for name, tensor in tuned.items()}
    for tensor in tuned.values():
        tensor.zero_()
    first = apply(delta, base)
    assert_bit_equal(first, expected)
    assert first["layer.bias"] is base["layer.bias"]
    for name in ("embed.weight", "layer.weight", "head.weight"):
        first[name].zero_()
    assert_bit_equal(apply(delta, base), expected)


def test_parameters_views_and_tied_tensors(path):
    whole = torch.arange(12.0).view(3, 4)
    base = {"w": torch.nn.Parameter(whole.t())}
    tied = torch.ones(3)
    tuned = {"w": (whole + (whole == 5)).t(), "head": tied, "tied": tied, "part": whole[:, 1]}
    delta = extract(base, tuned)
    assert_bit_equal(apply(through_file(delta, path), base), tuned)
    shared = replace(delta, new={"head": tied, "tied": tied[:2], "part": whole[:, 1]})
    assert_bit_equal(through_file(shared, path).new, shared.new)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_apply_leaves_tensors_on_their_device(base, tuned):
    there = {name: tensor.cuda() for name, tensor in base.items()}
    applied = apply(extract(base, tuned), there)
    assert all(applied[name].is_cuda for name in base)
    assert_bit_equal(applied, tuned)
    assert_bit_equal(there, base)


def test_the_file_is_as_documented(base, tuned, path):
    save(extract(base, tuned), path)
    stored = load_file(path)
    parts = [f"{name}.weight.{part}" for name in ("embed", "layer") for part in ("index", "value")]
    assert set(stored) == {*parts, "head.weight"}
    # Bits 2, 3 and 23 of three bytes, the lowest first.
    assert stored["embed.weight.index"].tolist() == [0b00001100, 0, 0b10000000]
    assert stored["layer.weight.value"].dtype == torch.bfloat16
    header = header_of(path)
    assert list(header) == [
        "format_version", "values", "changed", "codes", "rounded", "base", "meta", "stored",
        "digest",
    ]  # fmt: skip
    assert (header["format_version"], header["values"], header["rounded"]) == (3, "exact", {})
    assert header["changed"] == {"embed.weight": "embed.weight", "layer.weight": "layer.weight"}
    assert header["codes"] == {"embed.weight": "bits", "layer.weight": "bits"}


@pytest.mark.parametrize(
    ("stride", "code"), [(3, "bits"), (100, "gaps8"), (1000, "gaps16"), (200_000, "int32")]
)
def test_every_code_goes_through_a_file(stride, code, path):
    base, tuned = ({"w": torch.zeros(400_000)} for _ in range(2))
    tuned["w"][stride - 1 :: stride] = 1
    assert_bit_equal(apply(through_file(extract(base, tuned), path), base), tuned)
    assert header_of(path)["codes"] == {"w": code}


def test_a_delta_of_half_a_percent_takes_less_than_three_quarters_of_a_percent(path):
    generator = torch.Generator().manual_seed(0)
    base, tuned = torch.randn(1_400_000, generator=generator), torch.zeros(1_400_000)
    tuned[torch.randperm(1_400_000, generator=generator)[:7000]] = 1
    delta = extract({"w": base}, {"w": base + tuned})
    assert 0.0067 < save(delta, path) / (4 * 1_400_000) < 0.0070
    assert 0.0042 < save(rounded(delta, "float16"), path) / (4 * 1_400_000) < 0.0045


def test_fingerprint_tells_dtype_shape_and_bits_apart():
    tensors = {
        "zero": torch.zeros(4),
        "negative": -torch.zeros(4),
        "shape": torch.zeros(2, 2),
        "dtype": torch.zeros(4, dtype=torch.int32),
        "half": torch.zeros(8, dtype=torch.float16),
        "empty": torch.zeros(0),
    }
    assert len(set(fingerprint(tensors).values())) == len(tensors)
    matrix = torch.arange(6.0).view(2, 3)
    assert fingerprint({"w": matrix.t()}) == fingerprint({"w": matrix.t().contiguous()})


# --- rounding


ROUNDINGS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_rounded_delta_says_so_and_is_the_same_in_memory_and_on_disk(rounding, base, tuned, path):
    base |= {"wide": torch.zeros(3, dtype=torch.float64), "count": torch.zeros(2).long()}
    tuned |= {"wide": torch.full((3,), 0.1).double(), "count": torch.tensor([0, 2**40 + 1])}
    tuned["head.weight"] = torch.full((2, 2), 0.1)
    exact = extract(base, tuned, {"method": "SAM"})
    lossy = rounded(exact, rounding)
    loaded = through_file(lossy, path)
    assert exact.values == "exact"
    for delta in (lossy, loaded):
        assert (delta.values, delta.base, delta.meta) == (rounding, exact.base, exact.meta)
        for name, (index, values) in exact.entries.items():
            narrow = ROUNDINGS[rounding] if name in ("embed.weight", "wide") else values.dtype
            assert torch.equal(delta.entries[name][0], index)
            assert_bit_equal({0: delta.entries[name][1]}, {0: values.to(narrow).to(values.dtype)})
    assert raw(loaded.entries["wide"][1]) != raw(exact.entries["wide"][1])
    assert_bit_equal(loaded.new, exact.new)
    assert_bit_equal(apply(loaded, base), apply(lossy, base))
    assert header_of(path)["rounded"] == {"embed.weight": "float32", "wide": "float64"}
    assert load_file(path)["wide.value"].dtype == ROUNDINGS[rounding]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rounded_value_survives_a_file(rounding, dtype, path):
    every = torch.arange(1, 2**16, dtype=torch.int32).to(torch.int16).view(ROUNDINGS[rounding])
    exact = extract({"w": torch.zeros(len(every), dtype=dtype)}, {"w": every.to(dtype)})
    lossy = rounded(exact, rounding)
    values, old = lossy.entries["w"][1], exact.entries["w"][1]
    assert raw(through_file(lossy, path).entries["w"][1]) == raw(values)
    assert raw(values[~old.isnan()]) == raw(old[~old.isnan()])
    # torch's own casts make one NaN or another of them.
    assert values.isnan().equal(old.isnan())
    assert len({tuple(raw(value)) for value in values[old.isnan()]}) == 1


@pytest.mark.parametrize(
    ("value", "dtype", "rounding", "found"),
    [
        (-float("inf"), torch.float32, "float16", -float("inf")),
        (65504.0, torch.float32, "float16", 65504.0),
        (70000.0, torch.float32, "float16", "values of w: 70000 is too large for float16"),
        (70000.0, torch.float32, "bfloat16", 70144.0),
        (-3.4e38, torch.float32, "bfloat16", "values of w: -3.4e+38 is too large for bfloat16"),
        (1e300, torch.float64, "bfloat16", "values of w: 1e+300 is too large for bfloat16"),
        (70000, torch.int64, "float16", 70000),
    ],
)
def test_infinities_stay_and_finite_values_may_not_become_infinite(value, dtype, rounding, found):
    delta = extract({"w": torch.zeros(1, dtype=dtype)}, {"w": torch.tensor([value], dtype=dtype)})
    if isinstance(found, str):
        assert refusal(rounded, delta, rounding) == found
    else:
        assert rounded(delta, rounding).entries["w"][1].tolist() == [found]


def test_only_an_exact_delta_can_be_rounded_and_only_so(base, tuned):
    delta = extract(base, tuned)
    for values in ("int8", "exact"):
        message = f"values are to be '{values}'; they must be one of bfloat16, float16"
        assert refusal(rounded, delta, values) == message
    message = "values are bfloat16 already; only exact ones can be rounded"
    assert refusal(rounded, rounded(delta, "bfloat16"), "float16") == message


# --- refusals


def test_extract_names_the_tensor_that_does_not_fit(base, tuned):
    lacking = {name: tensor for name, tensor in tuned.items() if name != "layer.bias"}
    assert refusal(extract, base, lacking) == "tuned model lacks layer.bias, which the base has"
    for other, form in ((torch.zeros(4), "float32 [4]"), (torch.zeros(3).half(), "float16 [3]")):
        message = f"tuned layer.bias is {form}; in the base it is float32 [3]"
        assert refusal(extract, base, tuned | {"layer.bias": other}) == message


def test_apply_names_the_first_tensor_that_differs(base, tuned):
    delta = extract(base, tuned)
    other = base | {"layer.weight": base["layer.weight"] + 1, "layer.bias": -base["layer.bias"]}
    differs = "base is not the delta's base: {} is the first tensor to differ"
    assert refusal(apply, delta, other) == differs.format("layer.weight")
    assert refusal(apply, delta, dict(reversed(other.items()))) == differs.format("layer.bias")
    reshaped = base | {"layer.bias": torch.zeros(3, 1)}
    assert refusal(apply, delta, reshaped) == differs.format("layer.bias")
    lacking = {name: tensor for name, tensor in base.items() if name != "layer.bias"}
    message = "base lacks layer.bias, which the delta's base has"
    assert refusal(apply, delta, lacking) == message
    message = "base has head.weight, which the delta's base has not"
    assert refusal(apply, delta, base | {"head.weight": torch.ones(1)}) == message
    for at, dtype in ((5, torch.bfloat16), (0, torch.float32)):
        entries = {"layer.weight": (torch.tensor([at]), torch.ones(1, dtype=dtype))}
        got = f"{str(dtype).removeprefix('torch.')} [1] up to position {at}"
        message = f"delta of layer.weight is {got}; the base has bfloat16 [5]"
        assert refusal(apply, replace(delta, entries=entries), base) == message


def entry(index, values, name="layer.weight"):
    return {"entries": {name: (torch.as_tensor(index), values)}}


MALFORMED = [
    (
        entry(torch.zeros(1).int(), torch.ones(1)),
        "index of layer.weight is int32 [1]; it must be int64 [k], k >= 1",
    ),
    (
        entry(torch.arange(0), torch.ones(0)),
        "index of layer.weight is int64 [0]; it must be int64 [k], k >= 1",
    ),
    (
        entry([[0]], torch.ones(1, 1)),
        "index of layer.weight is int64 [1, 1]; it must be int64 [k], k >= 1",
    ),
    (entry([0, 1], torch.ones(3)), "layer.weight has float32 [3] values for 2 positions"),
    (entry([1, 1], torch.ones(2)), "index of layer.weight is not ascending from 0 or later"),
    (entry([-1, 1], torch.ones(2)), "index of layer.weight is not ascending from 0 or later"),
    (
        entry([0], torch.ones(1, dtype=torch.complex64)),
        "values of layer.weight are complex64 [1]; they must be real",
    ),
    (
        entry([0], torch.tensor([0.1])) | {"values": "float16"},
        "values of layer.weight: not all are float16, as the delta says",
    ),
    ({"values": "int8"}, "values are 'int8'; they must be one of exact, bfloat16, float16"),
    (
        entry([0], torch.ones(1), name="other"),
        "the delta changes other, which its base does not have",
    ),
    (
        {"new": {"layer.bias": torch.ones(1)}},
        "layer.bias cannot be new: the delta's base has it",
    ),
    ({"meta": {"seed": 3}}, "meta seed is 3; it must be text"),
]


@pytest.mark.parametrize(("fields", "message"), MALFORMED)
def test_save_refuses_a_malformed_delta_and_leaves_nothing(fields, message, base, path):
    assert refusal(save, replace(extract(base, base), **fields), path) == message
    assert not path.parent.exists() or not [*path.parent.iterdir()]


DIGEST = "is missing, foreign or damaged: its digest does not match"
NOT_TEXTS = "it must map names to texts"
DAMAGED = "the header is damaged: its digest does not match"
# Changes of the header and of the tensors (None deletes), and the message. "stored" digests become
# true, and the header's does unless it is "old". tests/test_fuzz_models.py changes everything.
DAMAGES = [
    ({}, {"embed.weight.value": torch.ones(3)}, f"embed.weight.value {DIGEST}"),
    ({}, {"layer.weight.value": None}, f"layer.weight.value {DIGEST}"),
    ({}, {"spy": torch.ones(1)}, f"spy {DIGEST}"),
    (
        {"stored": True},
        {"layer.weight.value": None},
        "'layer.weight.value' is missing, though the header names it",
    ),
    ({"format_version": 1}, {}, "format version is 1; it must be 3 or 2"),
    ({"format_version": 2}, {}, DAMAGED),
    (
        {"format_version": [[0] * 100]},
        {},
        "format version is [[0, 0, 0, 0, 0, 0, ...]]; it must be 3 or 2",
    ),
    ({"digest": None}, {}, DAMAGED),
    ({"digest": "old", "meta": {"settings": "16"}}, {}, DAMAGED),
    ({"digest": "old", "base": {"layer.bias": "0"}}, {}, DAMAGED),
    ({"digest": "old", "more": 1}, {}, DAMAGED),
    (
        {"codes": {"layer.weight": "bits"}},
        {},
        "index of embed.weight: code is None; it must be one of bits, gaps8, gaps16, int32, int64",
    ),
    (
        {"codes": {"embed.weight": "int32", "layer.weight": "bits"}, "stored": True},
        {"embed.weight.index": torch.tensor([23, 3, 2], dtype=torch.int32)},
        "index of embed.weight is not ascending from 0 or later",
    ),
    (
        {"rounded": {"layer.weight": "float32"}},
        {},
        "values of layer.weight: are bfloat16 [1]; exact ones of float32 are not stored so",
    ),
    (
        {"values": "bfloat16", "rounded": {"layer.weight": "int64"}},
        {},
        "values of layer.weight: are bfloat16 [1]; bfloat16 ones of int64 are not stored so",
    ),
    ({"values": ["int8"]}, {}, "values are ['int8']; they must be one of exact, bfloat16, float16"),
    ({"codes": None}, {}, f"header field 'codes' is None; {NOT_TEXTS}"),
    ({"meta": {"seed": 3}}, {}, f"header field 'meta' is {{'seed': 3}}; {NOT_TEXTS}"),
]


@pytest.mark.parametrize(("fields", "changes", "message"), DAMAGES)
def test_load_says_what_is_wrong_with_a_changed_file(fields, changes, message, base, tuned, path):
    save(extract(base, tuned, {"settings": "1"}), path)
    tensors, header = load_file(path), header_of(path)
    old = header["digest"]
    for place, new in ((tensors, changes), (header, fields)):
        place |= new
        for key in [key for key, value in new.items() if value is None]:
            del place[key]
    if "stored" in fields:
        header["stored"] = fingerprint(tensors)
    if "digest" in header:
        header["digest"] = old if "digest" in fields else module.header_digest(header)
    save_file(tensors, path, metadata={module._HEADER: json.dumps(header)})
    assert refusal(load, path) == f"{path}: {message}"


def test_files_of_version_2_are_read(base, tuned, path):
    save(extract(base, tuned, {"method": "SAM"}), path)
    header = header_of(path) | {"format_version": 2}
    del header["digest"]
    save_file(load_file(path), path, metadata={module._HEADER: json.dumps(header)})
    assert load(path).meta == {"method": "SAM"}
    assert_bit_equal(apply(load(path), base), tuned)


LONG = '{"format_version": ' + "1" * 9999 + "}"


@pytest.mark.parametrize("header", ["", "{", "[" * 100_000, "1", '[{"format_version": 3}]', LONG])
def test_load_refuses_any_other_header(header, path):
    save_file({"w": torch.ones(1)}, path, metadata={module._HEADER: header})
    assert refusal(load, path).startswith(f"{path}: ")


def test_load_refuses_files_that_are_not_deltas(path):
    for metadata in (None, {"format": "pt"}):
        save_file({"w": torch.ones(2)}, path, metadata=metadata)
        message = f"{path}: a safetensors file, but not a delta of jiant_sparse"
        assert refusal(load, path) == message
    for content in (b"", b"{}", b"PK\x03\x04" + bytes(100), b"\xff" * 64):
        path.write_bytes(content)
        assert refusal(load, path).startswith(f"{path}: not a readable safetensors file: ")


def test_load_opens_regular_files_only(path):
    assert refusal(load, path) == f"{path}: cannot be read: No such file or directory"
    path.symlink_to(path)
    assert refusal(load, path) == f"{path}: cannot be read: Too many levels of symbolic links"
    path.unlink()
    os.mkfifo(path)
    for other in (path, path.parent, Path("/dev/zero")):
        assert refusal(load, other) == f"{other}: is not a regular file"


def test_no_truncation_or_flipped_bit_gives_another_delta(base, tuned, path):
    delta = extract(base, tuned, {"settings": '{"alpha": 16, "größe": 1}'})
    save(delta, path)
    whole = path.read_bytes()
    for other in (*(whole[:length] for length in range(0, len(whole), 7)), whole + b"\0"):
        path.write_bytes(other)
        refusal(load, path)
    refused = 0
    for position in range(len(whole)):
        flipped = whole[position] ^ 1 << position % 8
        path.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
        try:
            loaded = load(path)
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            refused += 1
        else:
            assert (loaded.meta, loaded.base) == (delta.meta, delta.base)
            assert_bit_equal(apply(loaded, base), tuned)
    # Another way to write the same JSON, as \u00F6 for \u00f6, is no damage.
    assert refused > len(whole) - 10


def test_what_a_file_says_is_shown_on_one_line_without_escapes(base, tuned, path, tmp_path):
    evil = {"method\x1b[2J": "SAM\nvalues: bfloat16\r", "low": "\ud800", "values": "\u202eexact"}
    save(extract(base, tuned | {"head\n\x1b[31mred": torch.ones(1)}, evil), path)
    result = cli("inspect", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "values: exact",
        "changed: 4 entries of 2 tensors",
        "  embed.weight: 3",
        "  layer.weight: 1",
        "new: 5 weights",
        "  head.weight: 2x2",
        "  head\\n\\x1b[31mred: 1",
        "meta:",
        "  method\\x1b[2J: SAM\\nvalues: bfloat16\\r",
        "  low: \\ud800",
        "  values: \\u202eexact",
    ]
    result = cli("diff", path, path)
    assert result.stdout.splitlines()[-1] == "0\t0\t1\t1\t0\thead\\n\\x1b[31mred"
    other, more = tmp_path / "other", {"\x1b]0;title\x07": torch.ones(1)}
    save(extract(base | more, tuned | more), other)
    result = cli("diff", path, other)
    message = "error: the deltas belong to different bases: \\x1b]0;title\\x07 differs\n"
    assert (result.exit_code, result.stderr) == (2, message)


def test_a_full_disk_is_one_line_leaves_nothing_and_keeps_the_old_file(tmp_path):
    base = {"w": torch.randn(20_000, generator=torch.Generator().manual_seed(0))}
    exact, lossy = tmp_path / "exact", tmp_path / "lossy"
    delta = extract(base, {"w": base["w"] + 1})
    save(delta, exact)
    before = exact.read_bytes()
    with file_sizes_up_to(10_000):
        result = cli("round", exact, lossy, "--values", "bfloat16")
        with pytest.raises(OSError, match="File too large"):
            save(delta, exact)
    assert result.exit_code == 1
    assert re.fullmatch(r"error: \[Errno 27\] File too large: '.*'\n", result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["exact"]
    assert exact.read_bytes() == before


# --- diff


def edited(model, name, changes):
    flat = model[name].clone().flatten()
    for position, value in changes.items():
        flat[position] = value
    return model | {name: flat.view(model[name].shape)}


def test_diff_counts_each_tensor(base):
    a = edited(base, "embed.weight", {0: 5.0, 1: 6.0, 2: 7.0, 9: 8.0})
    b = edited(base, "embed.weight", {1: 6.0, 2: 7.5, 10: 3.0})
    b = edited(b, "layer.bias", {0: 1.0})
    a |= {"head": torch.zeros(3), "wider": torch.zeros(2)}
    b |= {"head": torch.tensor([0.0, 0.0, -2.0]), "wider": torch.zeros(5), "lora": torch.ones(4)}
    assert diff(extract(base, a), extract(base, b)) == [
        DiffRow("embed.weight", only_a=2, only_b=1, both=2, equal=1, max_difference=0.5),
        DiffRow("layer.bias", only_a=0, only_b=1, both=0, equal=0, max_difference=0.0),
        DiffRow("head", only_a=0, only_b=0, both=3, equal=2, max_difference=2.0),
        DiffRow("wider", only_a=2, only_b=5, both=0, equal=0, max_difference=0.0),
        DiffRow("lora", only_a=0, only_b=4, both=0, equal=0, max_difference=0.0),
    ]
    assert diff(extract(base, base), extract(base, base)) == []


def test_diff_of_equal_of_rounded_and_of_odd_values(base, tuned):
    delta = extract(base, tuned)
    rows = diff(delta, delta)
    assert [row.name for row in rows] == ["embed.weight", "layer.weight", "head.weight"]
    assert all(row.only_a == row.only_b == 0 for row in rows)
    assert all(row.equal == row.both > 0 and row.max_difference == 0 for row in rows)
    nan = extract(base, tuned | {"head.weight": torch.full((2, 2), float("nan"))})
    assert diff(nan, nan)[-1].max_difference == 0
    assert diff(nan, delta)[-1].max_difference != 0
    infinite = extract(base, tuned | {"head.weight": torch.full((2, 2), float("inf"))})
    assert diff(infinite, delta)[-1].max_difference == float("inf")
    exact = extract(base, edited(base, "embed.weight", {0: 1.5, 1: 1.01}))
    (row,) = diff(exact, rounded(exact, "bfloat16"))
    assert (row.only_a, row.only_b, row.both, row.equal) == (0, 0, 2, 1)
    assert row.max_difference == pytest.approx(0.0021875, rel=1e-3), "what rounding lost"


@pytest.mark.parametrize("name", ["layer.bias", "extra"])
def test_diff_refuses_different_bases(base, name):
    other = base | {name: torch.ones(3)}
    message = f"the deltas belong to different bases: {name} differs"
    assert refusal(diff, extract(base, base), extract(other, other)) == message
