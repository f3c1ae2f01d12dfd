"""Files named by their SHA-256: bit-equal again, damage found, nothing half-written."""

import errno
import os

import pytest
import torch
from safetensors.torch import save_file
from support.models import file_sizes_up_to

from jiant_sparse.files import sha256
from jiant_sparse.host import sealed

SHARED = torch.arange(12.0).reshape(3, 4)
TENSORS = {
    "scalar": torch.tensor(3),
    "empty": torch.empty(0, 4),
    "flag": torch.tensor([True, False]),
    "byte": torch.tensor([255, 0], dtype=torch.uint8),
    "int64": torch.tensor([2**62, -1]),
    "nan": torch.tensor([float("nan"), -0.0]),
    "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "turned": SHARED.T,
    "whole": SHARED,
    "view": SHARED[1:],
    "gradient": torch.ones(2, requires_grad=True),
}
META = {"score": None, "history": [[1, 0.1 + 0.2]], "name": 'é\ud83d "\n', "low": float("-inf")}


def write(directory, stem="a", tensors=TENSORS, meta=META):
    return sealed.write(directory, stem, tensors, meta)


def test_what_is_written_comes_back_bit_for_bit(tmp_path):
    path = write(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / f"a.{sha256(path)}.safetensors"
    tensors, meta = sealed.read(path)
    assert meta == sealed.meta(path) == META
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert (tensor.dtype, tensor.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        bits = [t.detach().contiguous().reshape(-1) for t in (tensor, TENSORS[name])]
        assert torch.equal(*(t.view(torch.uint8) for t in bits)), name


def test_a_file_without_tensors_holds_any_json_value(tmp_path):
    for value in (None, 1, "text", [], {"a": [True]}):
        assert sealed.read(write(tmp_path, "m", {}, value)) == ({}, value)


def test_equal_content_gives_equal_bytes_whatever_the_order(tmp_path):
    first = write(tmp_path / "a")
    again = write(tmp_path / "b", tensors=dict(reversed(TENSORS.items())))
    assert first.name == again.name and first.read_bytes() == again.read_bytes()
    assert write(tmp_path / "b", meta={}).name != first.name


def test_only_whole_files_of_the_stem_are_found(tmp_path):
    assert sealed.found(tmp_path / "none", "a") == []
    paths = [write(tmp_path, meta=number) for number in range(3)]
    write(tmp_path, "a.b"), write(tmp_path, "aa")
    for name in (".a.0123.partial", f"a.{'0' * 63}.safetensors", f"a.{'0' * 64}.safetensors.x"):
        (tmp_path / name).touch()
    assert sealed.found(tmp_path, "a") == sorted(paths)
    assert len(sealed.found(tmp_path, "a.b")) == 1
    assert sealed.found(tmp_path, "a*") == []


def test_files_are_as_readable_as_others(tmp_path):
    (tmp_path / "plain").touch()
    assert write(tmp_path).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_flipped_bit_is_damage_wherever_it_is(tmp_path):
    path = write(tmp_path, tensors={"a": torch.arange(4)}, meta=1)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(
            whole[:position] + bytes([whole[position] ^ 1 << position % 8]) + whole[position + 1 :]
        )
        with pytest.raises(sealed.Damaged, match="SHA-256") as caught:
            sealed.read(path)
        assert str(path) in str(caught.value)
    path.write_bytes(whole)
    assert sealed.read(path)[1] == 1


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_file_is_damaged(kept, tmp_path):
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    for function in (sealed.read, sealed.meta):
        with pytest.raises(sealed.Damaged) as caught:
            function(path)
        assert str(path) in str(caught.value)


def named(path):
    """Give the file the name that its bytes ask for."""
    return path.rename(path.with_name(f"a.{sha256(path)}.safetensors"))


def test_a_file_that_nobody_sealed_is_damaged_under_its_right_name_too(tmp_path):
    other = tmp_path / "other"
    save_file({"a": torch.ones(2)}, other)
    unsealed = named(other)
    save_file({"a": torch.ones(2)}, other, metadata={"jiant_sparse": "{"})
    no_json = named(other)
    other.write_text("no safetensors")
    no_format = named(other)
    for path, message in (
        (unsealed, "not one that jiant_sparse sealed"),
        (no_json, "metadata are not JSON"),
        (no_format, "not a readable safetensors file"),
        (tmp_path / "gone", "there is no such file"),
    ):
        for function in (sealed.read, sealed.meta):
            with pytest.raises(sealed.Damaged, match=message) as caught:
                function(path)
            assert str(path) in str(caught.value)


def test_what_is_read_outlives_the_file(tmp_path):
    path = write(tmp_path)
    tensors, _ = sealed.read(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(tensors["whole"], SHARED)


def test_a_write_that_fails_is_an_os_error_and_leaves_nothing(tmp_path):
    kept = write(tmp_path, "kept")
    with file_sizes_up_to(10_000), pytest.raises(OSError) as caught:
        write(tmp_path, tensors={"large": torch.zeros(10_000)})
    assert caught.value.errno == errno.EFBIG and str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [kept]


def test_nothing_is_left_when_the_seal_cannot_be_set(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_file_and_then_its_folder_are_synced_around_the_renaming(tmp_path, monkeypatch):
    done = []
    synced, replaced = os.fsync, os.replace

    def fsync(handle):
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        synced(handle)

    def replace(*paths):
        done.append("renamed")
        replaced(*paths)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write(tmp_path)
    assert done[0].endswith(".partial") and done[1:] == ["renamed", tmp_path.name]
