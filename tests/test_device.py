"""The same bits whenever a cell runs, and the word of torch where they cannot be promised."""

import warnings

import pytest
import torch

from jiant_sparse.host import device
from jiant_sparse.host.train import train


def test_repeatable():
    before = torch.get_num_threads()
    with device.repeatable(2):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.get_num_threads() == 2
        assert not torch.utils.deterministic.fill_uninitialized_memory
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before
    assert torch.utils.deterministic.fill_uninitialized_memory
    with pytest.raises(RuntimeError), device.repeatable(2):
        raise RuntimeError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def not_deterministic() -> None:
    values, indices = torch.nn.functional.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    torch.nn.functional.max_unpool2d(values, indices, 2)


def test_operations_are_noted_once():
    with device.repeatable(1) as exceptions:
        assert exceptions == []
        not_deterministic()
        not_deterministic()
    assert exceptions == ["max_unpooling2d_forward_out"]


def test_other_warnings():
    with pytest.warns(UserWarning, match="something else"), device.repeatable(1) as exceptions:
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert exceptions == []


def test_record(make_job, monkeypatch):
    from jiant_sparse.host.runner import SparseRunner

    plain = SparseRunner.backward

    def backward(self, *arguments):
        not_deterministic()
        return plain(self, *arguments)

    monkeypatch.setattr(SparseRunner, "backward", backward)
    result = train(make_job("cb", "bitfit"))
    assert result.provenance.nondeterministic == ["max_unpooling2d_forward_out"]
