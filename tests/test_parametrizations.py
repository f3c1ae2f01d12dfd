"""Values, gradients and draws of parametrizations, against NumPy in float64."""

import math

import numpy as np
import pytest
import torch
from support.models import bits, rng, sigmoid
from torch import Tensor

from jiant_sparse.sparse.gates import Gated, expected_open, hard_concrete
from jiant_sparse.sparse.parametrizations import Mixed, Noise, Schedule

STRETCHES = [(-1.5, 1.5), (-3.0, 3.0), (-0.1, 1.1), (-0.5, 2.0)]


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(values).to(dtype)


def mixed(pretrained: Tensor, q: float, mix: str = "elements", **options) -> Mixed:
    noise = options.get("noise") or Noise(rng)
    return Mixed(pretrained, options.get("name", "w"), noise, q, mix, options.get("kept"))


def drawn(edit: Mixed) -> np.ndarray:
    """The edit's b of this step, read off a tensor that is one above its pretrained value."""
    effective = edit(edit.pretrained + 1)
    return (effective != edit.pretrained).numpy()


@pytest.mark.parametrize("shape", [(6, 40), (3, 5, 40), (40,)])
@pytest.mark.parametrize("mix", ["rows", "elements"])
@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_mixed_weights_follow_the_papers_formula(shape, mix, q):
    pretrained, weight = normal(*shape, seed=1), normal(*shape, seed=2)
    edit = mixed(pretrained, q, mix)
    b = drawn(edit)
    u, w = pretrained.double().numpy(), weight.double().numpy()
    # Lee et al. 2020 as printed: reset, then move and scale so that the mean is W.
    expected = ((1 - b) * u + b * w - q * u) / (1 - q)
    np.testing.assert_allclose(edit(weight).numpy(), expected, rtol=1e-5, atol=1e-5)
    assert 0 < b.sum() < b.size
    rows = b.reshape(-1, shape[-1])
    shared = (rows == rows[0]).all()
    assert shared == (mix == "rows" or len(rows) == 1)


def test_mixing_is_one_draw_in_a_step_and_another_in_the_next():
    noise, before = Noise(rng), torch.get_rng_state()
    edit, other = (mixed(normal(8, 64, seed=1), 0.5, noise=noise, name=n) for n in ("a", "b"))
    first = drawn(edit)
    assert (first == drawn(edit)).all()
    assert (first != drawn(other)).any()
    noise.step = 2
    assert 0.3 < (first != drawn(edit)).mean() < 0.7
    noise.step = 1
    assert (first == drawn(edit)).all()
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the global generator"
    another_run = Noise(lambda name: torch.Generator().manual_seed(len(name) + 5))
    assert (first != drawn(mixed(normal(8, 64, seed=1), 0.5, noise=another_run, name="a"))).any()


@pytest.mark.parametrize(("mix", "steps"), [("elements", 10), ("rows", 200)])
@pytest.mark.parametrize("q", [0.3, 0.9, 0.995])
def test_the_share_of_present_weights_is_binomial(mix, steps, q):
    noise = Noise(rng)
    edit = mixed(torch.zeros(20, 500), q, mix, noise=noise)
    present = trials = 0
    for noise.step in range(1, steps + 1):
        b = drawn(edit)
        b = b[0] if mix == "rows" else b
        present, trials = present + b.sum(), trials + b.size
    assert trials == 100_000
    deviation = math.sqrt(trials * q * (1 - q))
    assert abs(present - trials * (1 - q)) < 4 * deviation


@pytest.mark.parametrize("mix", ["rows", "elements"])
def test_the_gradient_of_mixing_is_the_true_one(mix):
    q, double = 0.9, torch.float64
    edit = mixed(normal(4, 30, seed=1, dtype=double), q, mix)
    weight = normal(4, 30, seed=2, dtype=double).requires_grad_()
    assert torch.autograd.gradcheck(edit, (weight,))
    outer = normal(4, 30, seed=3, dtype=double)
    (edit(weight) * outer).sum().backward()
    np.testing.assert_allclose(weight.grad, outer.numpy() * drawn(edit) / (1 - q), rtol=1e-12)


@pytest.mark.parametrize("mix", ["rows", "elements", "none"])
def test_mixed_weights_are_evaluated_as_they_are_or_with_the_pretrained_bits(mix):
    pretrained = torch.tensor([[-0.0, 0.0, 1.5], [-0.0, 0.0, 0.1]])
    weight = torch.tensor([[0.0, -0.0, 7.0], [0.0, -0.0, 8.0]])
    assert torch.equal(bits(mixed(pretrained, 0.5, mix).eval()(weight)), bits(weight))
    if mix == "none":
        assert torch.equal(bits(mixed(pretrained, 0.5, mix)(weight)), bits(weight))
    edit = mixed(pretrained, 0.5, mix, kept=torch.tensor([0, 1, 5])).eval()
    expected = torch.tensor([[0.0, -0.0, 1.5], [-0.0, 0.0, 8.0]])
    for _ in range(2):
        assert torch.equal(bits(edit(weight)), bits(expected))
    assert edit.tuned == 3
    assert mixed(pretrained, 0.5, mix).tuned == 6


def test_the_pretrained_value_stays_when_the_weight_is_overwritten():
    weight = normal(3, 4, seed=1)
    before = weight.clone()
    edit = mixed(weight, 0.5, kept=torch.tensor([2])).eval()
    weight.add_(1)
    assert (edit(weight) != before).flatten().nonzero().tolist() == [[2]]


def gate(logit: np.ndarray, low: float, high: float, u: np.ndarray | None = None) -> np.ndarray:
    """Louizos et al. 2018, eq. 10 and 11, at temperature 1."""
    noise = 0.0 if u is None else np.log(u) - np.log(1 - u)
    return np.minimum(1, np.maximum(0, sigmoid(noise + logit) * (high - low) + low))


@pytest.mark.parametrize("stretch", STRETCHES)
def test_gates_follow_the_formula_and_reach_zero_and_one(stretch):
    logit, u = np.meshgrid(np.linspace(-9, 9, 37), [1e-4, 0.1, 0.5, 0.77, 1 - 1e-4])
    for uniform in (u, None):
        expected = gate(logit, *stretch, uniform)
        got = hard_concrete(
            torch.tensor(logit), stretch, None if uniform is None else torch.tensor(uniform)
        )
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)
        assert (got == 0).any() and (got == 1).any() and ((got > 0) & (got < 1)).any()


@pytest.mark.parametrize("stretch", STRETCHES)
def test_the_gradient_of_gates_is_right_on_both_sides_of_the_clamp(stretch):
    low, high = stretch
    random = np.random.default_rng(5)
    logit, u = random.uniform(-8, 8, 60), random.uniform(1e-4, 1 - 1e-4, 60)
    s = sigmoid(logit + np.log(u / (1 - u)))
    free = s * (high - low) + low
    away = np.minimum(np.abs(free), np.abs(free - 1)) > 1e-3
    logit, u, s, free = (values[away] for values in (logit, u, s, free))
    inside = (free > 0) & (free < 1)
    assert inside.any() and (free < 0).any() and (free > 1).any()
    leaf = torch.tensor(logit, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: hard_concrete(x, stretch, torch.tensor(u)), leaf)
    hard_concrete(leaf, stretch, torch.tensor(u)).sum().backward()
    np.testing.assert_allclose(leaf.grad, inside * s * (1 - s) * (high - low), rtol=1e-8)


@pytest.mark.parametrize("stretch", STRETCHES)
def test_the_expected_number_of_open_gates_is_their_share_among_draws(stretch):
    low, high = stretch
    logit = np.array([-4.0, -1.0, 0.0, 0.5, 3.0])
    got = expected_open(torch.tensor(logit), stretch).numpy()
    np.testing.assert_allclose(got, sigmoid(logit - math.log(-low / high)), rtol=1e-6)
    draws = 40_000
    u = np.random.default_rng(7).uniform(size=(draws, 1))
    share = (gate(logit, low, high, u) > 0).mean(0)
    assert (np.abs(share - got) < 4 * np.sqrt(got * (1 - got) / draws)).all()
    for group, more in ((None, 0.0), (0.5, got[3])):
        edit = gated(torch.zeros(5), stretch, group, logit=torch.tensor(logit))
        assert edit.expected_open().item() == pytest.approx(got.sum() + more, rel=1e-6)


def gated(dense: Tensor, stretch=(-1.5, 1.5), group: float | None = None, **options) -> Gated:
    """With random differences and logits, unless they are given."""
    logit = options.get("logit", 2 * normal(*dense.shape, seed=11))
    noise = options.get("noise") or Noise(rng)
    schedules = {key: options[key] for key in ("gates", "differences") if key in options}
    edit = Gated(dense, "w", noise, stretch, logit, group, **schedules)
    edit.difference.data.copy_(options.get("difference", normal(*dense.shape, seed=12)))
    return edit


def uniforms(noise: Noise, shape: tuple[int, ...]) -> tuple[np.ndarray, float]:
    """This step's draws for the gates of a tensor and for its own one.

    With stretch (0, 1) and logit 0 a gate equals its draw; with a huge logit it is 1.
    """
    zero, one, huge = torch.zeros(shape), torch.ones(shape), torch.full(shape, 50.0)
    options = {"stretch": (0.0, 1.0), "noise": noise, "difference": one}
    own = gated(zero, group=50.0, logit=zero, **options)(zero)
    (group,) = gated(zero, group=0.0, logit=huge, **options)(zero).unique().tolist()
    return own.detach().double().numpy(), group


@pytest.mark.parametrize("group", [None, 0.3, -0.4, 2.0])
@pytest.mark.parametrize("stretch", STRETCHES)
def test_gated_weights_are_pretrained_plus_gated_differences(group, stretch):
    noise, dense = Noise(rng), normal(7, 9, seed=3)
    edit = gated(dense, stretch, group, noise=noise)
    logit, difference = edit.logit.detach().numpy(), edit.difference.detach().numpy()
    for noise.step in (1, 2):
        u, group_u = uniforms(noise, (7, 9))
        draws = {"train": (u, group_u), "eval": (None, None)}
        for mode, (own, tensors) in draws.items():
            g = 1.0 if group is None else gate(np.float64(group), *stretch, tensors)
            expected = dense.double().numpy() + g * gate(logit, *stretch, own) * difference
            got = edit.train(mode == "train")(dense).detach().numpy()
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_gates_are_drawn_once_a_step_and_uniformly():
    noise = Noise(rng)
    (first, group), (again, _) = (uniforms(noise, (100, 200)) for _ in range(2))
    assert (first == again).all()
    assert 0.99e-4 < first.min() < 1e-3 and 0.99e-4 < 1 - first.max() < 1e-3
    shares = np.histogram(first, bins=10, range=(0, 1))[0] / first.size
    assert (np.abs(shares - 0.1) < 5 * math.sqrt(0.09 / first.size)).all()
    noise.step = 2
    second, next_group = uniforms(noise, (100, 200))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.04
    assert group != next_group


@pytest.mark.parametrize("group", [None, 0.2])
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_gated_weights_is_right(group, training):
    dense = normal(5, 6, seed=3, dtype=torch.float64)
    # A narrow stretch: the tensor's own gate is drawn open, but not all the way.
    edit = gated(dense, (-0.1, 1.1), group).double().train(training)
    names, leaves = zip(*edit.named_parameters(), strict=True)
    assert names == ("difference", "logit") + (() if group is None else ("group_logit",))

    def forward(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(edit, given, (dense,))

    assert torch.autograd.gradcheck(forward, leaves)
    forward(*leaves).sum().backward()
    assert all(leaf.grad.abs().sum() > 0 for leaf in leaves)


def test_closed_gates_and_zero_differences_keep_the_pretrained_bits():
    dense = torch.tensor([-0.0, 0.0, -0.0, 3.0])
    logit = torch.tensor([5.0, 5.0, -9.0, 5.0])
    difference = torch.tensor([0.0, -0.0, 2.0, 1.0])
    for group, last in ((None, 4.0), (5.0, 4.0), (-9.0, 3.0)):
        edit = gated(dense, group=group, logit=logit, difference=difference).eval()
        expected = torch.tensor([-0.0, 0.0, -0.0, last])
        assert torch.equal(bits(edit(dense)), bits(expected))


def test_gates_and_differences_have_a_schedule_each():
    gates, differences = Schedule(0.25), Schedule(steps=4)
    edit = gated(torch.zeros(2, 3), group=1.0, gates=gates, differences=differences)
    assert edit.schedule(edit.difference) is differences
    assert edit.schedule(edit.logit) is edit.schedule(edit.group_logit) is gates
    factors = [differences.factor(step, 0.125) for step in range(7)]
    assert factors == [1.0, 0.75, 0.5, 0.25, 0.125, 0.125, 0.125]
    assert {gates.factor(step, 0.125) for step in range(7)} == {1.0}
    edit = gated(torch.zeros(2, 3), group=1.0)
    assert {edit.schedule(parameter) for parameter in edit.parameters()} == {None}
