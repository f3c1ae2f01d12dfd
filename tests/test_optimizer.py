"""AdamW that moves single entries, against torch's on single weights, on masks, and on the whole.

Clipping likewise.
"""

import copy

import pytest
import torch
from support.models import bits
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from jiant_sparse.errors import InputError
from jiant_sparse.sparse.optimizer import SGD, AdamW, clip_grad_norm_, restrict, zero_others

SHAPES = {"matrix": (5, 7), "vector": (9,), "cube": (2, 3, 4)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = seeded(seed)
    return {
        name: nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in SHAPES.items()
    }


def groups(weights: dict[str, nn.Parameter]) -> list[dict]:
    matrix, *others = weights.values()
    return [
        {"params": [matrix], "weight_decay": 0.3},
        {"params": others, "weight_decay": 0.0, "lr": 0.05, "betas": (0.8, 0.95)},
    ]


def drawn(weight: torch.Tensor, generator: torch.Generator, share: float = 0.4) -> torch.Tensor:
    return (torch.rand(weight.numel(), generator=generator) < share).nonzero().view(-1)


def snapshot(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> list[torch.Tensor]:
    moments = [moment for moment in optimizer.state[weight].values() if moment is not None]
    return [tensor.detach().clone().view(-1) for tensor in (weight, *moments)]


# --- single entries


@pytest.mark.parametrize(
    ("kind", "plain", "options", "close"),
    [
        (AdamW, torch.optim.AdamW, {"eps": 1e-5}, {"rtol": 2e-6, "atol": 2e-7}),
        (SGD, torch.optim.SGD, {}, {"rtol": 1e-6, "atol": 1e-7}),
        (SGD, torch.optim.SGD, {"momentum": 0.9}, {"rtol": 1e-6, "atol": 1e-7}),
    ],
)
def test_each_entry_has_an_optimizer_of_its_own_and_all_others_stay(kind, plain, options, close):
    """Twelve steps under a schedule; every entry has a twin in torch's, a single weight."""
    weights, generator = parameters(), seeded(1)
    optimizer = kind(groups(weights), lr=0.02, **options)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    settings = {"lr", "weight_decay", "betas", "eps", "momentum"} & optimizer.defaults.keys()
    twins = {}
    for group in optimizer.param_groups:
        own = {key: group[key] for key in settings}
        for weight in group["params"]:
            singles = [nn.Parameter(value.clone()) for value in weight.detach().view(-1)]
            twins[weight] = [(single, plain([single], **own)) for single in singles]
    for _ in range(12):
        before, chosen = {}, {}
        rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        for weight in twins:
            weight.grad = torch.randn(weight.shape, generator=generator) * 1e-3
            gradient = weight.grad.view(-1).clone()
            before[weight] = snapshot(optimizer, weight)
            chosen[weight] = drawn(weight, generator)
            restrict(weight, chosen[weight])
            for at in chosen[weight].tolist():
                single, twin = twins[weight][at]
                single.grad, twin.param_groups[0]["lr"] = gradient[at].clone(), rates[weight]
                twin.step()
        optimizer.step()
        schedule.step()
        for weight, index in chosen.items():
            assert weight.grad.is_sparse and weight.grad._nnz() == len(index), "as it was"
            others = torch.ones(weight.numel(), dtype=torch.bool)
            others[index] = False
            for old, new in zip(before[weight], snapshot(optimizer, weight), strict=False):
                assert torch.equal(bits(old)[others], bits(new)[others])
            for at in index.tolist():
                single, twin = twins[weight][at]
                for key, value in twin.state[single].items():
                    found = optimizer.state[weight][key].view(-1)[at].to(value.dtype)
                    exact = {"rtol": 0, "atol": 0} if kind is AdamW else close
                    torch.testing.assert_close(found, value, **exact)
    for weight, pairs in twins.items():
        expected = torch.stack([single.detach() for single, _ in pairs])
        torch.testing.assert_close(weight.detach().view(-1), expected, **close)


def test_the_first_step_is_right_to_the_last_digits():
    """1 - 0.999 in float32 is off by 5e-5 of itself: corrections are those of float64."""
    weight = nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([1e-3, -1e-3, 5.0, 1e-6])
    restrict(weight, torch.arange(4))
    AdamW([weight], lr=1.0, eps=1e-12, weight_decay=0.1).step()
    expected = torch.tensor([-1.0, 1.0, -1.0, -1.0])
    torch.testing.assert_close(weight.detach(), expected, rtol=2e-6, atol=0)


def test_an_entry_that_is_named_with_a_gradient_of_zero_decays_and_keeps_its_momentum():
    weight = nn.Parameter(torch.ones(3))
    optimizer = AdamW([weight], lr=0.1, weight_decay=0.5)
    for gradient in (torch.ones(3), torch.zeros(3)):
        weight.grad = gradient
        restrict(weight, torch.tensor([1, 2]))
        old = weight.detach().clone()
        optimizer.step()
        assert weight[0] == 1 and bool((weight[1:] < 0.951 * old[1:]).all())
    weight.grad = torch.ones(3)
    restrict(weight, torch.empty(0, dtype=torch.int64))
    assert weight.grad is None
    old = bits(weight).clone()
    optimizer.step()
    assert torch.equal(bits(weight), old)


def test_sparse_and_whole_gradients_in_one_group():
    """The head beside the encoder: the one's entries are moved, the other is torch's."""
    weights, plain = parameters(), parameters()
    ours, theirs = AdamW(weights.values()), torch.optim.AdamW([plain["vector"]])
    for step in range(4):
        for name, weight in weights.items():
            weight.grad = torch.randn(weight.shape, generator=seeded(step))
            plain[name].grad = weight.grad.clone()
            if name != "vector":
                restrict(weight, torch.tensor([2]))
        ours.step()
        theirs.step()
    assert torch.equal(bits(weights["vector"]), bits(plain["vector"]))
    assert int((weights["matrix"] != plain["matrix"]).sum()) == 1
    assert ours.state[weights["vector"]]["step"].dim() == 0


# --- torch's own


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        ((AdamW, torch.optim.AdamW), {"amsgrad": True, "maximize": True}),
        ((SGD, torch.optim.SGD), {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_without_sparse_gradients_it_is_torchs_bit_for_bit(kinds, options):
    weights = [parameters(), parameters()]
    optimizers = [
        kind(groups(w), lr=0.02, **options) for kind, w in zip(kinds, weights, strict=True)
    ]
    schedules = [LambdaLR(o, lambda step: 1 / (1 + step)) for o in optimizers]
    for step in range(5):
        for optimizer, own, schedule in zip(optimizers, weights, schedules, strict=True):
            optimizer.zero_grad()
            loss = sum((w - 1).pow(4).sum() for n, w in own.items() if n != "cube" or step > 2)
            loss.backward()
            optimizer.step()
            schedule.step()
    for one, other in zip(*(w.values() for w in weights), strict=True):
        assert torch.equal(bits(one), bits(other))
        states = [o.state[w] for o, w in zip(optimizers, (one, other), strict=True)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("sparse", [True, False])
def test_a_closure_computes_the_gradients_and_its_loss_is_returned(sparse):
    weight = nn.Parameter(torch.ones(4))

    def closure():
        loss = weight.square().sum()
        loss.backward()
        if sparse:
            restrict(weight, torch.tensor([3]))
        return loss

    assert AdamW([weight], lr=0.1).step(closure).item() == 4.0
    assert (weight < 1).tolist() == [not sparse] * 3 + [True]


def test_the_state_goes_through_torchs_own_dictionaries():
    pair = [parameters(), parameters()]
    optimizers = [AdamW(groups(weights), lr=0.02) for weights in pair]
    for seed in range(6):
        if seed == 3:
            saved = copy.deepcopy(optimizers[1].state_dict())
            optimizers[1] = AdamW(groups(pair[1]), lr=0.5)
            optimizers[1].load_state_dict(saved)
        for weights, optimizer in zip(pair, optimizers, strict=True):
            generator = seeded(seed)
            for weight in weights.values():
                weight.grad = torch.randn(weight.shape, generator=generator)
                restrict(weight, drawn(weight, generator))
            optimizer.step()
            assert all(optimizer.state[w]["step"].dtype == torch.int32 for w in weights.values())
    assert all(torch.equal(bits(pair[0][name]), bits(pair[1][name])) for name in SHAPES)


# --- what is left of a gradient


@pytest.mark.parametrize("leave", [restrict, zero_others])
@pytest.mark.parametrize("index", [[], [3], [0, 4, 5, 12, 31, 35], [*range(36)]])
def test_the_entries_that_are_left_are_those_of_the_whole_gradient(leave, index):
    weight = nn.Parameter(torch.zeros(9, 4))
    weight.grad = torch.arange(1.0, 37).view(9, 4)
    expected = torch.zeros(36)
    expected[index] = weight.grad.view(-1)[index]
    leave(weight, torch.tensor(index, dtype=torch.int64))
    gradient = weight.grad
    if leave is restrict and not index:
        assert gradient is None
        return
    assert gradient.is_sparse == (leave is restrict)
    if gradient.is_sparse:
        assert gradient._nnz() == len(index) and gradient.is_coalesced()
        assert gradient.coalesce().indices().shape == (2, len(index))
    assert torch.equal(gradient.to_dense().view(-1), expected)


# --- clipping


@pytest.mark.parametrize("sparse", [(), ("matrix", "cube")])
@pytest.mark.parametrize("norm", [0.5, 1e3])
def test_clipping_is_torchs_of_the_entries_that_are_left_and_of_the_rest(norm, sparse):
    ours, theirs = parameters(), parameters()
    assert clip_grad_norm_(ours.values(), norm) == 0
    # A tensor that the loss does not reach has no gradient.
    for name in ("matrix", "vector", "cube") if sparse else ("matrix", "cube"):
        ours[name].grad = torch.randn(ours[name].shape, generator=seeded(3))
        theirs[name].grad = ours[name].grad.clone()
        if name in sparse:
            zero_others(theirs[name], torch.tensor([1, 4, 8]))
            restrict(ours[name], torch.tensor([1, 4, 8]))
    found = clip_grad_norm_(iter(ours.values()), norm)
    expected = nn.utils.clip_grad_norm_(theirs.values(), norm)
    same = {} if sparse else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(found, expected, **same)
    for name, weight in ours.items():
        if weight.grad is None:
            assert theirs[name].grad is None
        else:
            assert weight.grad.is_sparse == (name in sparse)
            torch.testing.assert_close(weight.grad.to_dense(), theirs[name].grad, **same)


# --- beside torch's own


def test_the_hooks_of_a_step_run_once_whatever_ran_before():
    weight = nn.Parameter(torch.ones(3))
    torch.optim.AdamW([weight])  # from now on torch's own step calls hooks
    optimizer, calls = AdamW([weight]), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    weight.grad = torch.ones(3)
    optimizer.step()
    assert calls == ["before", "after"]


def test_a_tensors_gradients_are_all_of_one_kind():
    message = "^a gradient is {}; those of a tensor must be of one kind$"
    for first, second, words in (
        (restrict, None, "whole after sparse ones"),
        (None, restrict, "sparse after whole ones"),
    ):
        weight, other = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
        optimizer = AdamW([other, weight])
        for leave in (first, second):
            other.grad, weight.grad = torch.ones(4), torch.ones(4)
            restrict(other, torch.tensor([1]))
            before = bits(other).clone()
            if leave is not None:
                leave(weight, torch.tensor([0, 2]))
            if leave is first:
                optimizer.step()
        with pytest.raises(InputError, match=message.format(words)):
            optimizer.step()
        assert torch.equal(bits(other), before)


@pytest.mark.parametrize(("drawn_at", "dense"), [(1, 6.0), (200, 13.8)])
def test_how_far_a_weight_moves_that_is_drawn_once(drawn_at, dense):
    """In units of the rate: the two readings of docs/methods.md."""
    moved = []
    for reading in (restrict, zero_others):
        weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = AdamW([weight], lr=1.0, eps=1e-12, weight_decay=0.0)
        for step in range(1, drawn_at + 400):
            weight.grad = torch.full_like(weight, 1e-3)
            # The other weight is drawn at all other steps.
            reading(weight, torch.tensor([0 if step == drawn_at else 1]))
            optimizer.step()
        moved.append(-weight[0].item())
    assert moved == pytest.approx([1.0, dense], abs=0.05)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (AdamW, {"amsgrad": True}, "amsgrad is true; it must be false for a sparse gradient"),
        (AdamW, {"maximize": True}, "maximize is true; it must be false for a sparse gradient"),
        (SGD, {"maximize": True}, "maximize is true; it must be false for a sparse gradient"),
        (SGD, {"momentum": 0.9, "nesterov": True}, "nesterov is true; it must be false for a spa"),
        (SGD, {"momentum": 0.9, "dampening": 0.1}, "dampening is set; it must be 0 for a sparse"),
        (AdamW, {}, "a gradient is sparse in its rows; it must be so in all dimensions"),
        (SGD, {}, "a gradient is sparse in its rows; it must be so in all dimensions"),
    ],
)
def test_what_has_no_meaning_by_entry_is_refused(kind, options, message):
    embedding = nn.Embedding(5, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    if options:
        embedding.weight.grad = torch.ones(5, 3)
        restrict(embedding.weight, torch.tensor([0]))
    before = embedding.weight.detach().clone()
    with pytest.raises(InputError, match=f"^{message}"):
        kind(embedding.parameters(), lr=0.1, **options).step()
    assert torch.equal(embedding.weight, before)
