"""Edits of a module tree, against plain dense training."""

import pytest
import torch
from support import bert, state
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import surgery


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Embedding(7, 6, padding_idx=0), nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 4)
    )


def pick(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randperm(p.numel(), generator=generator)[: p.numel() // 2].sort().values
        for name, p in model.named_parameters()
    }


def inputs(seed: int) -> torch.Tensor:
    return torch.randint(0, 7, (8, 3), generator=torch.Generator().manual_seed(seed))


def test_training_entries_equals_dense_training_with_the_rest_put_back():
    sparse, dense = network(), network()
    chosen, start = pick(dense), state(dense)
    surgery.select(sparse, chosen)
    settings = {"lr": 0.03, "weight_decay": 0.2}
    decayed = [p for p in dense.parameters() if p.dim() >= 2]
    plain = [p for p in dense.parameters() if p.dim() < 2]
    optimizers = (
        torch.optim.AdamW(surgery.parameter_groups(sparse, 0.2), lr=0.03),
        torch.optim.AdamW(
            [{"params": decayed}, {"params": plain, "weight_decay": 0.0}], **settings
        ),
    )
    for step in range(8):
        for model, optimizer in zip((sparse, dense), optimizers, strict=True):
            # Two forward passes before one backward, as with COPA's two choices.
            (model(inputs(step)).sin().sum() + model(inputs(step + 50)).cos().sum()).backward()
            optimizer.step()
            model.zero_grad()
        for name, p in dense.named_parameters():
            frozen = torch.ones(p.numel(), dtype=torch.bool)
            frozen[chosen[name]] = False
            p.data.view(-1)[frozen] = start[name].view(-1)[frozen]
    surgery.fold(sparse)
    for name, p in dense.named_parameters():
        torch.testing.assert_close(sparse.get_parameter(name), p, rtol=1e-5, atol=1e-6)


def test_gradient_of_the_values_is_the_dense_gradient_at_their_positions():
    sparse, dense = network(), network()
    chosen = pick(dense)
    surgery.select(sparse, chosen)
    for model in (sparse, dense):
        model(inputs(1)).square().sum().backward()
    for name, p in dense.named_parameters():
        path, _, leaf = name.rpartition(".")
        entries = sparse.get_submodule(path).parametrizations[leaf][0]
        assert torch.equal(entries.values.grad, p.grad.view(-1)[chosen[name]])


def test_new_values_reach_the_forward_pass_however_they_were_written():
    model = nn.Linear(3, 2)
    surgery.train_entries(model, "weight", torch.tensor([1, 4]))
    values = model.parametrizations.weight[0].values
    for write in (lambda v: values.data.copy_(v), lambda v: values.detach().copy_(v)):
        new = torch.randn(2)
        write(new)
        assert torch.equal(model.weight.flatten()[[1, 4]], new)


def test_fold_gives_plain_weights_under_their_own_names():
    model, before = network(), state(network())
    surgery.select(model, pick(model))
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(1.0)
    expected = {n: model.get_submodule(n.rpartition(".")[0]) for n in before}
    expected = {n: getattr(m, n.rpartition(".")[2]).detach().clone() for n, m in expected.items()}
    surgery.fold(model)
    assert list(state(model)) == list(before)
    for name, value in state(model).items():
        assert torch.equal(value, expected[name])
        assert type(model.get_parameter(name)) is nn.Parameter


def test_count_and_groups():
    encoder = bert()
    names = [name for name, _ in encoder.named_parameters()]
    surgery.freeze(encoder)
    assert surgery.count(encoder, names) == (0, 0)
    surgery.train_entries(encoder, "pooler.dense.weight", torch.tensor([0, 5, 9]))
    surgery.train_entries(encoder, "pooler.dense.bias", torch.tensor([1]))
    surgery.train_tensor(encoder, "embeddings.LayerNorm.bias")
    encoder.extra = nn.Linear(2, 3)
    assert surgery.count(encoder, names) == (3 + 1 + 16, 9)
    with_decay, without = surgery.parameter_groups(encoder, 0.1)
    assert sorted(p.numel() for p in with_decay["params"]) == [3, 6]
    assert with_decay["weight_decay"] == 0.1
    assert sorted(p.numel() for p in without["params"]) == [1, 3, 16]
    assert without["weight_decay"] == 0.0


def test_an_empty_index_freezes():
    model = nn.Linear(3, 2)
    surgery.train_entries(model, "weight", torch.tensor([], dtype=torch.int64))
    assert not model.weight.requires_grad


@pytest.mark.parametrize(
    ("name", "index", "expected"),
    [
        ("wieght", [0], "wieght: the encoder has no such weight tensor"),
        ("a.weight", [0], "a.weight: the encoder has no such weight tensor"),
        ("weight", [0, 0], "weight: the index must be strictly increasing within [0, 6)"),
        ("weight", [-1], "must be strictly increasing within [0, 6)"),
        ("weight", [6], "must be strictly increasing within [0, 6)"),
        ("weight", [[0]], "shape (1, 1); it must be a vector of int64"),
        ("weight", [0.0], "dtype torch.float32"),
    ],
)
def test_bad_requests_are_named(name, index, expected):
    with pytest.raises(InputError) as caught:
        surgery.train_entries(nn.Linear(3, 2), name, torch.tensor(index))
    assert expected in str(caught.value)


def test_a_tensor_is_edited_once():
    model = nn.Linear(3, 2)
    surgery.train_entries(model, "weight", torch.tensor([0]))
    with pytest.raises(InputError, match="weight: this tensor has been given a parametrization"):
        surgery.train_entries(model, "weight", torch.tensor([1]))


def test_entries_of_a_non_contiguous_tensor_are_refused():
    model = nn.Linear(3, 2)
    model.weight = nn.Parameter(torch.zeros(3, 2).t())
    with pytest.raises(InputError, match="non-contiguous"):
        surgery.train_entries(model, "weight", torch.tensor([0]))
