"""Files named by their SHA-256: bit-equal when read, damage found, nothing half-written."""

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


def test_round_trip(tmp_path):
    path = write(tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / f"a.{sha256(path)}.safetensors"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    tensors, meta = sealed.read(path)
    assert meta == sealed.meta(path) == META
    path.write_bytes(bytes(path.stat().st_size))  # what was read outlives the file
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert (tensor.dtype, tensor.shape) == (TENSORS[name].dtype, TENSORS[name].shape)
        bits = [t.detach().contiguous().reshape(-1) for t in (tensor, TENSORS[name])]
        assert torch.equal(*(t.view(torch.uint8) for t in bits)), name
    for value in (None, 1, "text", [], {"a": [True]}):
        assert sealed.read(write(tmp_path, "m", {}, value)) == ({}, value)


def test_equal_content_gives_equal_bytes(tmp_path):
    first = write(tmp_path / "a")
    again = write(tmp_path / "b", tensors=dict(reversed(TENSORS.items())))
    assert first.name == again.name and first.read_bytes() == again.read_bytes()
    assert write(tmp_path / "b", meta={}).name != first.name


def test_found(tmp_path):
    assert sealed.found(tmp_path / "none", "a") == []
    paths = [write(tmp_path, meta=number) for number in range(3)]
    write(tmp_path, "a.b"), write(tmp_path, "aa")
    for name in (".a.0123.partial", f"a.{'0' * 63}.safetensors", f"a.{'0' * 64}.safetensors.x"):
        (tmp_path / name).touch()
    assert sealed.found(tmp_path, "a") == sorted(paths)
    assert len(sealed.found(tmp_path, "a.b")) == 1
    assert sealed.found(tmp_path, "a*") == []


def test_damage(tmp_path):
    path = write(tmp_path, tensors={"a": torch.arange(4)}, meta=1)
    whole = path.read_bytes()
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :] for at in range(len(whole))
    ]
    for content in flipped:
        path.write_bytes(content)
        with pytest.raises(sealed.Damaged, match="SHA-256") as caught:
            sealed.read(path)
        assert str(path) in str(caught.value)
    for kept in (0, 4, 60, -1):
        path.write_bytes(whole[:kept])
        for function in (sealed.read, sealed.meta):
            with pytest.raises(sealed.Damaged) as caught:
                function(path)
            assert str(path) in str(caught.value)
    path.write_bytes(whole)
    assert sealed.read(path)[1] == 1


def named(path):
    """Give the file the name that its bytes ask for."""
    return path.rename(path.with_name(f"a.{sha256(path)}.safetensors"))


def test_files_that_are_not_sealed(tmp_path):
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


def test_failed_write_leaves_nothing(tmp_path, monkeypatch):
    kept = write(tmp_path, "kept")
    with file_sizes_up_to(10_000), pytest.raises(OSError) as caught:
        write(tmp_path, tensors={"large": torch.zeros(10_000)})
    assert caught.value.errno == errno.EFBIG and str(tmp_path) in str(caught.value)
    monkeypatch.setattr(os, "replace", lambda *paths: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_sync(tmp_path, monkeypatch):
    """The file before the renaming, its folder after."""
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
