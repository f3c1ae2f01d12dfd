"""What an AdamW remembers after `forget` and `replace`, against one that trains the whole."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jiant_sparse.sparse import moments

RATE = 0.01
MOMENTS = ("exp_avg", "exp_avg_sq")

both_kinds = pytest.mark.parametrize("amsgrad", [False, True])


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))))


def step(optimizer: torch.optim.Optimizer, seed: int) -> None:
    """One step; every parameter's gradient is drawn, larger for lower seeds."""
    generator = torch.Generator().manual_seed(seed)
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad = torch.randn(p.shape, generator=generator) / (1 + seed)
    optimizer.step()


def trained(*, amsgrad: bool = False, steps: int = 3):
    """An optimiser of two groups, and its matrix, other matrix, vector and number."""
    parameters = parameter(4, 3), parameter(2, 3), parameter(5), parameter()
    matrix, other, vector, number = parameters
    optimizer = torch.optim.AdamW(
        [
            {"params": [matrix, other], "weight_decay": 0.1},
            {"params": [vector, number], "weight_decay": 0.0},
        ],
        lr=RATE,
        amsgrad=amsgrad,
    )
    for seed in range(steps):
        step(optimizer, seed)
    return optimizer, parameters


def memory(optimizer: torch.optim.Optimizer, p: Tensor) -> dict[str, np.ndarray]:
    """A copy of a parameter's state."""
    return {key: value.double().numpy().copy() for key, value in optimizer.state[p].items()}


def names(amsgrad: bool) -> tuple[str, ...]:
    return (*MOMENTS, "max_exp_avg_sq") if amsgrad else MOMENTS


def same(groups: list[list[Tensor]], optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimiser's groups hold these parameters and no others, in this order."""
    found = [list(map(id, group["params"])) for group in optimizer.param_groups]
    return found == [list(map(id, group)) for group in groups]


@both_kinds
@pytest.mark.parametrize(("which", "kept"), [(0, [0, 4, 11]), (3, [0]), (3, [])])
def test_forget_zeroes_the_momentum_of_all_but_the_kept_and_nothing_else(which, kept, amsgrad):
    """Of a matrix, and of a number, whose shape is that of the step count."""
    optimizer, parameters = trained(amsgrad=amsgrad)
    values = [p.detach().clone() for p in parameters]
    expected = [memory(optimizer, p) for p in parameters]
    moments.forget(optimizer, parameters[which], torch.tensor(kept, dtype=torch.int64))
    old = expected[which]["exp_avg"]
    expected[which]["exp_avg"] = np.zeros_like(old)
    expected[which]["exp_avg"].reshape(-1)[kept] = old.reshape(-1)[kept]
    for p, value, remembered in zip(parameters, values, expected, strict=True):
        assert torch.equal(p, value)
        found = memory(optimizer, p)
        assert found.keys() == remembered.keys() == {"step", *names(amsgrad)}
        assert found["step"] == 3
        assert all(np.array_equal(found[key], remembered[key]) for key in found)


def test_forget_takes_the_momentum_of_sgd():
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=RATE, momentum=0.9)
    step(optimizer, 0)
    old = optimizer.state[weight]["momentum_buffer"].clone()
    moments.forget(optimizer, weight, torch.tensor([2]))
    assert optimizer.state[weight]["momentum_buffer"].tolist() == [0, 0, old[2]]


def test_what_was_forgotten_goes_on_no_faster_than_what_was_kept():
    generator, weight = torch.Generator().manual_seed(3), nn.Parameter(torch.zeros(2, 2000))
    optimizer = torch.optim.AdamW([weight], lr=RATE, weight_decay=0.0)
    for number in range(600):
        weight.grad = 1 + 3 * torch.randn(weight.shape, generator=generator)
        optimizer.step()
        if number == 499:
            moments.forget(optimizer, weight, torch.arange(2000))
            start = weight.detach().clone()
    kept, forgotten = (weight.detach() - start).abs().mean(1)
    assert 0.7 * kept < forgotten < kept


@both_kinds
def test_a_replacement_goes_on_as_the_kept_entries_would_have(amsgrad):
    optimizer, (matrix, other, vector, number) = trained(amsgrad=amsgrad)
    kept = torch.tensor([1, 5, 6])
    old = memory(optimizer, matrix)
    new = nn.Parameter(matrix.detach().flatten()[kept])
    state = {name: optimizer.state[matrix][name] for name in names(amsgrad)}
    moments.replace(optimizer, [matrix], new, kept)
    assert same([[new, other], [vector, number]], optimizer)
    assert matrix not in optimizer.state
    twin, (whole, *_) = trained(amsgrad=amsgrad)
    for seed in (200, 201):
        step(optimizer, seed)
        whole.grad = torch.zeros(4, 3)
        whole.grad.view(-1)[kept] = new.grad
        twin.step()
    assert all(np.array_equal(state[name], old[name]) for name in state), "no memory is shared"
    torch.testing.assert_close(new.detach(), whole.detach().flatten()[kept], rtol=1e-6, atol=1e-7)
    assert memory(optimizer, new)["step"] == 5


def test_without_kept_a_replacement_begins_anew():
    optimizer, (matrix, other, vector, number) = trained()
    new = nn.Parameter(vector.detach()[[0, 3]])
    start = new.detach().clone()
    moments.replace(optimizer, [vector], new)
    assert same([[matrix, other], [new, number]], optimizer)
    assert set(optimizer.state) == {matrix, other, number}
    step(optimizer, 7)
    # The first step of Adam is the rate, whatever the gradient; this group has no decay.
    torch.testing.assert_close(new.detach(), start - RATE * new.grad.sign(), rtol=0, atol=1e-6)
    assert memory(optimizer, new)["step"] == 1
    assert memory(optimizer, matrix)["step"] == 4


def test_several_are_taken_out_of_all_groups_and_the_first_decides_where_the_new_one_goes():
    optimizer, (matrix, other, vector, number) = trained()
    new, kept = nn.Parameter(torch.zeros(2)), torch.tensor([0, 4])
    old = memory(optimizer, vector)
    moments.replace(optimizer, iter([vector, matrix, number]), new, kept)
    assert same([[other], [new]], optimizer)
    assert set(optimizer.state) == {other, new}
    for name in MOMENTS:
        assert np.array_equal(memory(optimizer, new)[name], old[name][[0, 4]])
    step(optimizer, 7)
    assert new.any()


def test_with_nothing_new_the_old_are_only_taken_out():
    optimizer, (matrix, other, vector, number) = trained()
    frozen = [p.detach().clone() for p in (matrix, other)]
    moments.replace(optimizer, [matrix, other], None, torch.tensor([], dtype=torch.int64))
    assert same([[], [vector, number]], optimizer)
    assert set(optimizer.state) == {vector, number}
    assert optimizer.param_groups[0]["weight_decay"] == 0.1
    step(optimizer, 7)
    assert all(map(torch.equal, frozen, (matrix, other)))
    assert memory(optimizer, vector)["step"] == 4


def test_a_parameter_that_has_not_stepped_has_no_moments_to_hand_over():
    optimizer, (matrix, other, vector, number) = trained(steps=0)
    moments.forget(optimizer, matrix, torch.tensor([1]))
    assert not optimizer.state
    new = nn.Parameter(matrix.detach().flatten()[[2, 3]])
    moments.replace(optimizer, [matrix], new, torch.tensor([2, 3]))
    assert same([[new, other], [vector, number]], optimizer)
    assert not optimizer.state
    step(optimizer, 7)
    assert memory(optimizer, new)["step"] == 1
