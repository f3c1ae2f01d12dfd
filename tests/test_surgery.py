"""Edits of a module tree, against plain dense training."""

import pytest
import torch
from support.models import rng, state
from torch import nn

from jiant_sparse.errors import InputError
from jiant_sparse.sparse import surgery
from jiant_sparse.sparse.gates import Gated
from jiant_sparse.sparse.parametrizations import Mixed, Noise, Parametrization, Schedule

STRETCH = (-1.5, 1.5)


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


def rest(tensor: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The mask of all entries but those at `index`."""
    mask = torch.ones(tensor.numel(), dtype=torch.bool)
    mask[index] = False
    return mask.view(tensor.shape)


def inputs(seed: int) -> torch.Tensor:
    return torch.randint(0, 7, (8, 3), generator=torch.Generator().manual_seed(seed))


def test_an_empty_index_freezes():
    model = nn.Linear(3, 2)
    surgery.train_entries(model, "weight", torch.tensor([], dtype=torch.int64))
    assert not model.weight.requires_grad


VERBS = {
    "train_entries": surgery.train_entries,
    "narrow": lambda model, name, index: surgery.narrow(model, {name: index}),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("name", "index", "expected"),
    [
        ("wieght", [0], "wieght: the encoder has no such weight tensor"),
        ("a.weight", [0], "a.weight: the encoder has no such weight tensor"),
        ("weight", [1, 0], "weight: the index must be strictly increasing within [0, 6)"),
        ("weight", [0, 0], "weight: the index must be strictly increasing within [0, 6)"),
        ("weight", [-1], "weight: the index must be strictly increasing within [0, 6)"),
        ("weight", [6], "weight: the index must be strictly increasing within [0, 6)"),
        ("weight", [[0]], "weight: the index has dtype torch.int64 and shape (1, 1); it must be"),
        ("weight", [0.0], "weight: the index has dtype torch.float32 and shape (1,); it must be"),
        ("turned", [0], "turned: entries of a non-contiguous tensor cannot be trained"),
        ("edited", [0], "edited: this tensor has been given a parametrization already"),
        ("mixed", [0], "mixed: this tensor has been given a parametrization already"),
    ],
)
def test_bad_requests_are_named(verb, name, index, expected):
    model = nn.Linear(3, 2)
    for other, value in (("turned", torch.zeros(3, 2).t()), ("edited", torch.zeros(2))):
        model.register_parameter(other, nn.Parameter(value))
    model.mixed = nn.Parameter(torch.zeros(2))
    surgery.train_entries(model, "edited", torch.tensor([1]))
    surgery.edit(model, {"mixed": Mixed(model.mixed, "m", Noise(rng), 0.5, "elements", None)})
    with pytest.raises(InputError) as caught:
        VERBS[verb](model, name, torch.tensor(index))
    assert str(caught.value).startswith(expected)


# --- edit


class Doubled(Parametrization):
    """Twice the stored tensor, three times in evaluation; notes how often it was asked."""

    def __init__(self, weight: torch.Tensor, *, trains_original: bool) -> None:
        super().__init__(weight, 2)
        self.trains_original = trains_original
        self.shift = nn.Parameter(torch.zeros(()))
        self.calls = 0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return (2 if self.training else 3) * weight + self.shift


def gated(weight: torch.Tensor, name: str, **options) -> Gated:
    """Gates of all degrees of openness, and a difference everywhere."""
    settings = {"logit": torch.linspace(-3, 3, weight.numel()).view(weight.shape)}
    settings |= {"group_logit": 0.4} | options
    gates = Gated(weight, name, Noise(rng), STRETCH, **settings)
    generator = torch.Generator().manual_seed(4)
    gates.difference.data = torch.randn(weight.shape, generator=generator)
    return gates


@pytest.mark.parametrize("trains_original", [True, False])
def test_an_edit_is_what_the_forward_pass_sees_and_fold_leaves_it_as_evaluated(trains_original):
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(not trains_original)
    old = model.weight.detach().clone()
    doubled = Doubled(model.weight, trains_original=trains_original)
    with pytest.raises(InputError, match="^wieght: the encoder has no such weight tensor$"):
        surgery.edit(model, {"wieght": doubled})
    surgery.edit(model, {"weight": doubled})
    for again in (surgery.train_tensor, lambda m, name: surgery.edit(m, {name: doubled})):
        with pytest.raises(InputError, match="^weight: this tensor has been given a parametriz"):
            again(model, "weight")
    assert doubled.calls == 0, "a trial run would draw noise"
    assert torch.equal(model.weight, 2 * old)
    assert model.parametrizations.weight.original.requires_grad == trains_original
    assert doubled.shift.requires_grad
    model(torch.ones(1, 3)).sum().backward()
    assert doubled.shift.grad == 6
    surgery.fold(model)
    assert torch.equal(model.weight, 3 * old)
    assert type(model.weight) is nn.Parameter


# --- narrow


def test_a_narrowed_optimiser_trains_the_entries_and_what_was_not_narrowed():
    model = network()
    optimizer = torch.optim.AdamW(surgery.parameter_groups(model, 0.2))
    model(inputs(0)).sum().backward()
    optimizer.step()
    old = model[1].weight
    nothing = torch.tensor([], dtype=torch.int64)
    chosen = {"1.weight": torch.tensor([3, 8]), "3.bias": nothing, "3.weight": nothing}
    surgery.narrow(model, chosen, optimizer)
    values = model[1].parametrizations.weight[0].values
    decayed, plain = ([*group["params"]] for group in optimizer.param_groups)
    assert {*decayed} == {model[0].weight, values}
    assert {*plain} == {model[1].bias, model[2].weight, model[2].bias}
    assert {*optimizer.state} == {*decayed, *plain}
    assert {*decayed, *plain} == {p for p in model.parameters() if p.requires_grad}
    assert old.grad is None
    assert not model[3].weight.requires_grad
    assert optimizer.state[values]["exp_avg"].shape == (2,)


def test_narrowing_without_an_optimiser_keeps_the_present_values():
    model = network()
    before = state(model)
    surgery.narrow(model, pick(model))
    surgery.fold(model)
    assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in before.items())


@pytest.mark.parametrize("group_logit", [1.2, None])
def test_narrowing_gates_keeps_the_evaluated_values_of_the_chosen_alone(group_logit):
    model = nn.Linear(4, 3)
    start = model.weight.detach().clone()
    gates = gated(model.weight, "weight", group_logit=group_logit, gates=Schedule(0.5))
    surgery.edit(model, {"weight": gates})
    optimizer = torch.optim.AdamW(surgery.parameter_groups(model, 0.2))
    model.train()(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    evaluated = gates.eval()(start).detach()
    gates.train()
    index = torch.tensor([0, 5, 8, 11])
    assert evaluated.view(-1)[0] == start.view(-1)[0], "its gate is closed"
    assert evaluated.view(-1)[8] != start.view(-1)[8]
    surgery.narrow(model, {"weight": index}, optimizer, keep_moments=False)
    found, frozen = model.weight.detach(), rest(start, index)
    assert torch.equal(found.flatten()[index], evaluated.flatten()[index])
    assert torch.equal(found[frozen], start[frozen])
    values = model.parametrizations.weight[0].values
    assert {p for g in optimizer.param_groups for p in g["params"]} == {values, model.bias}
    assert {*optimizer.state} == {model.bias}
    (group,) = (g for g in optimizer.param_groups if any(p is values for p in g["params"]))
    assert group["weight_decay"] == 0.2
    assert "schedule" not in group


# --- count, groups, decay


def test_edits_count_with_what_they_tune_and_new_modules_with_what_trains():
    model = network()
    names = list(state(model))
    surgery.freeze(model)
    noise, kept = Noise(rng), torch.tensor([0, 4, 9])
    edits = {
        "0.weight": (Mixed(model[0].weight, "0.weight", noise, 0.5, "elements", kept), 3),
        "1.weight": (gated(model[1].weight, "1.weight"), 30),
        "1.bias": (Mixed(model[1].bias, "1.bias", noise, 0.5, "none", None), 5),
        "2.weight": (Doubled(model[2].weight, trains_original=False), 2),
    }
    tuned = 0
    for name, (edit, entries) in edits.items():
        surgery.edit(model, {name: edit})
        tuned += entries
        assert surgery.count(model, names) == (tuned, 0)
    surgery.train_entries(model, "3.weight", torch.tensor([1, 2]))
    surgery.train_tensor(model, "3.bias")
    assert surgery.count(model, names) == (tuned + 2 + 4, 0)
    model.extra = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2, bias=False))
    model.extra[1].requires_grad_(False)
    assert surgery.count(model, names) == (tuned + 2 + 4, 8)
    surgery.edit(model, {"extra.1.weight": Doubled(model.extra[1].weight, trains_original=False)})
    model.own = nn.Parameter(torch.zeros(7))
    assert surgery.count(model, [*names, "own"])[0] == tuned + 2 + 4 + 2 + 7


def test_decay_reaches_the_frozen_entries_of_matrices_and_nothing_else():
    model, before = network(), state(network())
    index = torch.tensor([0, 7, 29])
    surgery.freeze(model)
    surgery.train_entries(model, "1.weight", index)
    surgery.train_entries(model, "2.weight", torch.tensor([2]))
    surgery.train_tensor(model, "3.weight")
    for _ in range(2):
        surgery.decay_frozen(model, 0.5)
    expected = before | {"0.weight": before["0.weight"] / 4, "1.weight": before["1.weight"] / 4}
    expected["1.weight"].view(-1)[index] = before["1.weight"].view(-1)[index]
    assert torch.equal(model[1].weight, expected["1.weight"])
    surgery.fold(model)
    for name, tensor in expected.items():
        assert torch.equal(model.get_parameter(name), tensor), name


def test_parameters_of_a_constant_rate_do_not_decay_and_come_last():
    model = network()
    half, quarter, falling = Schedule(0.5), Schedule(0.25), Schedule(steps=7)
    for name, gates in (("1.weight", half), ("2.bias", half), ("3.weight", quarter)):
        weight = model.get_parameter(name)
        surgery.edit(model, {name: gated(weight, name, gates=gates)})
    four = gated(model.get_parameter("3.bias"), "3.bias", differences=falling)
    surgery.edit(model, {"3.bias": four})
    surgery.train_entries(model, "0.weight", torch.tensor([0, 5]))
    surgery.train_entries(model, "2.weight", torch.tensor([1]))
    matrix, vector = (model[i].parametrizations.weight[0].values for i in (0, 2))
    model[1].bias.requires_grad_(False)
    model.extra = nn.Linear(2, 3)
    one, two, three = (
        model[i].parametrizations[leaf][0]
        for i, leaf in ((1, "weight"), (2, "bias"), (3, "weight"))
    )
    groups = surgery.parameter_groups(model, 0.1)
    found = {(g["weight_decay"], g.get("lr"), g.get("schedule")): {*g["params"]} for g in groups}
    half, quarter, falling = (0.5, None), (0.25, None), (None, 7)
    gates = {four.logit, four.group_logit}
    assert found == {
        (0.1, None, None): {matrix, one.difference, three.difference, model.extra.weight},
        (0.0, None, None): {vector, two.difference, model.extra.bias, *gates},
        (0.0, 0.5, half): {one.logit, one.group_logit, two.logit, two.group_logit},
        (0.0, 0.25, quarter): {three.logit, three.group_logit},
        (0.0, None, falling): {four.difference},
    }
    assert [g.get("schedule") is None for g in groups] == [True, True, False, False, False]
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0, 0.0, 0.0, 0.0]
    assert sum(len(g["params"]) for g in groups) == len({p for g in groups for p in g["params"]})
    (group,) = surgery.parameter_groups(network(), 0.0)
    assert len(group["params"]) == len(state(network())), "without decay one group is enough"
