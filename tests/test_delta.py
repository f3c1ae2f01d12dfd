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
DTYPES = (*FLOATS, torch.int64, torch.int32, torch.uint8)


def raw(tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist()


def assert_bit_equal(got, expected):
    assert set(got) == set(expected)
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype
        assert got[name].shape == tensor.shape
        assert raw(got[name]) == raw(tensor)


def through_file(delta, tmp_path):
    save(delta, tmp_path / "delta.safetensors")
    return load(tmp_path / "delta.safetensors")


def header_of(path):
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()[module._HEADER])


def bits(pattern, dtype):
    """One float from its bits."""
    return torch.tensor([pattern], dtype=torch.int32).view(dtype)


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
    loaded = load(path)
    assert_bit_equal(apply(loaded, base), tuned)
    assert loaded.base == delta.base
    assert loaded.meta == delta.meta
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
            flat = torch.tensor(list(content), dtype=torch.uint8).view(dtype)
            model[name] = flat.view(shape)
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
    delta = through_file(extract(base, tuned), tmp_path_factory.mktemp("delta"))
    assert_bit_equal(apply(delta, base), tuned)
    differ = {name for name, old in base.items() if raw(old) != raw(tuned[name])}
    assert delta.entries.keys() == differ


@pytest.mark.parametrize("dtype", [*DTYPES, torch.bool])
def test_every_dtype(dtype, tmp_path):
    base = {"w": torch.zeros(4, 2, dtype=dtype), "scalar": torch.zeros((), dtype=dtype)}
    tuned = {"w": base["w"].clone(), "scalar": torch.ones((), dtype=dtype)}
    tuned["w"][1, 1] = 1
    delta = through_file(extract(base, tuned), tmp_path)
    assert changed(delta) == 2
    assert delta.entries["w"][1].dtype == dtype
    assert_bit_equal(apply(delta, base), tuned)


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


def test_parameters_views_and_tied_tensors(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    base = {"w": torch.nn.Parameter(whole.t())}
    tied = torch.ones(3)
    tuned = {"w": (whole + (whole == 5)).t(), "head": tied, "tied": tied, "part": whole[:, 1]}
    delta = extract(base, tuned)
    assert_bit_equal(apply(through_file(delta, tmp_path), base), tuned)
    shared = replace(delta, new={"head": tied, "tied": tied[:2], "part": whole[:, 1]})
    assert_bit_equal(through_file(shared, tmp_path).new, shared.new)


def test_a_saved_delta_is_the_same_file_every_time(base, tuned, tmp_path):
    for name in ("one", "two"):
        save(extract(base, tuned, {"b": "1", "a": "2"}), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_file_is_as_documented(base, tuned, tmp_path):
    path = tmp_path / "delta.safetensors"
    save(extract(base, tuned), path)
    stored = load_file(path)
    assert set(stored) == {
        "embed.weight.index",
        "embed.weight.value",
        "layer.weight.index",
        "layer.weight.value",
        "head.weight",
    }
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


def test_a_delta_of_half_a_percent_takes_less_than_three_quarters_of_a_percent(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(1000, 700, generator=generator) for name in "ab"}
    tuned = {name: tensor.clone() for name, tensor in base.items()}
    for tensor in tuned.values():
        tensor.view(-1)[torch.randperm(700_000, generator=generator)[:3500]] += 1
    delta = extract(base, tuned)
    checkpoint = 4 * 1_400_000
    path = tmp_path / "delta.safetensors"
    assert 0.0067 < save(delta, path) / checkpoint < 0.0070
    assert set(header_of(path)["codes"].values()) == {"gaps8"}
    assert_bit_equal(apply(load(path), base), tuned)
    assert 0.0042 < save(rounded(delta, "float16"), path) / checkpoint < 0.0045


@pytest.mark.parametrize("stride", [3, 100, 1000, 200_000])
def test_every_code_goes_through_a_file(stride, tmp_path):
    base = {"w": torch.zeros(400_000)}
    tuned = {"w": torch.zeros(400_000)}
    tuned["w"][stride - 1 :: stride] = 1
    delta = extract(base, tuned)
    loaded = through_file(delta, tmp_path)
    assert torch.equal(loaded.entries["w"][0], delta.entries["w"][0])
    assert_bit_equal(apply(loaded, base), tuned)
    code = header_of(tmp_path / "delta.safetensors")["codes"]["w"]
    assert code == {3: "bits", 100: "gaps8", 1000: "gaps16", 200_000: "int32"}[stride]


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
def test_a_rounded_delta_says_so_and_is_the_same_in_memory_and_on_disk(
    rounding, base, tuned, tmp_path
):
    base |= {"wide": torch.zeros(3, dtype=torch.float64), "count": torch.zeros(2).long()}
    tuned |= {"wide": torch.full((3,), 0.1).double(), "count": torch.tensor([0, 2**40 + 1])}
    tuned["head.weight"] = torch.full((2, 2), 0.1)
    exact = extract(base, tuned, {"method": "SAM"})
    lossy = rounded(exact, rounding)
    assert (exact.values, lossy.values) == ("exact", rounding)
    loaded = through_file(lossy, tmp_path)
    for delta in (lossy, loaded):
        assert (delta.values, delta.base, delta.meta) == (rounding, exact.base, exact.meta)
        for name, (index, values) in exact.entries.items():
            narrow = ROUNDINGS[rounding] if name in ("embed.weight", "wide") else values.dtype
            found_index, found = delta.entries[name]
            assert torch.equal(found_index, index)
            assert found.dtype == values.dtype
            assert torch.equal(found, values.to(narrow).to(values.dtype))
    assert raw(loaded.entries["wide"][1]) != raw(exact.entries["wide"][1])
    assert_bit_equal(loaded.new, exact.new)
    assert_bit_equal(apply(loaded, base), apply(lossy, base))
    path = tmp_path / "delta.safetensors"
    assert header_of(path)["rounded"] == {"embed.weight": "float32", "wide": "float64"}
    assert load_file(path)["wide.value"].dtype == ROUNDINGS[rounding]


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_rounded_value_survives_a_file(rounding, dtype, tmp_path):
    every = torch.arange(1, 2**16, dtype=torch.int32).to(torch.int16).view(ROUNDINGS[rounding])
    exact = extract({"w": torch.zeros(len(every), dtype=dtype)}, {"w": every.to(dtype)})
    lossy = rounded(exact, rounding)
    loaded = through_file(lossy, tmp_path)
    assert raw(loaded.entries["w"][1]) == raw(lossy.entries["w"][1])
    values, old = lossy.entries["w"][1], exact.entries["w"][1]
    assert raw(values[~old.isnan()]) == raw(old[~old.isnan()])
    # torch's own casts make one NaN or another of them.
    assert values.isnan().equal(old.isnan())
    assert len({tuple(raw(value)) for value in values[old.isnan()]}) == 1


def test_infinities_stay_and_finite_values_may_not_become_infinite():
    def delta(value, dtype=torch.float32):
        base = torch.zeros(2, dtype=dtype)
        return extract({"w": base}, {"w": torch.tensor([0, value], dtype=dtype)})

    assert rounded(delta(-float("inf")), "float16").entries["w"][1].tolist() == [-float("inf")]
    assert rounded(delta(65504.0), "float16").entries["w"][1].tolist() == [65504.0]
    message = "values of w: 70000 is too large for float16"
    assert refusal(rounded, delta(70000.0), "float16") == message
    assert rounded(delta(70000.0), "bfloat16").entries["w"][1].tolist() == [70144.0]
    message = "values of w: -3.4e+38 is too large for bfloat16"
    assert refusal(rounded, delta(-3.4e38), "bfloat16") == message
    message = "values of w: 1e+300 is too large for bfloat16"
    assert refusal(rounded, delta(1e300, torch.float64), "bfloat16") == message
    assert len(rounded(delta(70000, torch.int64), "float16").entries) == 1


def test_only_an_exact_delta_can_be_rounded_and_only_so(base, tuned):
    delta = extract(base, tuned)
    for values in ("int8", "exact"):
        message = f"values are to be '{values}'; they must be one of bfloat16, float16"
        assert refusal(rounded, delta, values) == message
    message = "values are bfloat16 already; only exact ones can be rounded"
    assert refusal(rounded, rounded(delta, "bfloat16"), "float16") == message


def test_save_refuses_values_that_it_would_have_to_change(base, tuned, tmp_path):
    path = tmp_path / "delta.safetensors"
    delta = extract(base, tuned | {"embed.weight": base["embed.weight"] + 0.1})
    message = "values of embed.weight: not all are float16, as the delta says"
    assert refusal(save, replace(delta, values="float16"), path) == message
    message = "values are 'int8'; they must be one of exact, bfloat16, float16"
    assert refusal(save, replace(delta, values="int8"), path) == message
    assert not path.exists()


def test_round_on_the_command_line(base, tuned, tmp_path):
    def cli(*arguments):
        return CliRunner().invoke(app, ["delta", *map(str, arguments)])

    def refused(*arguments):
        result = cli(*arguments)
        assert result.exit_code == 2
        return result.stderr.strip()

    exact, lossy, other = (tmp_path / name for name in ("exact", "lossy", "other"))
    save(extract(base, tuned, {"method": "SAM"}), exact)
    done = cli("round", exact, lossy, "--values", "bfloat16")
    assert (done.exit_code, done.stdout) == (0, f"{lossy}\n")
    assert load(lossy).values == "bfloat16"
    assert cli("inspect", exact).stdout.splitlines()[0] == "values: exact"
    assert cli("inspect", exact).stdout.splitlines()[-2:] == ["meta:", "  method: SAM"]
    assert "values: bfloat16" in cli("inspect", lossy).stdout.splitlines()
    message = f"error: {lossy}: exists already; give a new file"
    assert refused("round", exact, lossy, "--values", "float16") == message
    message = f"error: {lossy}: values are bfloat16 already; only exact ones can be rounded"
    assert refused("round", lossy, other, "--values", "float16") == message
    message = f"error: {exact}: values are to be 'int8'; they must be one of bfloat16, float16"
    assert refused("round", exact, other, "--values", "int8") == message
    assert refused("round", tmp_path / "absent", other, "--values", "float16").startswith(
        f"error: {tmp_path / 'absent'}: cannot be read: No such file"
    )
    assert "--values" in refused("round", exact, other)
    assert not other.exists()


# --- refusals


def refusal(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    return str(error.value)


def test_extract_names_the_tensor_that_does_not_fit(base, tuned):
    lacking = {name: tensor for name, tensor in tuned.items() if name != "layer.bias"}
    assert refusal(extract, base, lacking) == "tuned model lacks layer.bias, which the base has"
    for other, form in ((torch.zeros(4), "float32 [4]"), (torch.zeros(3).half(), "float16 [3]")):
        message = f"tuned layer.bias is {form}; in the base it is float32 [3]"
        assert refusal(extract, base, tuned | {"layer.bias": other}) == message


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_apply_leaves_tensors_on_their_device(base, tuned):
    there = {name: tensor.cuda() for name, tensor in base.items()}
    applied = apply(extract(base, tuned), there)
    assert all(applied[name].is_cuda for name in base)
    assert_bit_equal(applied, tuned)
    assert_bit_equal(there, base)


def test_apply_names_the_first_tensor_that_differs(base, tuned):
    delta = extract(base, tuned)
    other = base | {"layer.weight": base["layer.weight"] + 1, "layer.bias": -base["layer.bias"]}
    message = "base is not the delta's base: layer.weight is the first tensor to differ"
    assert refusal(apply, delta, other) == message
    message = "base is not the delta's base: layer.bias is the first tensor to differ"
    assert refusal(apply, delta, dict(reversed(other.items()))) == message
    assert refusal(apply, delta, base | {"layer.bias": torch.zeros(3, 1)}) == message
    lacking = {name: tensor for name, tensor in base.items() if name != "layer.bias"}
    message = "base lacks layer.bias, which the delta's base has"
    assert refusal(apply, delta, lacking) == message
    message = "base has head.weight, which the delta's base has not"
    assert refusal(apply, delta, base | {"head.weight": torch.ones(1)}) == message


def test_apply_refuses_entries_that_the_base_cannot_have(base, tuned):
    delta = extract(base, tuned)
    one = torch.tensor([5])
    far = replace(delta, entries={"layer.weight": (one, torch.ones(1).bfloat16())})
    message = "delta of layer.weight is bfloat16 [1] up to position 5; the base has bfloat16 [5]"
    assert refusal(apply, far, base) == message
    wide = replace(delta, entries={"layer.weight": (one - 5, torch.ones(1))})
    message = "delta of layer.weight is float32 [1] up to position 0; the base has bfloat16 [5]"
    assert refusal(apply, wide, base) == message


MALFORMED = [
    (torch.zeros(1).int(), 1, "index of layer.weight is int32 [1]; it must be int64 [k], k >= 1"),
    (torch.arange(0), 0, "index of layer.weight is int64 [0]; it must be int64 [k], k >= 1"),
    (torch.arange(2), 3, "layer.weight has float32 [3] values for 2 positions"),
    (torch.tensor([1, 1]), 2, "index of layer.weight is not ascending from 0 or later"),
    (torch.tensor([-1, 1]), 2, "index of layer.weight is not ascending from 0 or later"),
]


@pytest.mark.parametrize(("index", "count", "message"), MALFORMED)
def test_save_refuses_a_malformed_entry_and_leaves_nothing(index, count, message, base, tmp_path):
    delta = replace(extract(base, base), entries={"layer.weight": (index, torch.ones(count))})
    assert refusal(save, delta, tmp_path / "delta.safetensors") == message
    assert list(tmp_path.iterdir()) == []


def test_save_refuses_names_and_texts_that_do_not_fit(base, tmp_path):
    delta, path = extract(base, base), tmp_path / "delta.safetensors"
    entry = (torch.arange(1), torch.ones(1))
    message = "the delta changes other, which its base does not have"
    assert refusal(save, replace(delta, entries={"other": entry}), path) == message
    message = "layer.bias cannot be new: the delta's base has it"
    assert refusal(save, replace(delta, new={"layer.bias": torch.ones(1)}), path) == message
    assert (
        refusal(save, replace(delta, meta={"seed": 3}), path) == "meta seed is 3; it must be text"
    )
    assert not path.exists()


def rewrite(path, change, digest=module.header_digest):
    """Save the file again after `change` had its way with the tensors and the header.

    digest: of the changed header; None leaves the old one.
    """
    tensors, header = load_file(path), header_of(path)
    header = change(tensors, header) or header
    if digest is not None and isinstance(header, dict) and "digest" in header:
        header["digest"] = digest(header)
    save_file(tensors, path, metadata={module._HEADER: json.dumps(header)})


DIGEST = "is missing, foreign or damaged: its digest does not match"
ONE_OF = "it must be one of bits, gaps8, gaps16, int32, int64"
NOT_TEXTS = "it must map names to texts"
INDEX, VALUE = "embed.weight.index", "embed.weight.value"
# Changes of the header (None deletes a field; a field of a field has a "/" before it), changes of
# the tensors, and the message. A "stored" digest that the file should have is the true one.
DAMAGES = [
    ({}, {VALUE: torch.ones(3)}, f"{VALUE} {DIGEST}"),
    ({}, {"layer.weight.value": None}, f"layer.weight.value {DIGEST}"),
    ({}, {"spy": torch.ones(1)}, f"spy {DIGEST}"),
    (
        {"stored": True},
        {"layer.weight.value": None},
        "'layer.weight.value' is missing, though the header names it",
    ),
    ({"format_version": 1}, {}, "format version is 1; it must be 3 or 2"),
    ({"format_version": 2}, {}, "the header is damaged: its digest does not match"),
    ({"format_version": 4}, {}, "format version is 4; it must be 3 or 2"),
    (
        {"format_version": [[0] * 100]},
        {},
        "format version is [[0, 0, 0, 0, 0, 0, ...]]; it must be 3 or 2",
    ),
    ({"digest": None}, {}, "the header is damaged: its digest does not match"),
    ({"codes/embed.weight": "zip"}, {}, f"index of embed.weight: code is 'zip'; {ONE_OF}"),
    ({"codes/embed.weight": None}, {}, f"index of embed.weight: code is None; {ONE_OF}"),
    (
        {"codes/embed.weight": "gaps8", "stored": True},
        {INDEX: torch.tensor([2, 0, 255, 6], dtype=torch.uint8), VALUE: torch.ones(2)},
        "index of embed.weight: gaps8 hold 3 positions; there are 2 values",
    ),
    (
        {"stored": True},
        {INDEX: torch.zeros(0, dtype=torch.uint8)},
        "index of embed.weight: bits are uint8 [0]; they must be uint8 [n], n >= 1",
    ),
    (
        {"stored": True},
        {INDEX: torch.ones(3)},
        "index of embed.weight: bits are float32 [3]; they must be uint8 [n], n >= 1",
    ),
    (
        {"codes/embed.weight": "int32", "stored": True},
        {INDEX: torch.tensor([23, 3, 2], dtype=torch.int32)},
        "index of embed.weight is not ascending from 0 or later",
    ),
    (
        {"stored": True},
        {VALUE: torch.ones(1, 3)},
        "embed.weight has float32 [1, 3] values for 3 positions",
    ),
    (
        {"stored": True},
        {VALUE: torch.ones(3, dtype=torch.complex64)},
        "values of embed.weight are complex64 [3]; they must be real",
    ),
    (
        {"values": "float16", "stored": True},
        {VALUE: torch.full((3,), 0.1)},
        "values of embed.weight: not all are float16, as the delta says",
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
    ({"base": None}, {}, f"header field 'base' is None; {NOT_TEXTS}"),
    ({"meta": {"seed": 3}}, {}, f"header field 'meta' is {{'seed': 3}}; {NOT_TEXTS}"),
]


@pytest.mark.parametrize(("fields", "changes", "message"), DAMAGES)
def test_load_says_what_is_wrong_with_a_changed_file(
    fields, changes, message, base, tuned, tmp_path
):
    def damage(tensors, header):
        for place, old in ((tensors, changes), (header, fields)):
            for key, value in old.items():
                *outer, key = key.split("/")
                inner = place[outer[0]] if outer else place
                inner[key] = value
                if value is None:
                    del inner[key]
        if fields.get("stored"):
            header["stored"] = fingerprint(tensors)

    path = tmp_path / "delta.safetensors"
    save(extract(base, tuned), path)
    rewrite(path, damage)
    assert refusal(load, path) == f"{path}: {message}"


def test_the_header_has_a_digest_too(base, tuned, tmp_path):
    changes = [
        lambda _, header: header["meta"].update(settings=header["meta"]["settings"] + "6"),
        lambda _, header: header["base"].update({"layer.bias": header["base"]["embed.weight"]}),
        lambda _, header: header.update(more=1),
    ]
    path = tmp_path / "delta.safetensors"
    for change in changes:
        save(extract(base, tuned, {"settings": "1"}), path)
        rewrite(path, change, digest=None)
        assert refusal(load, path) == f"{path}: the header is damaged: its digest does not match"


def test_files_of_version_2_are_read(base, tuned, tmp_path):
    def older(tensors, header):
        header["format_version"] = 2
        del header["digest"]

    delta = extract(base, tuned, {"method": "SAM"})
    path = tmp_path / "delta.safetensors"
    save(delta, path)
    rewrite(path, older)
    assert load(path).meta == delta.meta
    assert_bit_equal(apply(load(path), base), tuned)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[" * 100_000,
        "1",
        '{"format_version": "1"}',
        '[{"format_version": 3}]',
        '{"format_version": ' + "1" * 9999 + "}",
    ],
)
def test_load_refuses_any_other_header(header, tmp_path):
    path = tmp_path / "delta.safetensors"
    save_file({"w": torch.ones(1)}, path, metadata={module._HEADER: header})
    assert refusal(load, path).startswith(f"{path}: ")


def test_load_refuses_files_that_are_not_deltas(tmp_path):
    path = tmp_path / "model.safetensors"
    for metadata in (None, {"format": "pt"}):
        save_file({"w": torch.ones(2)}, path, metadata=metadata)
        message = f"{path}: a safetensors file, but not a delta of jiant_sparse"
        assert refusal(load, path) == message
    for content in (b"", b"{}", b"PK\x03\x04" + bytes(100), b"\xff" * 64):
        path.write_bytes(content)
        assert refusal(load, path).startswith(f"{path}: not a readable safetensors file: ")


def test_load_opens_regular_files_only(tmp_path):
    path = tmp_path / "delta.safetensors"
    assert refusal(load, path) == f"{path}: cannot be read: No such file or directory"
    path.symlink_to(path)
    assert refusal(load, path) == f"{path}: cannot be read: Too many levels of symbolic links"
    path.unlink()
    os.mkfifo(path)
    for other in (path, tmp_path, Path("/dev/zero")):
        assert refusal(load, other) == f"{other}: is not a regular file"


def test_no_truncation_or_flipped_bit_gives_another_delta(base, tuned, tmp_path):
    path = tmp_path / "delta.safetensors"
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


def test_what_a_file_says_is_shown_on_one_line_without_escapes(base, tuned, tmp_path):
    path = tmp_path / "delta.safetensors"
    evil = {"method\x1b[2J": "SAM\nvalues: bfloat16\r", "low": "\ud800", "values": "\u202eexact"}
    save(extract(base, tuned | {"head\n\x1b[31mred": torch.ones(1)}, evil), path)
    result = CliRunner().invoke(app, ["delta", "inspect", str(path)])
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
    result = CliRunner().invoke(app, ["delta", "diff", str(path), str(path)])
    assert result.stdout.splitlines()[-1] == "0\t0\t1\t1\t0\thead\\n\\x1b[31mred"
    other = tmp_path / "other"
    more = {"\x1b]0;title\x07": torch.ones(1)}
    save(extract(base | more, tuned | more), other)
    result = CliRunner().invoke(app, ["delta", "diff", str(path), str(other)])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: the deltas belong to different bases: \\x1b]0;title\\x07 differs\n",
    )


def test_a_failed_save_keeps_the_old_file(base, tuned, tmp_path, monkeypatch):
    path = tmp_path / "delta.safetensors"
    save(extract(base, tuned), path)
    before = path.read_bytes()

    def fail(*arguments, **options):
        raise OSError("disk full")

    monkeypatch.setattr(module, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(extract(base, base), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["delta.safetensors"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    generator = torch.Generator().manual_seed(0)
    base = {"w": torch.randn(20_000, generator=generator)}
    exact, lossy = tmp_path / "exact", tmp_path / "lossy"
    save(extract(base, {"w": base["w"] + 1}), exact)
    with file_sizes_up_to(10_000):
        arguments = ["delta", "round", str(exact), str(lossy), "--values", "bfloat16"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert re.fullmatch(r"error: \[Errno 27\] File too large: '.*'\n", result.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["exact"]


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


def test_diff_of_equal_deltas_and_of_nan(base, tuned):
    delta = extract(base, tuned)
    rows = diff(delta, delta)
    assert [row.name for row in rows] == ["embed.weight", "layer.weight", "head.weight"]
    assert all(row.only_a == row.only_b == 0 for row in rows)
    assert all(row.equal == row.both > 0 and row.max_difference == 0 for row in rows)
    nan = tuned | {"head.weight": torch.full((2, 2), float("nan"))}
    assert diff(extract(base, nan), extract(base, nan))[-1].max_difference == 0
    assert diff(extract(base, nan), delta)[-1].max_difference != 0
    infinite = tuned | {"head.weight": torch.full((2, 2), float("inf"))}
    assert diff(extract(base, infinite), delta)[-1].max_difference == float("inf")
    assert diff(extract(base, base), extract(base, base)) == []
    exact = extract(base, edited(base, "embed.weight", {0: 1.5, 1: 1.01}))
    (row,) = diff(exact, rounded(exact, "bfloat16"))
    assert (row.only_a, row.only_b, row.both, row.equal) == (0, 0, 2, 1)
    assert row.max_difference == pytest.approx(0.0021875, rel=1e-3), "what rounding lost"


def test_diff_refuses_different_bases(base):
    other = base | {"layer.bias": torch.ones(3)}
    message = "the deltas belong to different bases: layer.bias differs"
    assert refusal(diff, extract(base, base), extract(other, other)) == message
    more = base | {"extra": torch.ones(3)}
    message = "the deltas belong to different bases: extra differs"
    assert refusal(diff, extract(base, base), extract(more, more)) == message
